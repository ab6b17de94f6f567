"""Prometheus' configuration and rules: promtool takes them, each alert fires, does not, has its runbook."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.aids.stack_monitoring import (
    MONITORING,
    ROOT,
    RUNBOOKS,
    alerts,
    program,
    promtool_test,
    queries,
    selectors,
)
from tests.aids.stack_scrapes import FIXTURES, Exported, read_fixture

CASES: dict[str, Any] = yaml.safe_load((MONITORING / "tests" / "cases.yaml").read_text())
SEVERITIES = {"critical", "warning", "info", "none"}
# Set by Prometheus, and by those who say what is scraped: in targets and in scrape configurations.
TARGET_LABELS = {"job", "instance", "mode", "network"}
OWN = {"ALERTS", "up"}  # made by Prometheus of every job


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)


def exported() -> dict[str, list[Exported]]:
    found: dict[str, list[Exported]] = {}
    for file in FIXTURES.glob("*.txt"):
        for name, metric in read_fixture(file.stem).items():
            for each in _names(name, metric):
                found.setdefault(each, []).append(metric)
    return found


def _names(name: str, metric: Exported) -> list[str]:
    more = ("_bucket", "_sum", "_count") if metric.kind in ("histogram", "summary") else ()
    return [name, *(name + each for each in more)]


def test_promtool_takes_the_configuration_with_its_rules() -> None:
    done = run(program("promtool"), "check", "config", MONITORING / "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr  # a file of targets that is not there


@pytest.mark.slow
def test_each_alert_fires_and_does_not(tmp_path: Path) -> None:
    done = promtool_test(tmp_path, MONITORING / "rules", CASES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_case_that_is_wrong_is_seen(tmp_path: Path) -> None:
    """Guard of the test above: the series by which nothing fires, called those by which it does."""
    wrong = {"GethNoPeers": {"fires": CASES["GethNoPeers"]["silent"]}}
    assert promtool_test(tmp_path, MONITORING / "rules", wrong).returncode == 1


def test_each_alert_has_both_cases() -> None:
    assert set(CASES) == set(alerts())
    assert {name for name, kinds in CASES.items() if set(kinds) != {"fires", "silent"}} == {"Watchdog"}


@pytest.mark.parametrize("name", sorted(alerts()))
def test_each_alert_tells_what_to_do(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    base, _, anchor = rule["annotations"]["runbook_url"].partition("/alerts.md#")
    assert base == "{{ $externalLabels.runbooks }}"
    text = (ROOT / RUNBOOKS / "alerts.md").read_text()
    section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert anchor == name.lower()
    assert section, f"no section of {name}"
    assert all(f"\n- {each}: " in section[1] for each in ("What it means", "Look at", "Do"))
    assert f"`{rule['expr']}`" in section[1]


def test_runbooks_name_what_there_is() -> None:
    folder = ROOT / RUNBOOKS
    known = {file.name for file in folder.glob("*.md")}
    for file in folder.glob("*.md"):
        text = file.read_text()
        assert (
            set(re.findall(r"\b([a-z-]+\.md)\b(?!#)", text.replace("docs/onion-service.md", ""))) <= known
        ), file.name
        named = set(
            re.findall(r"\b(?:Geth|Prysm|Validator|Tor|Relay|AddressBook|Volume|HostDisk)[A-Z]\w+", text)
        )
        assert {each for each in named if each not in alerts()} <= NOT_ALERTS, file.name


NOT_ALERTS = {"VolumeSnapshot", "VolumeSnapshotClass"}


def test_every_metric_of_every_query_is_exported_by_the_program_it_names() -> None:
    recorded = {rule.removeprefix("rule ") for rule in queries() if ":" in rule and rule.startswith("rule ")}
    known, wrong = exported(), []
    for where, expression in queries().items():
        for each in selectors(expression):
            if each.metric in OWN | recorded:
                continue
            job = next((text for label, how, text in each.matchers if (label, how) == ("job", "=")), None)
            found = [_of_job(job, each.metric)] if job else known.get(each.metric, [])
            if not found or found == [None]:
                wrong.append(f"{where}: {each.metric} is exported by none{f' of {job}' if job else ''}")
                continue
            wrong += [f"{where}: {each.metric}: {fault}" for fault in _faults(each.matchers, found)]
    assert not wrong, "\n".join(wrong)


def _of_job(job: str, metric: str) -> Exported | None:
    found = read_fixture({"prysm-beacon": "prysm-beacon", "prysm-validator": "prysm-validator"}.get(job, job))
    return next((each for name, each in found.items() if metric in _names(name, each)), None)


def _faults(matchers: tuple[tuple[str, str, str], ...], found: list[Exported | None]) -> list[str]:
    labels: dict[str, set[str]] = {}
    for each in found:
        for label, values in (each.labels if each else {}).items():
            labels.setdefault(label, set()).update(values)
    if not labels:
        return []  # a family without series when it was recorded: its labels are unknown
    faults = []
    for label, how, text in matchers:
        if label in TARGET_LABELS and label not in labels:
            continue
        if label not in labels:
            faults.append(f"no label {label}")
        elif how == "=" and labels[label] and text not in labels[label] and "$" not in text:
            faults.append(f"{label} is never {text}")
        elif how == "=~" and labels[label] and "$" not in text:
            faults += [f"{label} is never {one}" for one in text.split("|") if one not in labels[label]]
    return faults


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ('geth_peer_count{job="geth"} < 3', "geth_peer_count is exported by none of geth"),
        ("beacon_head_slot{job='geth'}".replace("'", '"'), "beacon_head_slot is exported by none of geth"),
        ('p2p_peer_count{job="prysm-beacon", state="connected"}', "state is never connected"),
        ('peermon_peers{id="1"}', "no label id"),
    ],
)
def test_a_query_of_what_there_is_not_is_seen(
    expression: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.queries", lambda: {"here": expression})
    with pytest.raises(AssertionError, match=said):
        test_every_metric_of_every_query_is_exported_by_the_program_it_names()


def test_selectors_of_a_query() -> None:
    found = list(
        selectors(
            'sum by (a) (rate(x_total{b="c}",d=~"e|f"}[5m])) / on (g) group_left (h) y:z > 4e9 and vector(1)'
        )
    )
    assert [(each.metric, each.matchers) for each in found] == [
        ("x_total", (("b", "=", "c}"), ("d", "=~", "e|f"))),
        ("y:z", ()),
    ]


def test_amtool_takes_the_routes() -> None:
    file = MONITORING / "alertmanager.yaml"
    done = run(program("amtool"), "check-config", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("alertname=GethNoPeers severity=critical component=geth", "oncall"),
        ("alertname=GethPeerCountLow severity=warning component=geth", "team"),
        ("alertname=GethNoInbound severity=info component=geth", "nobody"),
        ("alertname=Watchdog severity=none", "heartbeat"),
        ("alertname=ValidatorTwice severity=critical component=prysm", "oncall"),
        ("alertname=TripwireBreach severity=critical component=pyrelay", "oncall,security"),
        ("alertname=SomethingNew", "team"),
    ],
)
def test_routes(labels: str, receivers: str) -> None:
    file = MONITORING / "alertmanager.yaml"
    done = run(program("amtool"), "config", "routes", "test", f"--config.file={file}", *labels.split())
    assert (done.returncode, done.stdout.strip()) == (0, receivers), done.stderr


def test_inhibition_names_alerts_that_are_there_and_never_the_worst() -> None:
    rules = yaml.safe_load((MONITORING / "alertmanager.yaml").read_text())["inhibit_rules"]
    assert rules
    silenced = set()
    for rule in rules:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, _, text = re.fullmatch(r'(\w+)(=~|=)"(.*)"', matcher).groups()  # type: ignore[union-attr]
            if label == "alertname":
                assert set(text.split("|")) <= set(alerts()), matcher
        silenced |= {each for matcher in rule["target_matchers"] for each in re.findall(r"\w+", matcher)}
    assert not silenced & {
        "ValidatorTwice",
        "TripwireBreach",
        "ClearnetPeerInOnlyOnion",
        "AddressBookConflict",
        "Watchdog",
    }


def test_what_can_wait_never_silences_what_calls() -> None:
    order = ("none", "info", "warning", "critical")
    for rule in yaml.safe_load((MONITORING / "alertmanager.yaml").read_text())["inhibit_rules"]:
        sources, targets = (
            [
                order.index(alerts()[name]["labels"]["severity"])
                for matcher in rule[f"{side}_matchers"] if matcher.startswith("alertname")
                for name in re.findall(r"\w+", matcher)[1:]
            ]
            for side in ("source", "target")
        )  # fmt: skip
        assert min(sources) >= max(targets), rule


def test_no_secret_stands_in_the_configuration() -> None:
    text = (MONITORING / "alertmanager.yaml").read_text()
    assert not re.findall(
        r"^\s*(?:routing_key|service_key|api_key|password|bearer_token|credentials): ", text, re.MULTILINE
    )
    assert json.dumps(yaml.safe_load(text)).count("_file") >= 3
