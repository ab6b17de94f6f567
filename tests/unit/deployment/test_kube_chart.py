"""The Helm chart gives the overlays' objects: by a reader of its few directives, by helm where it is."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.aids.manifests import OVERLAYS, Object, of_kind, parse, rendered

HELM: Final = Path(__file__).parents[3] / "deployment" / "helm"
CHART: Final = HELM / "pyrelay"
VALUES: Final[dict[str, Any]] = yaml.safe_load((CHART / "values.yaml").read_text())
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


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


def chart(overlay: str, **changed: object) -> list[Object]:
    values = {**VALUES, "overlay": overlay, **changed}
    files = sorted((CHART / "templates").glob("*.yaml"))
    return parse("\n---\n".join(render(each.read_text(), values) for each in files))


def ours(overlay: str) -> list[Object]:
    return [each for each in rendered(overlay) if each["kind"] != "Namespace"]


@overlays
def test_the_chart_gives_the_same_objects(overlay: str) -> None:
    assert chart(overlay) == ours(overlay)


@overlays
def test_templates_are_what_the_generator_makes(overlay: str) -> None:
    template = runpy.run_path(str(HELM / "make_templates.py"))["template"]
    assert (CHART / "templates" / f"{overlay}.yaml").read_text() == template(overlay), "run make_templates.py"


@overlays
def test_values_are_where_they_belong(overlay: str) -> None:
    servers = [{"cidr": "10.0.0.5/32", "port": 6443}, {"cidr": "10.96.0.1/32", "port": 443}]
    objects = chart(overlay, network="hoodi", replicas=7, image="r/p:2", torImage="r/t:3", apiServers=servers)
    (policy,) = [
        each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["name"] == "api-server"
    ]
    found = [
        (each["to"][0]["ipBlock"]["cidr"], each["ports"][0]["port"]) for each in policy["spec"]["egress"]
    ]
    assert found == [("10.0.0.5/32", 6443), ("10.96.0.1/32", 443)]
    for each in of_kind(objects, "StatefulSet"):
        spec = each["spec"]["template"]["spec"]
        for container in [*spec["initContainers"], *spec["containers"]]:
            assert container["image"] in ("r/p:2", "r/t:3")
            assert ("--network=hoodi" in container.get("args", [])) is (container["name"] == "pyrelay")
        if each["metadata"]["name"] == "gethrelay-only-onion":
            assert each["spec"]["replicas"] == 7


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlay": "x"},
        {"image": "pyrelay"},
        {"image": "pyrelay:latest"},
        {"replicas": -1},
        {"apiServers": []},
        {"apiServers": [{"cidr": "0.0.0.0/0", "port": 443}]},
        {"network": "main"},
        {"storage": "1"},
        {"more": 1},
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_wrong(wrong: dict[str, object]) -> None:
    schemas = pytest.importorskip("jsonschema")
    schema = json.loads((CHART / "values.schema.json").read_text())
    schemas.validate(VALUES, schema)
    digest = "registry.example:5000/pyrelay@sha256:" + "a" * 64
    schemas.validate({**VALUES, "image": digest, "torImage": "localhost:5000/tor:1.2"}, schema)
    with pytest.raises(schemas.ValidationError):
        schemas.validate({**VALUES, **wrong}, schema)


def test_chart_and_image_have_the_version_of_the_package() -> None:
    meta = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.*)"', (HELM.parents[1] / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert meta["version"] == meta["appVersion"] == version[1]
    assert VALUES["image"] == f"pyrelay:{version[1]}"


@pytest.mark.skipif(
    shutil.which("helm") is None, reason="no helm here: the chart is NOT rendered by helm itself"
)
@overlays
def test_helm_itself_gives_the_same_objects(overlay: str) -> None:
    command: list[str | Path] = [
        "helm",
        "template",
        "relays",
        CHART,
        "-n",
        "gethrelay",
        "--set",
        f"overlay={overlay}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    def key(each: Object) -> tuple[str, str]:
        return each["kind"], each["metadata"]["name"]

    assert sorted(parse(done.stdout), key=key) == sorted(ours(overlay), key=key)
