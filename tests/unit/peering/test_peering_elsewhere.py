"""Nodes that another identity of the process has are not dialed while it has them."""

from __future__ import annotations

from relay.primitives.errors import ConnectFailed
from tests.aids.dialing import Bench, Source, node_of
from tests.aids.peering import key_of


async def test_what_another_identity_has_is_dialed_once_it_has_it_no_more():
    bench = Bench()
    taken = {key_of(1).public_key, key_of(2).public_key}
    bench.scheduler._elsewhere = taken.__contains__
    bench.scheduler.add_static(node_of(1))
    bench.scheduler.add_source(Source([node_of(2), node_of(3)]))
    async with bench.running():
        assert bench.dialer.dialed() == [key_of(3).public_key]
        assert bench.scheduler.is_static(key_of(1).public_key)
        assert [bench.scheduler.is_dialing(key_of(number).public_key) for number in (1, 2, 3)] == [
            False, False, True,
        ]  # fmt: skip
        taken.clear()
        bench.scheduler.add_source(Source([node_of(2)]))
        await bench.after(1)
        assert set(bench.dialer.dialed()) == {key_of(number).public_key for number in (1, 2, 3)}


async def test_a_dial_that_has_ended_is_none():
    bench = Bench()
    bench.dialer.errors[key_of(1).public_key] = ConnectFailed("no")
    bench.scheduler.add_source(Source([node_of(1)]))
    async with bench.running():
        assert bench.dialer.dialed() == [key_of(1).public_key]
        assert not bench.scheduler.is_dialing(key_of(1).public_key)
