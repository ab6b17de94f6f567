"""The driver of discv4: its timer, and requests that are awaited."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from relay.discovery.driver import NoAnswer
from relay.discovery.v4 import V4Driver
from relay.primitives.endpoint import Endpoint
from relay.primitives.enr import NodeRecord
from relay.protocols.discv4.contact import Contact
from relay.protocols.discv4.core import Discv4
from relay.protocols.discv4.events import Event, LookupDone, Proved, RecordReceived, Refused
from relay.protocols.discv4.options import Options
from relay.protocols.discv5 import Failure
from tests.aids.discv4 import UNIX, contact_at, node_key, public_endpoint, record_at
from tests.aids.until import until

OPTIONS = Options(reply_timeout=0.2, starved_interval=0.1, fast_interval=0.05, slow_interval=0.1, quiet=0.0)


class V4Net:
    """Drivers by endpoint; a packet arrives in the next turn of the loop."""

    def __init__(self) -> None:
        self.drivers: dict[Endpoint, V4Driver] = {}
        self.records: dict[int, NodeRecord] = {}
        self.events: dict[int, list[Event]] = {}
        self.silent: set[Endpoint] = set()

    def add(self, number: int, *, options: Options = OPTIONS, knows: tuple[int, ...] = ()) -> V4Driver:
        loop = asyncio.get_running_loop()
        endpoint = public_endpoint(number)
        self.records[number] = record_at(node_key(number), endpoint)

        def send(data: bytes, to: Endpoint) -> None:
            target = self.drivers.get(to)
            if target is not None and to not in self.silent:
                loop.call_soon(target.receive, data, endpoint)

        core = Discv4(
            node_key(number),
            self.records[number],
            rand=os.urandom,
            unix=lambda: UNIX,
            bootnodes=[contact_at(each) for each in knows],
            options=options,
        )
        driver = V4Driver(core, lambda: self.records[number], send, clock=loop)
        self.events[number] = []
        driver.listen(self.events[number].append)
        self.drivers[endpoint] = driver
        return driver

    def said(self, number: int, kind: type) -> list[Event]:
        return [event for event in self.events[number] if isinstance(event, kind)]


@asynccontextmanager
async def v4_net() -> AsyncIterator[V4Net]:
    net = V4Net()
    yield net
    for driver in net.drivers.values():
        driver.stop()


@pytest.fixture
async def net() -> AsyncIterator[V4Net]:
    async with v4_net() as made, asyncio.timeout(10):
        yield made


def with_record(number: int) -> Contact:
    contact = Contact.from_record(record_at(node_key(number), public_endpoint(number)))
    assert contact is not None
    return contact


async def test_ping_proves_a_node(net: V4Net) -> None:
    one, _ = net.add(1), net.add(2)
    one.start()
    assert (await one.ping(contact_at(2))).public_key == node_key(2).public_key
    assert net.said(1, Proved)


async def test_silence_is_no_answer(net: V4Net) -> None:
    one = net.add(1)
    one.start()
    with pytest.raises(NoAnswer) as caught:
        await one.ping(contact_at(2))
    assert caught.value.failure is Failure.TIMEOUT


async def test_two_who_wait_for_one_ping_both_learn(net: V4Net) -> None:
    one, _ = net.add(1), net.add(2)
    one.start()
    both = await asyncio.gather(one.ping(contact_at(2)), one.ping(contact_at(2)))
    assert both[0] is both[1]


async def test_too_many_pings_are_refused_at_once(net: V4Net) -> None:
    one = net.add(1, options=replace(OPTIONS, max_pings=0))
    one.start()
    with pytest.raises(NoAnswer) as caught:
        await one.ping(contact_at(2))
    assert caught.value.failure is Failure.BUSY


async def test_record_is_given_even_if_it_is_no_news(net: V4Net) -> None:
    one, _ = net.add(1), net.add(2)
    one.start()
    assert await one.request_record(contact_at(2)) == net.records[2]
    assert len(net.said(1, RecordReceived)) == 1
    assert await one.request_record(with_record(2)) == net.records[2]
    assert len(net.said(1, RecordReceived)) == 1


async def test_no_record_is_no_answer(net: V4Net) -> None:
    one = net.add(1)
    one.start()
    with pytest.raises(NoAnswer):
        await one.request_record(contact_at(2))


async def test_changed_record_of_ours_is_shown(net: V4Net) -> None:
    one, two = net.add(1), net.add(2)
    one.start()
    two.start()
    net.records[2] = record_at(node_key(2), public_endpoint(2), seq=7)
    assert (await one.request_record(contact_at(2))).seq == 7


async def test_lookup_finds_who_is_known_to_others(net: V4Net) -> None:
    one, two, three = net.add(1, knows=(2,)), net.add(2), net.add(3)
    for driver in (one, two, three):
        driver.start()
    await three.ping(contact_at(2))
    await until(lambda: two.core.table.get(node_key(3).node_id), "2 knows 3")
    done = await one.lookup(node_key(3).public_key)
    assert isinstance(done, LookupDone)
    assert {each.public_key for each in done.found} >= {node_key(2).public_key}
    await until(lambda: one.core.table.get(node_key(2).node_id), "the table fills by itself")


async def test_too_many_lookups_are_refused(net: V4Net) -> None:
    one = net.add(1, options=replace(OPTIONS, max_lookups=0))
    with pytest.raises(NoAnswer) as caught:
        await one.lookup()
    assert caught.value.failure is Failure.BUSY


async def test_lookup_in_an_empty_table_ends(net: V4Net) -> None:
    one = net.add(1)
    one.start()
    assert (await one.lookup()).found == ()


async def test_seeds_of_an_earlier_run_are_tried(net: V4Net) -> None:
    one, _ = net.add(1), net.add(2)
    one.start([contact_at(2)])
    await until(lambda: net.said(1, Proved), "the seed answers")


async def test_bad_packets_are_told_and_nothing_else(net: V4Net) -> None:
    one = net.add(1)
    for data in (b"", bytes(98), os.urandom(1280), os.urandom(2000)):
        one.receive(data, public_endpoint(9))
    assert len(net.said(1, Refused)) == 4


async def test_stopping_cancels_what_waits_and_every_timer(net: V4Net) -> None:
    one = net.add(1)
    one.start()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(one.ping(contact_at(2)))
        await until(lambda: one.core.waiting, "the ping is out")
        one.stop()
    assert waiting.cancelled()
    asked = one.core.sent["Ping"]
    one.flush()
    await asyncio.sleep(0)
    assert one.core.sent["Ping"] == asked


async def test_cancelled_caller_leaves_nothing_behind(net: V4Net) -> None:
    one, _ = net.add(1), net.add(2)
    net.silent.add(public_endpoint(2))
    one.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await one.ping(contact_at(2))
    net.silent.clear()
    await until(lambda: one.core.waiting == 0, "the ping times out")
    assert await one.ping(contact_at(2))
