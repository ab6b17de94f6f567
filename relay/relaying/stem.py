"""Transactions on their stem: in no pool, told to nobody but the next relay, answered for to nobody.

Whoever asks for one of them, or announces it, is treated as by a relay that has never heard of it: it is
asked for, taken in and gossiped as anybody's. A relay that is sent a stem behaves alike whether it held the
transaction before or not, so a stem that is sent around does not find out whose it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from relay.chain.transaction_errors import SERVER_ERROR, TransactionUndecodable
from relay.chain.transactions import BLOB, InvalidTransaction, canonical, transaction_hash, wire
from relay.primitives.errors import SubprotocolError
from relay.protocols.pyrelay.messages import NAME as RELAY
from relay.protocols.pyrelay.stems import Stem
from relay.relaying.dandelion import StemOptions, StemRoutes
from relay.relaying.pool import PooledTx, Refusal

if TYPE_CHECKING:
    from relay.chain.transactions import Transaction
    from relay.relaying.admission import Admission
    from relay.relaying.counters import RelayCounters
    from relay.relaying.intake import Intake
    from relay.relaying.own import OwnTransactions
    from relay.relaying.pool import TxPool
    from relay.relaying.recent import RecentHashes
    from relay.relaying.roster import RelayPeer, Roster
    from relay.relaying.seams import Handle, Loop

__all__ = ["Stems"]

CARRIED: Final = 2048  # transactions of others on their stem, at most (our choice)


class _Held:
    __slots__ = ("edges", "entry", "source", "timer")

    def __init__(self, entry: PooledTx, source: RelayPeer | None) -> None:
        self.entry = entry
        self.source = source
        self.edges = {source}  # who brought it: our user is None
        self.timer: Handle | None = None


class Stems:
    """The transactions that are passed on before they are gossiped, each until gossip brings it.

    Attributes:
        letters: those of our own users, by hash; see `relay.relaying.pool.Awaited`.
        counters: its own.
    """

    __slots__ = (
        "_admission",
        "_brought",
        "_carried",
        "_intake",
        "_loop",
        "_options",
        "_own",
        "_pool",
        "_rand",
        "_recent",
        "_relay_counters",
        "_roster",
        "_routes",
        "counters",
        "letters",
    )

    def __init__(
        self,
        roster: Roster,
        pool: TxPool,
        recent: RecentHashes,
        admission: Admission,
        intake: Intake,
        own: OwnTransactions,
        options: StemOptions,
        counters: RelayCounters,
        loop: Loop,
        rand: Callable[[int], bytes],
    ) -> None:
        self._roster, self._pool, self._recent = roster, pool, recent
        self._admission, self._intake, self._own = admission, intake, own
        self._options, self._relay_counters, self._loop, self._rand = options, counters, loop, rand
        self._routes: StemRoutes[RelayPeer] = StemRoutes(options, rand)
        self._carried: dict[bytes, _Held] = {}
        self._brought: Counter[RelayPeer] = Counter()
        self.letters: dict[bytes, _Held] = {}
        self.counters = counters.stems
        if options.own:
            pool.awaited = own.private = self

    def __contains__(self, tx_hash: object) -> bool:
        return tx_hash in self.letters

    # -- our own users ---------------------------------------------------------------------------------

    def begin(self, tx: Transaction) -> bool:
        """Send a transaction of one of our own users on its stem; False if it has to go another way.

        Raises:
            InvalidTransaction: something else that pays as much has its nonce.
        """
        if not self._options.own or tx.type == BLOB or tx.size > self._options.bytes:
            return False
        way = self._routes.begin(self._candidates(), self._loop.time())
        if way is None or len(self.letters) >= self._options.own_count:
            return False
        entry = PooledTx(tx, wire(tx.raw), arrived=self._loop.time(), local=True)
        self._check_rivals(entry)
        self._recent.discard(entry.hash)  # when it comes back it has to be news
        self._own.remember(entry, private=True)
        self._own.moved_privately(entry.hash, 0, "on its stem")
        self.counters.begun += 1
        self._hold(_Held(entry, None))
        self._pass(way, [entry])
        return True

    def nonces(self, signer: bytes) -> frozenset[int]:
        """Return the nonces on their stem of a sender that is one of our users, by its public key."""
        entries = (held.entry for held in self.letters.values())
        return frozenset(entry.nonce for entry in entries if entry.signer == signer)

    def arrived(self, tx_hash: bytes) -> None:
        """A peer has brought one of our users', by gossip."""
        held = self.letters.get(tx_hash)
        if held is not None:
            self._release(held, "returned")
            self._own.echoed_privately(tx_hash)

    def spent(self, tx_hash: bytes) -> None:
        """A block has it."""
        held = self.letters.get(tx_hash)
        if held is not None:
            self._release(held, "returned")

    def _check_rivals(self, entry: PooledTx) -> None:
        letters = (held.entry for held in self.letters.values() if held.entry.signer == entry.signer)
        for rival in (*self._pool.of_signer(entry.signer), *letters):
            if rival.nonce == entry.nonce and not self._pool.outbids(entry, rival):
                refusal = Refusal.REPLACEMENT_UNDERPRICED
                raise InvalidTransaction(SERVER_ERROR, refusal.value, refusal.name.lower())

    # -- peers -----------------------------------------------------------------------------------------

    def message(self, peer: RelayPeer, payload: bytes) -> None:
        """Take a Stem.

        Raises:
            PeerError: it does not decode, or holds what can't be on a stem.
        """
        items = Stem.decode(payload).items
        if peer.allowance.spend(len(items), self._loop.time()) > 0.0:
            self.counters.ended["refused"] += len(items)  # whoever passed it on gossips it, some time
            return
        onward: dict[RelayPeer, list[PooledTx]] = defaultdict(list)
        for item in items:
            self._take(peer, item, onward)
        for way, entries in onward.items():
            self._pass(way, entries)

    def left(self, peer: RelayPeer) -> None:
        """Forget a peer. What it brought goes on; what it was to pass on is gossiped in the end."""
        self._brought.pop(peer, None)
        self._routes.forget(peer)

    def _take(self, peer: RelayPeer, item: bytes, onward: dict[RelayPeer, list[PooledTx]]) -> None:
        try:
            raw = canonical(item)
            tx_hash = transaction_hash(raw)
        except TransactionUndecodable as error:
            raise SubprotocolError(str(error)) from None
        known = self._pool.by_hash.get(tx_hash)
        if known is not None:
            known.known |= peer.bit
        held = self.letters.get(tx_hash) or self._carried.get(tx_hash)
        if held is None:
            if known is not None or tx_hash in self._recent:
                self.counters.ended["known"] += 1
                return
            held = self._admit(peer, item, raw, tx_hash)
            if held is None:
                return
            if self._brought[peer] >= self._options.per_peer or len(self._carried) >= CARRIED:
                self._gossip(held, "full")
                return
            self._hold(held)
        elif peer in held.edges:
            self._fluff(held, "loop")
            return
        held.edges.add(peer)
        way = self._routes.carry(peer, self._candidates(), self._loop.time())
        if way is None:
            self._fluff(held, "fluffed")
        else:
            self.counters.carried += 1
            onward[way].append(held.entry)

    def _admit(self, peer: RelayPeer, item: bytes, raw: bytes, tx_hash: bytes) -> _Held | None:
        """Check a transaction as if it had been gossiped; None if it is of no use."""
        if raw[0] == BLOB or len(raw) > self._options.bytes:
            raise SubprotocolError(f"a transaction of type {raw[0]} and {len(raw)} bytes takes no stem")
        try:
            tx = self._admission.admit(raw, tx_hash)
        except TransactionUndecodable as error:
            raise SubprotocolError(str(error)) from None
        except InvalidTransaction as error:
            self._relay_counters.dropped[error.why] += 1
            self._recent.add(tx_hash)
            return None
        entry = PooledTx(tx, item, peer.bit, self._loop.time())
        entry.source = peer.bit
        return _Held(entry, peer)

    # -- inside ----------------------------------------------------------------------------------------

    def _candidates(self) -> list[RelayPeer]:
        """Relays that we dialed: who comes in to us may be an attacker many times over."""
        return [peer for peer in self._roster if not peer.session.inbound and peer.session.speaks(RELAY)]

    def _pass(self, way: RelayPeer, entries: list[PooledTx]) -> None:
        if not way.session.writable:
            return  # the embargo sees to them
        padding = self._rand(int.from_bytes(self._rand(4), "big") % (self._options.padding + 1))
        message = Stem([entry.wire for entry in entries], padding)
        way.session.send_to(RELAY, Stem.CODE, message.encode())

    def _hold(self, held: _Held) -> None:
        if held.source is None:
            self.letters[held.entry.hash] = held
        else:
            self._carried[held.entry.hash] = held
            self._brought[held.source] += 1
        self.counters.held += 1
        held.timer = self._loop.call_later(self._routes.embargo(), lambda: self._embargo_over(held))

    def _embargo_over(self, held: _Held) -> None:
        held.timer = None
        tx_hash = held.entry.hash
        if tx_hash in self._pool or tx_hash in self._recent:
            self._release(held, "returned")
        else:
            self._fluff(held, "embargo")

    def _fluff(self, held: _Held, why: str) -> None:
        """Gossip it, after those of its sender that have to be mined before it."""
        entry = held.entry
        kept = (*self.letters.values(), *self._carried.values())
        group = [each for each in kept if each.entry.signer == entry.signer]
        for each in sorted(group, key=lambda one: one.entry.nonce):
            if each is held or each.entry.nonce < entry.nonce:
                self._release(each, why)
                self._gossip(each, "")

    def _release(self, held: _Held, why: str) -> None:
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        if held.source is None:
            del self.letters[held.entry.hash]
        else:
            del self._carried[held.entry.hash]
            self._forget_brought(held.source)
        self.counters.held -= 1
        self.counters.ended[why] += 1

    def _forget_brought(self, source: RelayPeer) -> None:
        if source in self._brought:
            self._brought[source] -= 1
            if not self._brought[source]:
                del self._brought[source]

    def _gossip(self, held: _Held, why: str) -> None:
        """Give it to all, as if it had just come in.

        Who brought it is told, too: it waits for gossip, and may hear of it from nobody but us; then it would
        wait for the end of its embargo. Bits are those of now: a peer that left has given its own back.
        """
        entry, source = held.entry, held.source
        tx_hash = entry.hash
        if why:
            self.counters.ended[why] += 1
        if tx_hash in self._pool or tx_hash in self._recent:
            return
        entry.known = 0
        entry.source = source.bit if source is not None and not source.gone else 0
        entry.arrived = self._loop.time()
        if source is None:
            self._own.moved_privately(tx_hash, 0, "gossiped")
        self._intake.put(entry, source)
