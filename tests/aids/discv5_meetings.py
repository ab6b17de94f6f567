"""What two implementations of discv5 must do with each other on one machine, whoever the other one is."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from relay.discovery.driver import CoreDriver
from relay.discovery.udp import ClearnetDiscovery
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.keys import NodeId, NodeKey
from relay.primitives.node import Node
from relay.protocols.discv5 import Contact, Event, NodeVerified, SessionEstablished, TalkRequest
from relay.protocols.discv5.distance import log_distance
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.discv5_peers import Counterpart, PeerFailed, free_udp_port
from tests.aids.until import until

HOST = "127.0.0.1"
ECHO = b"echo"


class Ours:
    """Our discv5 on a UDP port of loopback, which answers TALKREQs of `echo`; may be entered again.

    Attributes:
        record: shown to others; exchange it at will.
        driver: of the core that runs now.
        events: what it said, growing.
    """

    driver: CoreDriver

    def __init__(self, bootnodes: Sequence[NodeRecord] = ()) -> None:
        self.key = NodeKey.generate(os.urandom)
        self.port = free_udp_port()
        self.record = build_record(self.key, 1, ip=HOST, udp=self.port)
        self.events: list[Event] = []
        self._bootnodes = [Node.from_record(each) for each in bootnodes]

    async def __aenter__(self) -> Self:
        self._discovery = ClearnetDiscovery(
            self.key,
            lambda: self.record,
            clock=asyncio.get_running_loop(),
            unix=time.time,
            rand=os.urandom,
            v4=False,
            v5=True,
            bootnodes=self._bootnodes,
        )
        await self._discovery.start(SocketFactory(SocketRules.anywhere()), HOST, self.port)
        assert self._discovery.v5 is not None
        self.driver = self._discovery.v5
        self.driver.core.register_talk(ECHO)
        self.driver.listen(self._heard)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._discovery.stop()

    def of(self, kind: type, node_id: bytes) -> list[Any]:
        """Events of a kind about a node."""
        return [each for each in self.events if isinstance(each, kind) and each.contact.node_id == node_id]

    def contact(self, record: NodeRecord) -> Contact:
        return self.driver.core.contact(record)

    def renew(self, **entries: object) -> None:
        """Show a changed record from now on."""
        self.record = build_record(self.key, self.record.seq + 1, ip=HOST, udp=self.port, **entries)

    async def until_live(self, node: NodeRecord) -> None:
        """Wait until a node has answered us and is told on."""
        entries = self.driver.core.table.entries
        await until(
            lambda: (entry := entries.get(node.node_id)) is not None and entry.live, "the node is live"
        )

    def _heard(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, TalkRequest):
            self.driver.core.respond_talk(event, event.payload)


class Meetings:
    """The tests; a test file makes a subclass that says with whom."""

    kind: ClassVar[str]

    @pytest.fixture
    def theirs(self, folder: Path) -> Counterpart:
        return self.another(folder)

    def another(self, folder: Path, *bootnodes: NodeRecord) -> Counterpart:
        return Counterpart(self.kind, NodeKey.generate(os.urandom), folder / f"{self.kind}.log", bootnodes)

    async def test_they_ask_us(self, theirs: Counterpart) -> None:
        async with Ours() as ours, theirs:
            assert await theirs.ping(ours.record) == ours.record.seq
            assert await theirs.talkreq(ours.record, "echo", b"hello") == b"hello"
            assert await theirs.talkreq(ours.record, "unknown", b"hello") == b""
            found = await theirs.findnode(ours.record, [0])
            assert [each.raw for each in found] == [ours.record.raw]
            sessions = ours.of(SessionEstablished, theirs.record.node_id)
            assert [each.incoming for each in sessions] == [True]
            assert not ours.driver.refused

    async def test_we_ask_them(self, theirs: Counterpart) -> None:
        async with Ours() as ours, theirs:
            them = ours.contact(theirs.record)
            pong = await ours.driver.ping(them)
            assert (pong.enr_seq, pong.ip, pong.port) == (theirs.record.seq, bytes([127, 0, 0, 1]), ours.port)
            payload = os.urandom(1000)
            assert await ours.driver.talkreq(them, ECHO, payload) == payload
            found = await ours.driver.findnode(them, (0,))
            assert [each.record.raw for each in found] == [theirs.record.raw]
            sessions = ours.of(SessionEstablished, theirs.record.node_id)
            assert [each.incoming for each in sessions] == [False]
            assert not ours.driver.refused

    async def test_they_find_a_third_node_through_us(self, theirs: Counterpart, folder: Path) -> None:
        async with Ours() as ours, self.another(folder) as third:
            await ours.driver.ping(ours.contact(third.record))
            ours.driver.add_node(third.record)
            await ours.until_live(third.record)
            seeker = self.another(folder, ours.record)
            async with seeker:
                distance = log_distance(ours.record.node_id, third.record.node_id)
                found = await seeker.findnode(ours.record, [distance])
                assert third.record.raw in [each.raw for each in found]
                found = await seeker.lookup(third.record.node_id)
                assert third.record.node_id in [each.node_id for each in found]

    async def test_we_find_a_third_node_through_them(self, theirs: Counterpart, folder: Path) -> None:
        async with theirs, self.another(folder, theirs.record) as third:
            await third.ping(theirs.record)  # so that they know it
            async with Ours([theirs.record]) as ours:
                distance = log_distance(theirs.record.node_id, third.record.node_id)
                found = await ours.driver.findnode(ours.contact(theirs.record), (distance,))
                assert third.record.raw in [each.record.raw for each in found]
                await ours.until_live(theirs.record)
                done = await ours.driver.lookup(third.record.node_id)
                assert done.contacts[0].record.raw == third.record.raw

    async def test_all_find_all_in_a_network_of_both(self, theirs: Counterpart, folder: Path) -> None:
        """Two of ours and one of theirs know the fourth only, and find the others by themselves."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(theirs)
            other = await stack.enter_async_context(self.another(folder, theirs.record))
            await other.ping(theirs.record)
            nodes = [await stack.enter_async_context(Ours([theirs.record])) for _ in range(2)]
            everyone = {each.record.node_id for each in (theirs, other, *nodes)}
            for node in nodes:
                # A lookup each second: those in JavaScript answer twenty questions a second.
                await until(lambda node=node: self._finds(node, everyone), "all are found", 60, every=1.0)
            found = await other.lookup(nodes[1].record.node_id)
            assert nodes[1].record.node_id in [each.node_id for each in found]

    async def test_they_restart_and_are_asked_again(self, theirs: Counterpart) -> None:
        async with Ours() as ours:
            async with theirs:
                them = ours.contact(theirs.record)
                await ours.driver.ping(them)
            async with theirs:  # the keys of our session are unknown to it
                assert await ours.driver.talkreq(them, ECHO, b"again") == b"again"
                assert len(ours.of(SessionEstablished, theirs.record.node_id)) == 2

    async def test_they_restart_and_ask_us(self, theirs: Counterpart) -> None:
        async with Ours() as ours:
            for _ in range(2):
                async with theirs:
                    assert await theirs.talkreq(ours.record, "echo", b"hello") == b"hello"
            assert len(ours.of(SessionEstablished, theirs.record.node_id)) == 2

    async def test_we_restart_and_are_asked_again(self, theirs: Counterpart) -> None:
        ours = Ours()
        async with theirs:
            for _ in range(2):
                async with ours:
                    assert await theirs.talkreq(ours.record, "echo", b"hello") == b"hello"
        assert len(ours.of(SessionEstablished, theirs.record.node_id)) == 2

    async def test_we_restart_and_ask_them(self, theirs: Counterpart) -> None:
        ours = Ours()
        async with theirs:
            for _ in range(2):
                async with ours:
                    assert await ours.driver.talkreq(ours.contact(theirs.record), ECHO, b"hello") == b"hello"
        assert len(ours.of(SessionEstablished, theirs.record.node_id)) == 2

    async def test_we_learn_their_changed_record(self, theirs: Counterpart) -> None:
        async with theirs, Ours([theirs.record]) as ours:
            await ours.until_live(theirs.record)
            before = theirs.record
            changed = await theirs.set("color", b"blue")
            assert changed.seq > before.seq
            entry = ours.driver.core.table.entries[before.node_id]
            assert (await ours.driver.ping(entry.contact)).enr_seq == changed.seq
            await until(lambda: entry.contact.record.raw == changed.raw, "the new record is in the table")
            assert entry.live
            assert ours.of(NodeVerified, before.node_id)[-1].contact.record.raw == changed.raw

    async def test_they_learn_our_changed_record(self, theirs: Counterpart) -> None:
        async with Ours() as ours, theirs:
            await ours.driver.ping(ours.contact(theirs.record))
            await theirs.ping(ours.record)
            await until(lambda: self._knows(theirs, ours.record), "they know our record")
            ours.renew(tcp=30303)
            await ours.driver.ping(ours.contact(theirs.record))
            await until(lambda: self._knows(theirs, ours.record), "they know our new record")

    async def test_a_request_to_nobody_fails(self, theirs: Counterpart) -> None:
        async with theirs:
            with pytest.raises(PeerFailed):
                await theirs.ping(Ours().record)

    async def _finds(self, node: Ours, everyone: set[NodeId]) -> bool:
        await node.driver.lookup(node.record.node_id)
        return everyone <= {node.record.node_id, *node.driver.core.table.entries}

    async def _knows(self, theirs: Counterpart, record: NodeRecord) -> bool:
        return record.raw in [each.raw for each in await theirs.table()]
