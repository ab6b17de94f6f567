"""Private broadcast in the daemon: who may be a receiver, the short connections, the journal.

Connections leave through Tor and no other way, in every mode: to onions, and where the mode allows exits, or
direct connections, through exits to IP addresses. There is no falling back.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from relay.app.outward import WaysOut
from relay.app.private_journal import PrivateJournal
from relay.app.sources import Sources
from relay.chain.forkid import ForkFilter, fork_id
from relay.chain.networks import ChainConfig
from relay.discovery.mix import on_fork
from relay.discovery.nodedb import NodeDatabase
from relay.peering.oneshot import DELIVERED, Parcel, ShortConnection, Terms
from relay.peering.peers import PeerSet
from relay.peering.scheduler import DialScheduler
from relay.primitives.endpoint import Network
from relay.primitives.errors import DialRefused, StorageError, TransportError, UselessPeer
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.protocols.eth.messages import Status
from relay.relaying.handler import EthRelay
from relay.relaying.private.courier import Addressee, Receipt
from relay.relaying.private.desk import PrivateDesk
from relay.relaying.private.letters import Letter
from relay.relaying.private.options import PrivateOptions
from relay.settings import Settings
from relay.transports.dialer import NodeDialer
from relay.transports.policy import DialPlan, Mode, Way

__all__ = ["Acquaintance", "PrivateSide", "ShortDeadlines", "private_side"]

FROM_DATABASE: Final = 64  # nodes of each network: a signature each, a sixth of a millisecond
DATABASE_SECONDS: Final = 60.0  # between two looks at it
JOURNAL_AGAIN: Final = 60.0  # seconds until a journal that could not be written is tried again
_ONION: Final = (Network.ONION,)
_ALL: Final = (Network.ONION, Network.IPV4, Network.IPV6)
log = structlog.get_logger("relay.app")


@dataclass(frozen=True, slots=True)
class ShortDeadlines:
    """Seconds that a short connection may take, once it stands.

    Attributes:
        exchange: from the first byte to the pong.
        asked: the same where the other side has to ask for the transaction first.
        linger: from the pong to our Disconnect: some drop what they have not looked into when a peer leaves.
        hang_up: from our Disconnect until we cut.
    """

    exchange: float = 40.0
    asked: float = 60.0
    linger: float = 1.0
    hang_up: float = 3.0


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """One identity's knowledge of peers.

    Attributes:
        peers: connected.
        scheduler: knows the static nodes.
        sources: the mix, the peers and nodes of before.
    """

    peers: PeerSet
    scheduler: DialScheduler
    sources: Sources


@dataclass(frozen=True, slots=True)
class _Reachable(Addressee):
    """An addressee, and the way there: it may be known no longer when its turn in a round comes.

    Attributes:
        plan: of the dial.
    """

    plan: DialPlan = field(kw_only=True)


class PrivateSide:
    """A `relay.relaying.private.courier.Courier`, and what keeps it going.

    Args:
        chain: ours.
        eth: the relay whose users' transactions go out this way from now on.
        dialer: dials through Tor for this purpose alone.
        known: where receivers are looked for.
        own_onions: our own addresses at this time.
        journal: where transactions outlive a restart; None for memory alone.
        options: of the broadcast.
        deadlines: of the connections.

    Attributes:
        desk: what RPC asks.
    """

    def __init__(
        self,
        chain: ChainConfig,
        eth: EthRelay,
        dialer: NodeDialer,
        known: Callable[[], Iterable[Acquaintance]],
        *,
        own_onions: Callable[[], Iterable[str]] = tuple,
        journal: PrivateJournal | None = None,
        options: PrivateOptions | None = None,
        deadlines: ShortDeadlines | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._dialer, self._known, self._own_onions = dialer, known, own_onions
        self._journal = journal
        self._deadlines = deadlines or ShortDeadlines()
        self._terms = _terms(chain)
        self._on_fork = on_fork(ForkFilter(chain), time.time)
        self._looked_up: dict[NodeDatabase, tuple[float, tuple[Node, ...]]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._changed = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None  # while what waits could not be written
        self.desk = PrivateDesk(eth, self, options or PrivateOptions(), self._loop, secrets.token_bytes)

    # -- life ------------------------------------------------------------------------------------------

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Be ready to send; with a journal, go on with what was not out at the last stop."""
        self._tasks = tasks
        if self._journal is None:
            return
        self._restore(self._journal)
        self.desk.broadcast.on_change = self._changed.set
        self._changed.set()
        tasks.create_task(self._keep(self._journal), name="private journal")

    def stop(self) -> None:
        """End all connections; what was not written yet is written now."""
        self.desk.broadcast.stop()
        if self._journal is not None and (self._changed.is_set() or self._again is not None):
            self._save(self._journal)
        self._save_later(None)

    def _restore(self, journal: PrivateJournal) -> None:
        kept = journal.load()
        now = time.time()
        taken = sum(self.desk.restore(each.raw, max(0.0, now - each.submitted)) for each in kept)
        if kept:
            log.info("private broadcast goes on with transactions of before", taken=taken, of=len(kept))

    async def _keep(self, journal: PrivateJournal) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._save(journal)

    def _save(self, journal: PrivateJournal) -> None:
        """Write it, here and now: who is told that a transaction is taken may rely on it."""
        try:
            journal.save(self.desk.broadcast.letters.values(), self._loop.time())
        except StorageError as error:
            log.warning("the journal of private broadcast is not written", cause=str(error))
            self._save_later(JOURNAL_AGAIN)
        else:
            self._save_later(None)

    def _save_later(self, seconds: float | None) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = None if seconds is None else self._loop.call_later(seconds, self._changed.set)

    # -- Courier ---------------------------------------------------------------------------------------

    def addressees(self) -> Sequence[Addressee]:
        """Return every node that Tor reaches, but ourselves."""
        found: dict[bytes, Addressee] = {}
        ours = frozenset(self._own_onions())
        groups = tuple(self._known())
        own_keys = {group.peers.public_key for group in groups}
        for group in groups:
            for node in self._nodes(group):
                key = node.public_key
                if key in own_keys or key in found or any(each.host in ours for each in node.endpoints):
                    continue
                plan = self._dialer.plan(node)
                if plan.targets:
                    is_peer = any(each.peers.get(key) is not None for each in groups)
                    onion = plan.targets[0].way is Way.TOR_ONION
                    found[key] = _Reachable(key, onion, is_peer, plan=plan)
        return tuple(found.values())

    def carry(self, to: Addressee, letter: Letter, done: Callable[[Receipt], None]) -> _Carrying:
        """See `Courier`."""
        assert self._tasks is not None, "begun before the first transaction"
        assert isinstance(to, _Reachable), "one of `addressees`"
        tx = letter.tx
        parcel = Parcel(tx.hash, tx.type, tx.size, letter.item, asked=letter.is_asked_for)
        carrying = self._carry(to.plan, parcel, done)
        return _Carrying(self._tasks.create_task(carrying, name="private broadcast"))

    def _nodes(self, group: Acquaintance) -> Iterator[Node]:
        """Walk over who is known: first where the address is sure, since the first of a key counts."""
        for session in group.peers.sessions():
            if not session.inbound and session.public_key is not None and session.endpoint is not None:
                yield Node(session.public_key, (session.endpoint,))
        yield from group.scheduler.static_nodes
        yield from group.sources.known.nodes
        for feed in group.sources.mix.feeds:
            yield from (node for node, _ in feed.waiting.values())
        yield from self._remembered(group.sources.database)

    def _remembered(self, database: NodeDatabase) -> Sequence[Node]:
        """Return nodes of our chain that have answered before, as of a minute ago at most."""
        now = self._loop.time()
        looked, nodes = self._looked_up.get(database, (-DATABASE_SECONDS, ()))
        if now - looked >= DATABASE_SECONDS:
            networks = _ONION if self._dialer.mode is Mode.ONLY_ONION else _ALL
            records = [
                record
                for network in networks
                for record in database.candidates(FROM_DATABASE, network, time.time())
            ]
            nodes = tuple(node for node in map(Node.from_record, records) if self._on_fork(node) is None)
            self._looked_up[database] = now, nodes
        return nodes

    # -- one connection --------------------------------------------------------------------------------

    async def _carry(self, plan: DialPlan, parcel: Parcel, done: Callable[[Receipt], None]) -> None:
        connections: list[ShortConnection] = []

        def connected() -> ShortConnection:
            key = NodeKey.generate(secrets.token_bytes)
            connections.append(
                ShortConnection(key, plan.public_key, parcel, self._terms, secrets.token_bytes)
            )
            return connections[-1]

        try:
            outcome = await self._exchange(plan, parcel, connected)
            done(Receipt(outcome == DELIVERED, outcome))
            if connections:
                await self._part(connections[-1], delivered=outcome == DELIVERED)
        finally:
            for connection in connections:
                connection.abort()

    async def _exchange(
        self, plan: DialPlan, parcel: Parcel, connected: Callable[[], ShortConnection]
    ) -> str:
        """Dial and hand over; returns DELIVERED or a cause."""
        deadlines = self._deadlines
        try:
            connection = (await self._dialer.dial_node(plan, connected)).protocol
        except DialRefused:
            return "refused"
        except TransportError:
            return "no connection"
        try:
            async with asyncio.timeout(deadlines.asked if parcel.asked else deadlines.exchange):
                return await connection.outcome
        except TimeoutError:
            return "timeout"

    async def _part(self, connection: ShortConnection, *, delivered: bool) -> None:
        if delivered:
            await asyncio.sleep(self._deadlines.linger)
        connection.goodbye()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._deadlines.hang_up):
                await connection.ended


def private_side(
    settings: Settings,
    chain: ChainConfig,
    eth: EthRelay,
    ways: WaysOut,
    known: Callable[[], Iterable[Acquaintance]],
    own_onions: Callable[[], Iterable[str]],
) -> PrivateSide | None:
    """Return the private broadcast that the settings ask for; None where they ask for none."""
    journal = PrivateJournal(settings.datadir)
    if settings.private_broadcast_journal == "off":
        journal.warn_of_rest()
    if not settings.broadcasts_privately:
        return None
    assert ways.private is not None, "it needs Tor, and settings know whether there is one"
    kept = None if settings.private_broadcast_journal == "off" else journal
    return PrivateSide(chain, eth, ways.private, known, own_onions=own_onions, journal=kept)


class _Carrying:
    """A `relay.relaying.seams.Handle` of a task."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        """End it."""
        self._task.cancel()


def _terms(chain: ChainConfig) -> Terms:
    forks = ForkFilter(chain)

    def status(version: int) -> Status:
        return Status(
            version=version,
            network_id=chain.network_id,
            genesis=chain.genesis_hash,
            fork_id=fork_id(chain, None, time.time()),
            latest_hash=chain.genesis_hash,
            head=chain.genesis_hash,
        )

    def check(status: Status) -> None:
        if (status.network_id, status.genesis) != (chain.network_id, chain.genesis_hash):
            raise UselessPeer("of another network")
        forks.check(status.fork_id, time.time())
        status.check()

    return Terms(status, check)
