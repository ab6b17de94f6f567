"""What the discovery benchmark says of its figures, and how it drives a node."""

import sys

import pytest

from benchmarks import report
from benchmarks.discovery import OPERATIONS, Node, failed, rows

ECHO = """
import json, sys
for line in sys.stdin:
    command = json.loads(line)
    answer = {"error": "no"} if command["do"] == "fail" else {"ok": command["value"]}
    print(json.dumps({"id": command["id"], **answer}), flush=True)
"""


def verdicts(**figures):
    return {row["measure"].split(",")[0]: row["verdict"] for row in rows(figures)}


def test_a_target_against_another_implementation_is_of_the_same_run():
    assert verdicts(pyrelay={"ping": 300.0}, js={"ping": 100.0}) == {"PING round trips": "met"}
    assert verdicts(pyrelay={"ping": 299.0}, js={"ping": 100.0}) == {"PING round trips": "MISSED"}


def test_a_target_without_the_other_implementation_is_not_called_met():
    assert verdicts(pyrelay={"findnode": 9.0}, js={"findnode": 1.0}) == {
        "FINDNODE round trips": "not measured"
    }


@pytest.mark.parametrize(("size", "verdict"), [(1024.0, "met"), (1025.0, "MISSED")])
def test_memory_is_bounded_from_above(size, verdict):
    assert verdicts(pyrelay={"entry_bytes": size}) == {"memory of a table entry": verdict}


def test_requests_without_answer_are_told():
    raw = {"js": [{"ping": 1.0, "ping_failed": 2}, {"ping_failed": 1}], "rust": [{"ping_failed": 0}]}
    assert failed({"raw": raw}) == ["NOT ANSWERED: js: ping: 3"]
    assert failed({}) == []


def test_tables_have_a_column_for_each_head():
    figures = dict.fromkeys(("entry_bytes", *OPERATIONS), 1.0)
    found = {"rows": rows({"pyrelay": figures}), "across": [{"pair": "pyrelay", **figures}]}
    assert {len(each) for each in report.discovery_cells(found)} == {len(report.DISCOVERY_HEAD)}
    assert {len(each) for each in report.across_cells(found)} == {len(report.ACROSS_HEAD)}


def test_node_answers_and_its_errors_are_raised():
    with Node("js", (sys.executable, "-c", ECHO)) as node:
        assert node.ask("say", value=[1, "two"]) == [1, "two"]
        with pytest.raises(RuntimeError, match="@chainsafe/discv5: fail: no"):
            node.ask("fail")


def test_node_that_ended_is_named():
    with (
        Node("rust", (sys.executable, "-c", "")) as node,
        pytest.raises((RuntimeError, BrokenPipeError)),
    ):
        node.ask("ping")
