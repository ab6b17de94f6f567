"""The client of the provider DHT in the event loop: real timers, packets handed from driver to driver."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from relay.discovery.driver import CoreDriver
from relay.discovery.providers import ProviderClient
from relay.protocols.dht import DhtOptions, Ended, Providers, Waiting
from relay.protocols.discv5 import UDP, Discv5, UdpNetwork
from tests.aids.dht import key_of
from tests.aids.discv5 import node_key, udp_record
from tests.aids.until import until

OPTIONS = replace(UDP, response_timeout=0.3, connect_timeout=0.3, starved_interval=0.05)
KEY = key_of(1)


class Member:
    """A node with driver, layer and client."""

    def __init__(self, number: int, members: dict, dht: DhtOptions) -> None:
        loop = asyncio.get_running_loop()
        self.record = udp_record(number)
        self.core = Discv5(node_key(number), lambda: self.record, UdpNetwork(), OPTIONS, rand=os.urandom)
        self.address = self.core.contact(self.record).address
        self.dht = Providers(
            self.core,
            node_key(number),
            lambda: self.record,
            UdpNetwork(),
            dht,
            rand=os.urandom,
            unix=time.time,
        )
        self.members = members
        self.silent = False
        self.driver = CoreDriver(self.core, self.send, clock=loop, layers=(self.dht,))
        self.client = ProviderClient(self.driver, self.dht, clock=loop)
        members[self.address] = self

    def send(self, data: bytes, to) -> None:
        target = self.members.get(to)
        if target is not None and not target.silent:
            asyncio.get_running_loop().call_soon(lambda: target.driver.receive(data, self.address))

    @property
    def node_id(self) -> bytes:
        return self.core.node_id


@asynccontextmanager
async def network(count: int, *, joined: bool = True, **options) -> AsyncIterator[list[Member]]:
    by_address: dict = {}
    members = [Member(number, by_address, DhtOptions(**options)) for number in range(count)]
    for each in members:
        if each is not members[0] and joined:
            each.core.add_bootnode(members[0].record)
        each.driver.start()
    try:
        if joined:
            await until(lambda: all(len(each.core.table) == count - 1 for each in members), "full tables")
        yield members
    finally:
        for each in members:
            each.driver.stop()


async def all_of(finding) -> set[bytes]:
    return {record.node_id async for record in finding}


async def test_what_some_provide_others_find():
    async with network(6) as members:
        for each in members[:2]:
            provided = await each.client.provide(KEY)
            assert (provided.key, provided.stored, provided.asked, provided.refused) == (KEY, 5, 5, ())
        finding = members[4].client.find(KEY, [members[4].core.contact(members[3].record)])
        assert await all_of(finding) == {each.node_id for each in members[:2]}
        assert finding.done is not None
        assert (finding.done.found, finding.done.ended) == (2, Ended.ALL_ASKED)
        assert members[4].client.counts["found"] == 2
        # At its end it stays at its end.
        assert await all_of(finding) == set()


async def test_a_key_that_nobody_provides_ends_the_iteration():
    async with network(4) as members:
        finding = members[1].client.find(KEY)
        assert await all_of(finding) == set()
        assert finding.done.ended is Ended.ALL_ASKED


async def test_many_searches_at_one_time_and_more_than_that_end_as_busy():
    async with network(5, finds=20) as members:
        keys = [key_of(number) for number in range(20)]
        async with asyncio.TaskGroup() as tasks:
            for key in keys:
                tasks.create_task(members[0].client.provide(key))
        findings = [members[3].client.find(key) for key in keys]
        busy = members[3].client.find(KEY)
        assert await all_of(busy) == set()
        assert busy.done.ended is Ended.BUSY
        for each in findings:
            assert await all_of(each) == {members[0].node_id}


async def test_providing_waits_for_a_peer_and_says_so():
    async with network(2, joined=False, waiting=0.1) as members:
        told = []
        members[0].client.on_waiting(lambda key, reason: told.append((key, reason)))
        task = asyncio.ensure_future(members[0].client.provide(KEY))
        await until(lambda: told, "the word that it waits")
        assert told == [(KEY, Waiting.PEERS)]
        assert not task.done()
        members[1].core.add_bootnode(members[0].record)
        members[1].driver.wake()
        async with asyncio.timeout(10):
            assert (await task).stored == 1


async def test_every_round_is_told():
    async with network(3, republish=0.05) as members:
        rounds = []
        members[0].client.on_provided(rounds.append)
        await members[0].client.provide(KEY)
        await until(lambda: len(rounds) >= 3, "three rounds")
        members[0].client.stop_providing(KEY)
        assert members[0].dht.providing == 0
        assert not members[0].client.stop_providing(KEY)


async def test_a_cancelled_provide_leaves_the_key_provided_until_it_is_stopped():
    async with network(2, joined=False) as members:
        task = asyncio.ensure_future(members[0].client.provide(KEY))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert members[0].client._providing == {}
        assert members[0].dht.providing == 1
        assert members[0].client.stop_providing(KEY)


async def test_two_who_provide_the_same_key_both_hear_of_it():
    async with network(3) as members:
        client = members[0].client
        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(client.provide(KEY)) for _ in range(2)]
        assert [each.result().stored for each in both] == [2, 2]


async def test_an_iteration_that_is_cancelled_loses_nothing_and_may_go_on():
    async with network(4) as members:
        members[1].silent = members[2].silent = members[3].silent = True
        finding = members[0].client.find(KEY)
        task = asyncio.ensure_future(finding.next_found())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert members[0].dht.finding == 1
        assert await all_of(finding) == set()


async def test_leaving_a_search_ends_it():
    async with network(4) as members:
        members[1].silent = members[2].silent = members[3].silent = True
        async with members[0].client.find(KEY) as finding:
            assert members[0].dht.finding == 1
            waiting = asyncio.ensure_future(all_of(finding))
            await asyncio.sleep(0)
        assert await waiting == await all_of(finding) == set()
        assert members[0].dht.finding == 0
        assert finding.done is None
        assert members[0].client._findings == {}
        await finding.aclose()


async def test_a_search_that_is_dropped_ends_by_itself():
    async with network(4, find_timeout=0.2) as members:
        members[1].silent = members[2].silent = members[3].silent = True
        members[0].client.find(KEY)
        await until(lambda: not members[0].client._findings, "its end")
        assert sum(members[0].client.counts[each.value] for each in Ended) == 1
        assert members[0].dht.finding == 0


async def test_without_peers_a_search_ends_and_says_why():
    async with network(1, joined=False) as members:
        finding = members[0].client.find(KEY)
        async with asyncio.timeout(5):
            assert await all_of(finding) == set()
        assert finding.done.ended is Ended.NO_PEERS
