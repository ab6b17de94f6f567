"""A short connection: one transaction, handed over and confirmed, and then goodbye.

    RLPx -> Hello -> Status -> Transactions, Ping -> Pong -> Disconnect
                            -> NewPooledTransactionHashes (blobs: they are never pushed)
                               GetPooledTransactions -> PooledTransactions, Ping -> Pong -> Disconnect

Nothing that is sent differs between two connections of one relay, or of two relays, but keys and the
transaction: the same name, the same versions of eth, the block range of one who knows nothing but genesis.
Our own range would tell more: relays that hear of heads from different peers rarely have the same, so whoever
is a peer of ours as well could find it again here. What the other side asks beyond the transaction is not
answered.

A pong says that what was sent before it was read: devp2p's messages are taken in order, and geth hands each
to its protocol before it reads the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from relay.primitives.errors import DecodeError, HandshakeFailed, PeerError, UselessPeer
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.events import Connected, Disconnected, Event, Message, PongReceived
from relay.protocols.devp2p.messages import DisconnectReason, Hello, describe_reason
from relay.protocols.eth.messages import GetPooledTransactions, Status
from relay.protocols.eth.packing import encode_announcement, encode_pooled, encode_transactions
from relay.protocols.eth.versions import BY_VERSION, ETH68, ETH69, ETH70, ETH71, NAME, EthVersion

if TYPE_CHECKING:
    from relay.primitives.keys import NodeKey, PublicKey
    from relay.protocols.devp2p.capabilities import SharedCapability

__all__ = ["CLIENT", "DELIVERED", "Parcel", "ShortConnection", "Terms", "short_hello"]

CLIENT: Final = "pyrelay"
"""The name on every short connection: without a version, so that it is the same for all relays."""
DELIVERED: Final = ""
_VERSIONS: Final = (ETH68, ETH69, ETH70, ETH71)
"""Whatever the relay offers elsewhere. Not eth/72: there blobs travel apart from their transaction."""
_STATUS: Final = 0x00
_TRANSACTIONS: Final = 0x02
_ANNOUNCEMENT: Final = 0x08
_GET: Final = 0x09
_POOLED: Final = 0x0A


@dataclass(frozen=True, slots=True)
class Parcel:
    """The transaction.

    Attributes:
        hash: of it.
        type: EIP-2718.
        size: of its canonical bytes.
        item: as it stands in a message of eth/68 to eth/71.
        asked: it is announced, and handed over when the other side asks for it: blobs are never pushed.
    """

    hash: bytes
    type: int
    size: int
    item: bytes
    asked: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What we say of the chain, and hold against what the other side says.

    Attributes:
        status: our Status for a version of eth.
        check: judges the other side's; raises PeerError.
    """

    status: Callable[[int], Status]
    check: Callable[[Status], None]


def short_hello(key: NodeKey) -> Hello:
    """Return the Hello of a short connection; only the key makes two of them differ."""
    return Hello(5, CLIENT, tuple(each.capability for each in _VERSIONS), 0, key.public_key)


class ShortConnection(asyncio.Protocol):
    """The dialing side of one. Owned by whoever dialed, who sees to deadlines and closes it.

    Args:
        key: made for this connection alone.
        public_key: who must answer.
        parcel: what to hand over.
        terms: of the chain.
        rand: random bytes.

    Attributes:
        outcome: done with DELIVERED once the pong came, else with the cause in a few words.
        ended: done when the transport is gone.
    """

    def __init__(
        self,
        key: NodeKey,
        public_key: PublicKey,
        parcel: Parcel,
        terms: Terms,
        rand: Callable[[int], bytes],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[str] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._key, self._public_key = key, public_key
        self._parcel, self._terms, self._rand = parcel, terms, rand
        self._connection: DevP2PConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._eth: SharedCapability | None = None
        self._offered = self._handed_over = False

    # -- transport callbacks ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the RLPx handshake."""
        self._transport = cast(asyncio.Transport, transport)
        try:
            self._connection = DevP2PConnection.initiator(
                self._key, self._public_key, short_hello(self._key), self._rand
            )
        except DecodeError:
            self._decide("no key")
            self._transport.abort()
            return
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._connection is None:
            return
        try:
            for event in self._connection.receive(data):
                self._take(event)
        except PeerError as error:
            self._connection.disconnect(error.reason)
            self._decide(
                "bad handshake" if isinstance(error, HandshakeFailed) else describe_reason(error.reason)
            )
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self._decide("connection lost")
        if not self.ended.done():
            self.ended.set_result(None)

    # -- for whoever dialed ----------------------------------------------------------------------------

    def goodbye(self) -> None:
        """Disconnect, and let the other side read it."""
        transport, connection = self._transport, self._connection
        if transport is None or connection is None or transport.is_closing():
            return
        connection.disconnect(DisconnectReason.REQUESTED)
        self._flush()
        if transport.can_write_eof():
            transport.write_eof()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    # -- inside ----------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if isinstance(event, Connected):
            self._eth = next((each for each in event.shared if each.name == NAME), None)
            if self._eth is None:
                raise UselessPeer("no version of eth is shared")
            self._send(_STATUS, self._terms.status(self._version.version).encode(self._version.version))
        elif isinstance(event, Message):
            self._take_message(event.code, event.payload)
        elif isinstance(event, PongReceived) and self._handed_over:
            self._decide(DELIVERED)
        elif isinstance(event, Disconnected):
            self._decide(describe_reason(event.reason))

    @property
    def _version(self) -> EthVersion:
        assert self._eth is not None
        return BY_VERSION[self._eth.version]

    def _take_message(self, code: int, payload: bytes) -> None:
        if code == _STATUS and not self._offered:
            self._terms.check(cast(Status, self._version.decode(_STATUS, payload)))
            self._offer()
        elif code == _GET and self._offered and not self._handed_over:
            request = cast(GetPooledTransactions, self._version.decode(_GET, payload))
            if self._parcel.hash in request.hashes:
                self._hand_over(_POOLED, encode_pooled(request.request_id, [self._parcel.item]))

    def _offer(self) -> None:
        parcel, self._offered = self._parcel, True
        if parcel.asked:
            self._send(
                _ANNOUNCEMENT, encode_announcement(bytes((parcel.type,)), [parcel.size], [parcel.hash])
            )
        else:
            self._hand_over(_TRANSACTIONS, encode_transactions([parcel.item]))

    def _hand_over(self, code: int, payload: bytes) -> None:
        self._handed_over = True
        self._send(code, payload)
        assert self._connection is not None
        self._connection.ping()
        self._flush()

    def _send(self, code: int, payload: bytes) -> None:
        assert self._connection is not None
        assert self._eth is not None
        self._write(self._connection.send(self._eth.offset + code, payload))

    def _flush(self) -> None:
        if self._connection is not None:
            self._write(self._connection.take_output())

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _decide(self, outcome: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)
