"""Chain data without a chain: what peers ask for is answered from a cache, or by asking other peers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from relay.primitives.errors import SubprotocolError
from relay.protocols.pyrelay.messages import ETH_FORM, Answer
from relay.protocols.pyrelay.messages import NAME as RELAY
from relay.protocols.pyrelay.messages import Ask as RelayAsk
from relay.relaying.chain_data import wire
from relay.relaying.chain_data.cache import ChainCache
from relay.relaying.chain_data.canonical import Canonical
from relay.relaying.chain_data.demand import HeaderQuery, Kind, Query
from relay.relaying.chain_data.fetch import Fetching
from relay.relaying.chain_data.own_query import OwnItems, OwnQuery
from relay.relaying.chain_data.requester import Requester
from relay.relaying.chain_data.serving import HeaderServing, ItemServing, Reply
from relay.relaying.chain_data.stock import Stock
from relay.relaying.chain_data.upstreams import Upstreams

if TYPE_CHECKING:
    from relay.chain.headers import Header
    from relay.relaying.blockrange import BlockRange
    from relay.relaying.chain_data.counters import ProxyCounters
    from relay.relaying.chain_data.options import ProxyOptions
    from relay.relaying.roster import RelayPeer
    from relay.relaying.seams import Loop

__all__ = ["ChainProxy"]


class ChainProxy:
    """Answers requests for chain data.

    Attributes:
        cache: what is held, by block hash.
        canonical: which block stands at which number.
        upstreams: whom we can ask.
        counters, options: its own.
    """

    def __init__(
        self,
        options: ProxyOptions,
        counters: ProxyCounters,
        loop: Loop,
        rand: Callable[[int], bytes],
        drop: Callable[[RelayPeer, str], None],
        genesis: bytes,
    ) -> None:
        """Make one that knows the hash of genesis and nothing else.

        Args:
            options: limits and deadlines.
            counters: what is counted.
            loop: clock and timers.
            rand: random bytes.
            drop: ends a peer that lied; the text says what about.
            genesis: hash of block 0.
        """
        self.options = options
        self.counters = counters
        self.cache = ChainCache(options.cache_bytes)
        self.canonical = Canonical(genesis, self.cache.headers, options.canonical_count)
        self.upstreams = Upstreams(self.canonical, options)
        self._loop = loop
        self._stock = Stock(self.cache, self.canonical)
        self._requesters: dict[RelayPeer, Requester] = {}
        self._fetching = Fetching(
            options, counters, loop, rand, self.cache, self.canonical, self.upstreams, drop
        )

    @property
    def waiting(self) -> int:
        """Requests of peers that are not answered yet."""
        return sum(map(len, self._requesters.values()))

    @property
    def under_way(self) -> int:
        """Things that are being fetched."""
        return self._fetching.jobs

    # -- peers -----------------------------------------------------------------------------------------

    def joined(self, peer: RelayPeer) -> None:
        """Take a peer, as one who asks and as one who can be asked."""
        self.upstreams.join(peer, self._loop.time())
        self._fetching.pump()

    def left(self, peer: RelayPeer) -> None:
        """Cancel what a peer asked for, and ask others what it was asked."""
        requester = self._requesters.pop(peer, None)
        if requester is not None:
            requester.leave()
        upstream = self.upstreams.leave(peer)
        if upstream is not None:
            self._fetching.lost(upstream)

    def learn(self, peer: RelayPeer, told: BlockRange) -> None:
        """Take what a peer says that it holds."""
        upstream = self.upstreams.get(peer)
        if upstream is not None:
            upstream.learn(told)

    def confirm(self, headers: Sequence[Header]) -> None:
        """Take the newest blocks of the chain, found right by whatever means; the last one is the head."""
        for header in headers:
            self.cache.headers.put(header.hash, header.raw)
        self.canonical.confirm(headers[-1])

    # -- messages --------------------------------------------------------------------------------------

    def request(self, peer: RelayPeer, code: int, payload: bytes) -> None:
        """Take a request; its answer is sent now or later, and only once.

        Raises:
            ProtocolBreach: it does not decode.
            SubprotocolError: the peer's version has no such request.
        """
        version = peer.version
        request_id, query = wire.decode_request(version, code, payload)

        def reply(items: Sequence[bytes]) -> None:
            peer.session.send(*_message(version, request_id, query, items))

        self._serve(peer, query, reply, 0, None)

    def response(self, peer: RelayPeer, code: int, payload: bytes) -> None:
        """Take an answer to a question of ours.

        Raises:
            ProtocolBreach: it does not decode.
            SubprotocolError: nobody asked for it.
        """
        self._respond(peer, peer.version, code, payload)

    def relayed(self, peer: RelayPeer, code: int, payload: bytes) -> None:
        """Take a message of the capability that relays have among them.

        Raises:
            ProtocolBreach: it does not decode.
            SubprotocolError: an unknown code, or an answer that nobody asked for.
        """
        if code == RelayAsk.CODE:
            self._relayed_request(peer, RelayAsk.decode(payload))
        elif code == Answer.CODE:
            answer = Answer.decode(payload)
            self._respond(peer, ETH_FORM, answer.code, answer.message)
        else:
            raise SubprotocolError(f"{RELAY} has no message {code:#04x}")

    # -- for our own use -------------------------------------------------------------------------------

    def headers(
        self,
        origin: bytes | int,
        amount: int,
        *,
        reverse: bool = False,
        skip: int = 0,
        among: Collection[RelayPeer] | None = None,
        done: Callable[[tuple[bytes, ...], RelayPeer | None], None],
    ) -> None:
        """Get headers, checked as for a peer that asks.

        Args:
            origin: hash or number of the first.
            amount: how many at most, up to 1024.
            reverse: towards genesis.
            skip: blocks left out between two.
            among: the only peers to ask. Then nothing comes from the cache, and an answer counts that is
                consistent in itself: who asks so wants to know what these peers say.
            done: called once, in a later turn of the event loop: with the headers and who gave them, or with
                nothing. Of headers from the cache nobody is the source.
        """
        query = HeaderQuery(origin, amount, skip, reverse).served()
        patience = self.options.header_patience if among is None else self.options.own_patience
        own = OwnQuery(self._loop, patience, done)
        if among is None:
            held, whole = self._stock.headers(query)
            if whole:
                own.headers_came(tuple(held), None)
                return
        own.begin(self._fetching.headers(query, own, None if among is None else tuple(among)))

    def bodies(self, hashes: Sequence[bytes], done: Callable[[Mapping[bytes, bytes]], None]) -> None:
        """Get bodies, checked as for a peer that asks.

        Args:
            hashes: of the blocks.
            done: called once, in a later turn of the event loop, with those that were found, by block hash.
        """
        self._own_items(Kind.BODIES, hashes, done)

    def receipts(self, hashes: Sequence[bytes], done: Callable[[Mapping[bytes, bytes]], None]) -> None:
        """Get receipts, in the form of eth/69; else as `bodies`."""
        self._own_items(Kind.RECEIPTS, hashes, done)

    def _own_items(
        self, kind: Kind, hashes: Sequence[bytes], done: Callable[[Mapping[bytes, bytes]], None]
    ) -> None:
        shelf = self.cache.by_kind[kind]
        held = {block_hash: shelf.peek(block_hash) for block_hash in hashes}
        missing = [block_hash for block_hash, item in held.items() if item is None]
        found = {block_hash: item for block_hash, item in held.items() if item is not None}
        if not missing:
            self._loop.call_soon(lambda: done(found))
            return
        own = OwnItems(
            self._loop, self.options.own_patience, set(missing), lambda came: done(found | dict(came))
        )
        self._fetching.items(kind, missing, own)

    # -- inside ----------------------------------------------------------------------------------------

    def _relayed_request(self, peer: RelayPeer, ask: RelayAsk) -> None:
        request_id, query = wire.decode_request(ETH_FORM, ask.code, ask.message)

        def reply(items: Sequence[bytes]) -> None:
            answer = Answer(*_message(ETH_FORM, request_id, query, items))
            peer.session.send_to(RELAY, Answer.CODE, answer.encode())

        self._serve(peer, query, reply, ask.hops, ask.patience / 1000)

    def _serve(
        self,
        peer: RelayPeer,
        query: Query,
        reply: Reply,
        hops: int,
        patience: float | None,
    ) -> None:
        """Answer from what is held, or have it fetched within patience (ours, where none is given)."""
        if isinstance(query, HeaderQuery):
            kind, own = Kind.HEADERS, self.options.header_patience
            held, whole = self._stock.headers(query)
        else:
            kind, own = query.kind, self.options.patience
            held, whole = self._stock.items(query)
        self.counters.requests[kind.value] += 1
        if whole:
            self.counters.from_cache += 1
            reply(held)
            return
        deadline = self._loop.time() + (own if patience is None else min(own, patience))
        common = (peer, self._fetching, self._stock, reply, deadline, hops)
        requester = self._requester(peer)
        if isinstance(query, HeaderQuery):
            requester.admit(HeaderServing(query, *common))
        else:
            requester.admit(ItemServing(query, *common))

    def _requester(self, peer: RelayPeer) -> Requester:
        requester = self._requesters.get(peer)
        if requester is None:
            requester = Requester(peer, self.options, self.counters, self._loop)
            self._requesters[peer] = requester
        return requester

    def _respond(self, peer: RelayPeer, version: int, code: int, payload: bytes) -> None:
        upstream = self.upstreams.get(peer)
        if upstream is None:  # it was dropped a moment ago
            return
        delivery = wire.decode_answer(version, code, payload)
        if version != upstream.version:
            raise SubprotocolError(f"{delivery.kind.value} that nobody asked for")
        self._fetching.answered(upstream, delivery, len(payload))


def _message(version: int, request_id: int, query: Query, items: Sequence[bytes]) -> tuple[int, bytes]:
    """Return code and payload of an answer in the form of a version."""
    if isinstance(query, HeaderQuery):
        return wire.answer(version, Kind.HEADERS, request_id, items)
    if query.kind is Kind.RECEIPTS:
        blocks, incomplete = wire.receipts_for(version, items, query.first_index)
        return wire.answer(version, Kind.RECEIPTS, request_id, blocks, incomplete=incomplete)
    return wire.answer(version, query.kind, request_id, wire.fitting(items))
