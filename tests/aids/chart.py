"""The Helm chart by a reader of the few directives that it has, so that it is tested without helm, too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import yaml

from tests.aids.manifests import Object, parse, rendered

HELM: Final = Path(__file__).parents[2] / "deployment" / "helm"
CHART: Final = HELM / "pyrelay"
VALUES: Final[dict[str, Any]] = yaml.safe_load((CHART / "values.yaml").read_text())


def chart(overlay: str, **changed: object) -> list[Object]:
    """Give the chart's objects with some values changed."""
    values = {**VALUES, "overlay": overlay, **changed}
    files = sorted((CHART / "templates").glob("*.yaml"))
    return parse("\n---\n".join(render(each.read_text(), values) for each in files))


def ours(overlay: str) -> list[Object]:
    """Give the overlay's objects but for the Namespace, which is Helm's."""
    return [each for each in rendered(overlay) if each["kind"] != "Namespace"]


def render(text: str, values: dict[str, Any], namespace: str = "gethrelay") -> str:
    """Do what Go's templates do, for if eq, if ne, range, end and values; `{{-` takes space away."""
    parts = re.split(r"(\s*\{\{- .*? \}\}|\{\{ .*? \}\})", text)
    found, rest = _block(parts, {"Values": values, "Release": {"Namespace": namespace}}, values)
    assert rest == []
    return found


def _block(parts: list[str], scope: dict[str, Any], dot: Any) -> tuple[str, list[str]]:
    out = []
    while parts:
        part, parts = parts[0], parts[1:]
        if "{{" not in part:
            out.append(part)
            continue
        words = part.strip().strip("{}-").split()
        if words == ["end"]:
            return "".join(out), parts
        if words[0] == "if":
            inner, parts = _block(parts, scope, dot)
            same = _value(words[2], scope, dot) == json.loads(words[3])
            out.append(inner if same is (words[1] == "eq") else "")
        elif words[0] == "range":
            items = _value(words[1], scope, dot)
            out += [_block(parts, scope, each)[0] for each in items]
            parts = _block(parts, scope, items[0])[1]
        else:
            value = _value(words[0], scope, dot)
            assert words[1:] in ([], ["|", "quote"])
            out.append(json.dumps(value) if words[1:] else str(value))
    return "".join(out), []


def _value(path: str, scope: dict[str, Any], dot: Any) -> Any:
    names = path.lstrip(".").split(".")
    value = scope if names[0] in scope else dot
    for each in names:
        value = value[each]
    return value
