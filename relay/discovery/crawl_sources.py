"""What a crawl walks over: discv5 cores (over UDP, over onion streams), and discv4."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from relay.discovery.bootnodes import v4_contact
from relay.discovery.crawled import Found
from relay.discovery.crawler import Tell
from relay.discovery.driver import CoreDriver, NoAnswer
from relay.discovery.v4 import V4Driver
from relay.primitives.endpoint import Endpoint
from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeId
from relay.primitives.node import Node
from relay.protocols.discv4.contact import Contact as V4Contact
from relay.protocols.discv4.events import Event as V4Event
from relay.protocols.discv4.events import Proved, RecordReceived
from relay.protocols.discv5 import (
    Contact,
    Event,
    Failure,
    NodeSeen,
    NodeVerified,
    SessionEstablished,
    UdpNetwork,
)

__all__ = ["CoreSource", "V4Source"]

# From the farthest on: each step has half as many nodes. 0 is the node's own record, the newest there is.
# go-ethereum's table ends at 239 (p2p/discover/table.go): 2^17 nodes have nobody nearer.
ROUNDS: Final = (
    (0, 256), (255,), (254,), (253,), (252, 251), tuple(range(250, 238, -1)),
)  # fmt: skip
_ID_BYTES: Final = 32
V4_RECORD_SECONDS: Final = 2.0


class CoreSource:
    """A discv5 core.

    Args:
        name: v5 or onion.
        driver: started, or about to be.
        entry: bootnodes.
        rand: random bytes.
        budgeted: ask the core's budget before calling a stranger: where a call is a circuit.
    """

    def __init__(
        self,
        name: str,
        driver: CoreDriver,
        entry: Iterable[Contact],
        *,
        rand: Callable[[int], bytes],
        budgeted: bool = False,
    ) -> None:
        self._name, self._driver, self._rand, self._budgeted = name, driver, rand, budgeted
        self._entry = tuple(entry)
        self._contacts: dict[NodeId, Contact] = {}
        self._tell: Tell = lambda found: False

    @property
    def name(self) -> str:
        """What the nodes that answered it are marked with."""
        return self._name

    def listen(self, tell: Tell) -> None:
        """Have every node told of that comes up."""
        self._tell = tell
        self._driver.listen(self._event)
        for contact in self._entry:
            self._heard(contact)

    def offer(self, record: NodeRecord) -> bool:
        """Tell of a node known from elsewhere; returns whether it can be called here."""
        contact = self._driver.core.contact(record)
        self._heard(contact)
        return isinstance(contact.address, Endpoint)

    async def visit(self, node_id: NodeId) -> None:
        """Ask a node for its neighbours, distance by distance; raises NoAnswer."""
        contact = self._contacts.get(node_id)
        if contact is None:
            raise NoAnswer(Failure.UNREACHABLE)
        now = asyncio.get_running_loop().time()
        if self._budgeted and not self._driver.core.may_dial(contact, now):
            raise NoAnswer(Failure.OVER_BUDGET)
        for number, distances in enumerate(ROUNDS):
            try:
                told = await self._driver.findnode(contact, distances)
            except NoAnswer:
                if number == 0:
                    raise
                return  # it is there; the rest of its neighbours the next time
            for each in told:
                self._heard(each)

    async def walk(self) -> None:
        """Look a random id up; raises NoAnswer."""
        done = await self._driver.lookup(NodeId(self._rand(_ID_BYTES)))
        for contact in done.contacts:
            self._heard(contact)

    def _event(self, event: Event) -> None:
        match event:
            case NodeSeen(contact, _) | NodeVerified(contact) | SessionEstablished(contact, _):
                self._heard(contact)

    def _heard(self, contact: Contact) -> None:
        address, record = contact.address, contact.record
        if not isinstance(address, Endpoint) or record.node_id == self._driver.core.node_id:
            return
        known = self._contacts.get(record.node_id)
        if known is not None and (not contact.is_known or known.record.seq >= record.seq):
            return
        signed = record if contact.is_known else None
        # Before it is told of: a visit may follow at once. Without room it must not stay, either.
        self._contacts[record.node_id] = contact
        if not self._tell(Found(record.public_key, record.node_id, signed, address)) and known is None:
            del self._contacts[record.node_id]


class V4Source:
    """A discv4 core. It can't ask a node for all that it knows, so many look-ups of random targets do.

    Args:
        driver: started, or about to be.
        entry: bootnodes.
        abreast: look-ups at a time.
    """

    def __init__(self, driver: V4Driver, entry: Iterable[V4Contact] = (), *, abreast: int = 4) -> None:
        self._driver, self._abreast = driver, abreast
        self._network = UdpNetwork()
        self._entry = tuple(entry)
        self._contacts: dict[NodeId, V4Contact] = {}
        self._tell: Tell = lambda found: False

    @property
    def name(self) -> str:
        """What the nodes that answered it are marked with."""
        return "v4"

    def listen(self, tell: Tell) -> None:
        """Have every node told of that comes up."""
        self._tell = tell
        self._driver.listen(self._event)
        for contact in self._entry:
            self._heard(contact)

    def offer(self, record: NodeRecord) -> bool:
        """Tell of a node known from elsewhere; returns whether it can be called here."""
        endpoint = self._network.address_of(record)
        if not isinstance(endpoint, Endpoint):
            return False
        self._heard(v4_contact(Node.from_record(record), endpoint))
        return True

    async def visit(self, node_id: NodeId) -> None:
        """Ask a node for its record, or at least for a sign of life; raises NoAnswer."""
        contact = self._contacts.get(node_id)
        if contact is None:
            raise NoAnswer(Failure.UNREACHABLE)
        self._heard(await self._driver.ping(contact))
        # Without EIP-868 there is no record: the node is there all the same.
        with suppress(NoAnswer, TimeoutError):
            async with asyncio.timeout(V4_RECORD_SECONDS):
                record = await self._driver.request_record(contact)
                self._heard(replace(contact, record=record, tcp=record.tcp or contact.tcp))

    async def walk(self) -> None:
        """Look random targets up, a few at a time; raises NoAnswer."""
        async with asyncio.TaskGroup() as tasks:
            looked = [tasks.create_task(self._looked_up()) for _ in range(self._abreast)]
        if not any(task.result() for task in looked):
            raise NoAnswer(Failure.BUSY)

    async def _looked_up(self) -> bool:
        try:
            done = await self._driver.lookup()
        except NoAnswer:
            return False
        for contact in done.found:
            self._heard(contact)
        return True

    def _event(self, event: V4Event) -> None:
        match event:
            case Proved(contact) | RecordReceived(contact, _):
                self._heard(contact)

    def _heard(self, contact: V4Contact) -> None:
        known = self._contacts.get(contact.node_id)
        if known is not None and known.seq >= contact.seq:
            return
        self._contacts[contact.node_id] = contact
        found = Found(contact.public_key, contact.node_id, contact.record, contact.endpoint, contact.tcp)
        if not self._tell(found) and known is None:
            del self._contacts[contact.node_id]
