"""The driver of a discv5 core: timers, packets, requests that are awaited, layers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf

import pytest

from relay.discovery.driver import CoreDriver, NoAnswer
from relay.primitives.keys import NodeId
from relay.protocols.discv5 import (
    UDP,
    Discv5,
    Event,
    Failure,
    Reason,
    SessionEstablished,
    TalkRequest,
    UdpNetwork,
)
from tests.aids.discv5 import node_key, udp, udp_record
from tests.aids.until import until

OPTIONS = replace(UDP, response_timeout=0.2, connect_timeout=0.2)


class Echo:
    """A layer that answers requests of a protocol, and is due once."""

    def __init__(self, core: Discv5) -> None:
        self.core = core
        self.seen: list[Event] = []
        self.next_deadline = inf
        self.polled = asyncio.Event()
        core.register_talk(b"echo")

    def receive(self, event: Event, now: float) -> None:
        self.seen.append(event)
        if isinstance(event, TalkRequest):
            self.core.respond_talk(event, event.payload)

    def poll(self, now: float) -> None:
        if self.next_deadline <= now:
            self.next_deadline = inf
            self.polled.set()


class Pair:
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.lost = False
        self.records = [udp_record(number) for number in range(2)]
        self.cores = [
            Discv5(node_key(n), lambda n=n: self.records[n], UdpNetwork(), OPTIONS, rand=os.urandom)
            for n in range(2)
        ]
        self.echo = Echo(self.cores[1])
        self.drivers = [
            CoreDriver(self.cores[n], self.sender(n), clock=loop, layers=(self.echo,) if n else ())
            for n in range(2)
        ]
        self.addresses = [self.cores[0].contact(record).address for record in self.records]
        self.other = self.cores[0].contact(self.records[1])

    def sender(self, source: int):
        def send(data, to):
            target = next(
                (n for n, record in enumerate(self.records) if udp(record.ip, record.udp) == to), None
            )
            if target is not None and not self.lost:
                asyncio.get_running_loop().call_soon(
                    lambda: self.drivers[target].receive(
                        data, udp(self.records[source].ip, self.records[source].udp)
                    )
                )

        return send


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    for driver in made.drivers:
        driver.start()
    try:
        yield made
    finally:
        for driver in made.drivers:
            driver.stop()


async def test_requests_are_awaited() -> None:
    async with pair() as two:
        me = two.drivers[0]
        assert (await me.ping(two.other)).enr_seq == 1
        assert [contact.record for contact in await me.findnode(two.other, (0,))] == [two.records[1]]
        assert await me.talkreq(two.other, b"echo", b"hello") == b"hello"


async def test_a_lookup_ends_with_whom_it_met() -> None:
    async with pair() as two:
        two.drivers[0].core.add_bootnode(two.records[1])
        two.drivers[0].wake()
        await until(lambda: any(e.live for e in two.cores[0].table.entries.values()), "the bootnode answers")
        done = await two.drivers[0].lookup(NodeId(bytes(32)))
        assert [contact.record for contact in done.contacts] == [two.records[1]]


async def test_silence_is_no_answer_and_costs_nothing_for_ever() -> None:
    async with pair() as two:
        two.lost = True
        with pytest.raises(NoAnswer) as caught:
            await two.drivers[0].ping(two.other)
        assert caught.value.failure is Failure.TIMEOUT
        assert two.drivers[0].failed == {Failure.TIMEOUT: 1}
        two.lost = False
        await two.drivers[0].ping(two.other)


async def test_an_address_that_can_not_be_reached_fails_at_once() -> None:
    async with pair() as two:
        two.lost = True
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(_failure(two, two.drivers[0]))
            await asyncio.sleep(0)
            two.drivers[0].closed(two.other.address)
        assert asked.result() is Failure.UNREACHABLE


async def _failure(two: Pair, driver: CoreDriver) -> Failure:
    try:
        await driver.ping(two.other)
    except NoAnswer as error:
        return error.failure
    raise AssertionError("it was answered")


async def test_a_caller_that_is_cancelled_leaves_nothing_behind() -> None:
    async with pair() as two:
        two.lost = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await two.drivers[0].ping(two.other)
        assert two.drivers[0]._waiting == {}


async def test_listeners_and_layers_hear_of_every_event() -> None:
    async with pair() as two:
        heard: list[Event] = []
        two.drivers[1].listen(heard.append)
        await two.drivers[0].ping(two.other)
        assert [type(event) for event in heard][:1] == [SessionEstablished]
        assert heard == two.echo.seen


async def test_a_layer_is_polled_when_it_is_due() -> None:
    async with pair() as two:
        two.echo.next_deadline = asyncio.get_running_loop().time() + 0.01
        two.drivers[1].flush()
        async with asyncio.timeout(2):
            await two.echo.polled.wait()


async def test_refusals_are_told_and_counted() -> None:
    async with pair() as two:
        assert two.drivers[0].receive(bytes(100), udp("1.2.3.4")) is Reason.NOT_DISCV5
        assert two.drivers[0].refused == {Reason.NOT_DISCV5: 1}


async def test_no_timer_fires_after_the_end() -> None:
    async with pair() as two:
        two.drivers[0].stop()
        two.drivers[0].flush()
        assert two.drivers[0]._timer is None
