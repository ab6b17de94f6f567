"""Reads what deployment/monitoring holds: rules, their cases, dashboards; and finds promtool and amtool."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

__all__ = [
    "DASHBOARDS",
    "MONITORING",
    "ROOT",
    "Selector",
    "alerts",
    "program",
    "promtool_test",
    "queries",
    "selectors",
]

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deployment" / "monitoring"
DASHBOARDS = MONITORING / "dashboards"
RUNBOOKS = "docs/runbooks"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrelay" / "prometheus" / "bin"

AGGREGATIONS = frozenset((
    "sum", "min", "max", "avg", "group", "count", "stddev", "stdvar", "topk", "bottomk", "quantile",
    "count_values",
))  # fmt: skip
WORDS = frozenset((
    "and", "or", "unless", "on", "ignoring", "group_left", "group_right", "by", "without", "bool", "offset",
    "inf", "nan", "start", "end", "atan2",
))  # fmt: skip
TOKEN = re.compile(
    r"""\s+ | "(?:[^"\\]|\\.)*" | [A-Za-z_:][A-Za-z0-9_:]* | [0-9][0-9a-z.]* | =~|!~|!=|[^\s]""", re.VERBOSE
)


def program(name: str) -> str:
    """Return where a program of Prometheus is; the test is skipped when nobody has fetched it."""
    found = shutil.which(name, path=f"{CACHE}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"{name} is not here: tools/install-prometheus.sh fetches it")
    return found


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric in a query, and what is asked of its labels: (label, operator, text)."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


def selectors(expression: str) -> Iterator[Selector]:
    """Yield the metrics of a query of PromQL. promtool has checked that it is one."""
    words = [each for each in TOKEN.findall(expression) if not each.isspace()]
    at = 0
    while at < len(words):
        word, after = words[at], words[at + 1] if at + 1 < len(words) else ""
        if word in ("by", "without", "on", "ignoring", "group_left", "group_right") and after == "(":
            at = words.index(")", at)
        elif word == "[":
            at = words.index("]", at)
        elif re.match(r"[A-Za-z_:]", word) and word not in WORDS and after != "(":
            if word in AGGREGATIONS and after in ("by", "without"):
                at += 1
                continue
            end = words.index("}", at) if after == "{" else at
            yield Selector(word, tuple(_matchers(words[at + 2 : end])))
            at = end
        at += 1


def _matchers(words: list[str]) -> Iterator[tuple[str, str, str]]:
    for start in range(0, len(words), 4):
        label, operator, text = words[start : start + 3]
        yield label, operator, text.strip('"')


def groups() -> Iterator[dict[str, Any]]:
    """Yield the groups of all rule files."""
    for file in sorted((MONITORING / "rules").glob("*.yaml")):
        yield from yaml.safe_load(file.read_text())["groups"]


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """Return alerts by name."""
    return {rule["alert"]: rule for group in groups() for rule in group["rules"] if "alert" in rule}


def queries() -> dict[str, str]:
    """Return every query by where it stands: rules, and panels of dashboards."""
    found = {}
    for group in groups():
        for rule in group["rules"]:
            found[f"rule {rule.get('alert') or rule['record']}"] = rule["expr"]
    for file in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for number, target in enumerate(panel.get("targets", ())):
                found[f"{file.name}: {panel['title']} {number}"] = target["expr"]
    return found


def promtool_test(folder: Path, rules: Path, cases: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run promtool on cases: each alert fires by the one series, and does not by the other."""
    tests = [
        {
            "name": f"{alert} {kind}",
            "interval": case.get("step", "1m"),
            "external_labels": {"runbooks": RUNBOOKS},
            "input_series": [_series(each) for each in case["series"]],
            "promql_expr_test": [{
                "expr": f'(count(ALERTS{{alertname="{alert}", alertstate="firing"}}) > bool 0) or vector(0)',
                "eval_time": case["at"],
                "exp_samples": [{"labels": "{}", "value": int(kind == "fires")}],
            }],
        }
        for alert, kinds in cases.items()
        for kind, case in kinds.items()
    ]  # fmt: skip
    files = []
    for rules_file in sorted(
        rules.glob("*.yaml")
    ):  # by themselves: all rules in each case would take a minute
        names = {
            rule.get("alert")
            for group in yaml.safe_load(rules_file.read_text())["groups"]
            for rule in group["rules"]
        }
        own = [each for each in tests if each["name"].split(" ")[0] in names]
        if own:
            files.append(folder / f"{rules_file.stem}-tests.yaml")
            read = [str(rules / "recording.yaml"), str(rules_file)]
            files[-1].write_text(json.dumps({"rule_files": read, "evaluation_interval": "1m", "tests": own}))
    return subprocess.run(
        [program("promtool"), "test", "rules", *map(str, files)], capture_output=True, text=True, check=False
    )


def _series(line: str) -> dict[str, str]:
    series, _, values = line.rpartition(": ")
    return {"series": series, "values": values}
