"""Lines that leave the cluster name nobody: the patterns of addresses.vrl, and what goes through them.

tests/interop/test_stack_vrl.py has Vector's own compiler run them.
"""

from __future__ import annotations

import re

import pytest
import yaml

from tests.aids.stack_logs import AROUND, LOGGING, PROGRAM, assert_nothing_is_left, pairs, spellings

STEP = re.compile(r"""^text = replace\(text, r'([^']+)', "([^"]+)"\)$""", re.MULTILINE)


STEPS = [(re.compile(pattern), word) for pattern, word in STEP.findall(PROGRAM.read_text())]


def mask(line: str) -> str:
    for pattern, word in STEPS:
        line = pattern.sub(word, line)
    return line


def test_every_step_is_tried_here() -> None:
    assert len(STEPS) == PROGRAM.read_text().count("replace(") >= 12


def test_what_is_left_of_a_line() -> None:
    for line, left in pairs().items():
        assert mask(line) == left


def test_some_lines_are_left_as_they_were() -> None:
    assert sum(line == left for line, left in pairs().items()) >= 3


@pytest.mark.parametrize("around", AROUND)
def test_no_spelling_of_an_address_is_left(around: str) -> None:
    for each in spellings(7):
        line = around.format(each)
        assert_nothing_is_left(line, mask(line), around)


def test_nothing_leaves_but_through_the_masking() -> None:
    config = yaml.safe_load((LOGGING / "vector.yaml").read_text())
    [transform] = config["transforms"].values()
    assert transform["inputs"] == list(config["sources"])
    assert (transform["drop_on_error"], transform["drop_on_abort"]) == (True, True)
    assert not transform.get("reroute_dropped")
    for sink in config["sinks"].values():
        assert sink["inputs"] == list(config["transforms"])
    assert transform["file"].rsplit("/", 1)[1] == PROGRAM.name


def test_what_is_read_is_mounted() -> None:
    [pods] = [
        each
        for each in yaml.safe_load_all((LOGGING / "vector-pods.yaml").read_text())
        if each["kind"] == "DaemonSet"
    ]
    [container] = pods["spec"]["template"]["spec"]["containers"]
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    config = yaml.safe_load((LOGGING / "vector.yaml").read_text())
    assert config["data_dir"] in mounts
    assert container["args"][1].startswith("/etc/vector/")
    assert mounts["/var/log"]["readOnly"] is True
    assert "${" not in PROGRAM.read_text(), "Vector would read it as a variable in its configuration"
