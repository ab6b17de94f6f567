"""What waits for clients: in order, bounded for each and for all, given back at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from relay.rpc.outbox import CutOff, Outbox, Total


class Wire:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.cuts = 0
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, messages: Sequence[bytes]) -> None:
        await self.open.wait()
        self.sent += messages

    def cut(self) -> None:
        self.cuts += 1


def outbox_of(wire: Wire, total: Total, counters: Counter[str], **more: float) -> Outbox:
    options = {"limit": 100, "seconds": 10.0, **more}
    return Outbox(
        wire.send, wire.cut, counters, total, limit=int(options["limit"]), seconds=options["seconds"]
    )


async def test_messages_are_sent_in_order_and_all_before_the_end():
    wire, total = Wire(), Total()
    outbox = outbox_of(wire, total, Counter())
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(outbox.run())
        for number in range(5):
            outbox.put(b"%d" % number)
            await asyncio.sleep(0)
        outbox.put(b"last")
        outbox.finish()
    assert wire.sent == [b"0", b"1", b"2", b"3", b"4", b"last"]
    assert total.held == 0


async def test_client_over_its_bound_is_cut_off_and_counted():
    wire, total, counters = Wire(), Total(), Counter()
    outbox = outbox_of(wire, total, counters)
    outbox.put(b"a" * 60)
    assert wire.cuts == 0
    outbox.put(b"a" * 60)
    outbox.put(b"a" * 60)
    assert (wire.cuts, counters["client cut off"]) == (1, 1)
    with pytest.raises(CutOff):
        await outbox.run()
    outbox.close()
    assert total.held == 0
    assert wire.sent == []


async def test_client_that_takes_the_last_room_of_all_is_cut_off():
    one, two, total, counters = Wire(), Wire(), Total(150), Counter()
    first, second = outbox_of(one, total, counters), outbox_of(two, total, counters)
    first.put(b"a" * 90)
    second.put(b"a" * 90)
    assert (one.cuts, two.cuts) == (0, 1)
    second.close()
    assert total.held == 90
    first.put(b"a")
    assert one.cuts == 0


async def test_client_that_takes_nothing_in_time_is_cut_off():
    wire, total, counters = Wire(), Total(), Counter()
    wire.open.clear()
    outbox = outbox_of(wire, total, counters, seconds=0.01)
    outbox.put(b"a")
    with pytest.raises(CutOff):
        async with asyncio.timeout(10):
            await outbox.run()
    assert (wire.cuts, counters["client cut off"]) == (1, 1)


async def test_reading_pauses_while_much_waits():
    wire, total = Wire(), Total()
    wire.open.clear()
    outbox = outbox_of(wire, total, Counter())
    await outbox.room()
    outbox.put(b"a" * 30)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(outbox.run())
        waiting = tasks.create_task(outbox.room())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        wire.open.set()
        await waiting
        outbox.finish()
