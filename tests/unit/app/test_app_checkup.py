from __future__ import annotations

import asyncio

import pytest

from relay.app.checks import CHECKS
from relay.app.checkup import Case, Check, Finding, State, broken, examine, fine, idle, told, worth_a_look
from relay.primitives.errors import ConnectFailed, LocalError, UsageError


def case() -> Case:
    return Case({}, lambda: 0.0, {})


async def results(*checks: Check) -> list[Finding]:
    return [finding async for finding in examine(case(), checks)]


def step(*findings: Finding):
    async def run(_: Case):
        return findings

    return run


def failing(error: Exception):
    async def run(_: Case):
        raise error

    return run


async def test_steps_are_taken_in_order_and_named():
    found = await results(
        Check("one", step(fine("a"), fine("b"))), Check("two", step(worth_a_look("c", "d")))
    )
    assert [(each.check, each.state.value, each.detail) for each in found] == [
        ("one", "ok", "a"),
        ("one", "ok", "b"),
        ("two", "warn", "c"),
    ]


async def test_a_step_that_needs_a_failed_one_names_the_first_cause():
    found = await results(
        Check("one", step(broken("no", "mend"))),
        Check("two", step(fine("")), ("one",)),
        Check("three", step(fine("")), ("two",)),
        Check("four", step(fine("yes"))),
    )
    assert [each.state for each in found] == [State.FAIL, State.SKIPPED, State.SKIPPED, State.OK]
    assert [each.detail for each in found[1:3]] == ["not looked at, since 'one' failed"] * 2


async def test_a_warning_or_a_step_without_matter_holds_nothing_back():
    found = await results(
        Check("one", step(worth_a_look("a", "b"), idle("c"))), Check("two", step(fine("")), ("one",))
    )
    assert found[-1].state is State.OK


async def test_a_step_that_hangs_fails_at_its_deadline():
    async def hang(_: Case):
        await asyncio.Event().wait()

    found = await results(Check("one", hang, seconds=0.01), Check("two", step(fine(""))))
    assert [each.state for each in found] == [State.FAIL, State.OK]
    assert "no result in 0.01 s" in found[0].detail


@pytest.mark.parametrize(
    ("error", "detail", "remedy"),
    [
        (
            LocalError("port taken; stop that one, or give another"),
            "port taken",
            "stop that one, or give another",
        ),
        (UsageError("--x needs Tor: add --y"), "--x needs Tor", "add --y"),
        (ConnectFailed("refused"), "refused", "mend what the message names"),
        (LocalError("a: b; c"), "a: b; c", "mend what the message names"),
    ],
)
async def test_an_error_becomes_a_failure_with_its_remedy(error, detail, remedy):
    found = await results(Check("one", failing(error)))
    assert [(each.state, each.detail, each.remedy) for each in found] == [(State.FAIL, detail, remedy)]


async def test_a_bug_is_not_taken_for_a_failure():
    with pytest.raises(ZeroDivisionError):
        await results(Check("one", failing(ZeroDivisionError())))


def test_a_remedy_stands_in_where_the_error_has_none():
    assert told(LocalError("bad"), "do this").remedy == "do this"


def test_each_step_comes_after_those_it_needs_and_has_a_deadline():
    seen: set[str] = set()
    for check in CHECKS:
        assert set(check.needs) <= seen
        assert 0 < check.seconds <= 60
        seen.add(check.name)
    assert [check.name for check in CHECKS][:3] == ["python", "settings", "data folder"]
