"""One connection to a peer: bytes in, messages to their handler, bytes out.

    WAITING -> READY -> RLPX -> HELLO -> STATUS -> (HELD ->) JOINED -> CLOSING -> CLOSED
    inbound only          outbound starts here

Everything runs inside the transport's callbacks; there is no task, queue or timer for a single peer.
Deadlines are looked at by the sweep of the `PeerSet`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, cast

import structlog
from structlog.typing import FilteringBoundLogger

from relay.peering.interfaces import CapabilityHandler
from relay.primitives.errors import HandshakeFailed, PeerError, ProtocolBreach, UselessPeer
from relay.protocols.devp2p.events import (
    Connected,
    Disconnected,
    Event,
    Message,
    RemoteIdentified,
)
from relay.protocols.devp2p.messages import DisconnectReason, describe_reason
from relay.protocols.eth.messages import Status
from relay.protocols.eth.versions import BY_VERSION, EthVersion
from relay.protocols.eth.versions import NAME as ETH
from relay.protocols.rlpx.handshake import PREFIX, packet_length

if TYPE_CHECKING:
    from relay.peering.peers import PeerSet
    from relay.primitives.endpoint import Endpoint, Network
    from relay.primitives.keys import PublicKey
    from relay.protocols.devp2p.capabilities import SharedCapability
    from relay.protocols.devp2p.connection import DevP2PConnection
    from relay.protocols.devp2p.messages import Hello

__all__ = ["Departure", "PeerSession", "Phase", "printable"]

STATUS: Final = 0x00  # eth's first message, in every version
MAX_STASH: Final = 256  # messages of other capabilities before eth has joined; more is a breach
_MAX_CLIENT: Final = 64  # characters of a client's name in logs


class Phase(IntEnum):
    """How far a connection is. The order matters: from CLOSING on it is over."""

    WAITING = 0
    """Came in; its first packet is not complete."""
    READY = 1
    """The packet is complete and waits for its turn to be computed."""
    RLPX = 2
    """The RLPx handshake is under way."""
    HELLO = 3
    """The peer is known and admitted; our Hello went out, theirs did not come in."""
    STATUS = 4
    """Our Status went out, theirs did not come in."""
    HELD = 5
    """Ready to join, but a connection that has precedence is being made; see PeerSet."""
    JOINED = 6
    CLOSING = 7
    """Over; the peer may still read our Disconnect."""
    CLOSED = 8


@dataclass(frozen=True, slots=True)
class Departure:
    """Why a connection ended.

    Attributes:
        reason: devp2p Disconnect reason; NETWORK_ERROR where none was sent.
        category: a few words of a small set, for counters.
        text: for people.
        by_remote: whether the other side said so.
    """

    reason: int
    category: str
    text: str
    by_remote: bool


class _Doorman:
    """Takes the messages of sessions that have not joined."""

    def message(self, session: PeerSession, code: int, payload: bytes) -> None:
        session.early_message(code, payload)


class _Nowhere:
    """Takes the messages that were read together with the one that ended the connection."""

    def message(self, session: PeerSession, code: int, payload: bytes) -> None:
        pass


_DOORMAN: Final = _Doorman()
_NOWHERE: Final = _Nowhere()


class PeerSession(asyncio.Protocol):
    """A connection to one peer, from the transport's first byte to its last. Made by `PeerSet`.

    Attributes:
        phase: how far it is.
        slot: a small number no other joined peer has; -1 before joining.
        public_key: of a dialed peer from the start, of others once the RLPx handshake is done.
        endpoint: where it was dialed or came from; None for peers of the onion listener.
        label: network class: of the dialed address, or of the listener it came in by.
        via_tor: whether it runs through Tor or I2P, so that slower deadlines hold.
        inbound, static, trusted: how it came about.
        hello: the peer's Hello; None before HELLO is over.
        eth: the eth version that is run.
        status: the peer's Status; its block range is replaced by relaying as it moves.
        connected_at, joined_at: monotonic seconds.
        writable: False while so much waits for the peer that gossip should pass it by, and when closing.
        reading_paused: whether the handler stopped reading.
        bytes_in, bytes_out, messages_in, messages_out: counters.
        departure: why it ended.
        why: what led to our dialing it; empty for who dialed us.
        outcome: set by whoever dialed: done with None when it joined, with the Departure when it did not.
    """

    __slots__ = (
        "_connection",
        "_cork",
        "_early",
        "_eth",
        "_flushed_at",
        "_offset",
        "_peers",
        "_phase_since",
        "_pinged_at",
        "_read_at",
        "_seen_flushed",
        "_seen_in",
        "_sink",
        "_stash",
        "_transport",
        "bytes_in",
        "bytes_out",
        "connected_at",
        "departure",
        "endpoint",
        "eth",
        "hello",
        "inbound",
        "joined_at",
        "label",
        "messages_in",
        "messages_out",
        "outcome",
        "phase",
        "public_key",
        "reading_paused",
        "slot",
        "static",
        "status",
        "trusted",
        "via_tor",
        "why",
        "writable",
    )

    def __init__(
        self,
        peers: PeerSet,
        *,
        inbound: bool,
        label: Network,
        via_tor: bool,
        public_key: PublicKey | None = None,
        static: bool = False,
    ) -> None:
        self._peers = peers
        self.inbound = inbound
        self.label = label
        self.via_tor = via_tor
        self.static = static
        self.trusted = False
        self.why = ""
        self.phase = Phase.WAITING if inbound else Phase.RLPX
        self.slot = -1
        self.public_key = public_key
        self.endpoint: Endpoint | None = None
        self.hello: Hello | None = None
        self.eth: EthVersion | None = None
        self.status: Status | None = None
        self.writable = True
        self.reading_paused = False
        self.bytes_in = self.bytes_out = self.messages_in = self.messages_out = 0
        self.connected_at = self.joined_at = 0.0
        self.departure: Departure | None = None
        self.outcome: asyncio.Future[Departure | None] | None = None
        self._connection: DevP2PConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._sink: CapabilityHandler = _DOORMAN
        self._eth: SharedCapability | None = None
        self._offset = 0
        self._early: bytearray | None = None
        self._stash: list[Message] | None = None
        self._cork: list[bytes] = []
        self._seen_in = self._seen_flushed = 0
        self._phase_since = self._read_at = self._flushed_at = self._pinged_at = 0.0

    # -- for handlers ----------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The node in logs: the first 16 digits of its key; "?" before it is known."""
        return self.public_key.hex()[:16] if self.public_key else "?"

    @property
    def log(self) -> FilteringBoundLogger:
        """A logger bound to this peer. Made on demand: a kept one would cost more than the session."""
        logger: FilteringBoundLogger = structlog.get_logger("relay.peering")
        return logger.bind(peer=self.id, network=str(self.label), inbound=self.inbound)

    @property
    def closing(self) -> bool:
        """Whether it is over; sends are ignored."""
        return self.phase >= Phase.CLOSING

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for the peer to take them."""
        waiting = sum(map(len, self._cork))
        return waiting + (self._transport.get_write_buffer_size() if self._transport else 0)

    def send(self, code: int, payload: bytes) -> None:
        """Send an eth message; it leaves with all others of this iteration of the event loop.

        Args:
            code: inside eth.
            payload: not compressed.
        """
        if self._connection is not None:
            self._put(self._connection.send(self._offset + code, payload))

    def send_packed(self, code: int, body: bytes) -> None:
        """As `send`, for a payload that was compressed once for many peers."""
        if self._connection is not None:
            self._put(self._connection.send_packed(self._offset + code, body))

    def speaks(self, name: str) -> bool:
        """Tell whether a capability is shared with the peer."""
        return self._connection is not None and any(each.name == name for each in self._connection.shared)

    def send_to(self, name: str, code: int, payload: bytes) -> None:
        """Send a message of another capability than eth; it must be shared.

        Args:
            name: of the capability.
            code: inside of it.
            payload: not compressed.
        """
        if self._connection is not None:
            offset = next(each.offset for each in self._connection.shared if each.name == name)
            self._put(self._connection.send(offset + code, payload))

    def disconnect(self, reason: int = DisconnectReason.REQUESTED, text: str = "") -> None:
        """Say why and close; the peer gets a moment to read it. `left` follows in a later callback."""
        self._disconnect(reason, describe_reason(reason), text)

    def abort(self, category: str) -> None:
        """Cut the connection without a word."""
        self._end(Departure(DisconnectReason.NETWORK_ERROR, category, category, by_remote=False))
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Read no more for now; messages that were read already are still delivered."""
        if not self.reading_paused and self._transport is not None and not self.closing:
            self.reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self.reading_paused and self._transport is not None:
            self.reading_paused = False
            if not self.closing:
                self._transport.resume_reading()

    # -- transport callbacks ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; begin the handshake or wait for it."""
        self._transport = cast(asyncio.Transport, transport)
        busy = self._peers.options.busy_bytes
        self._transport.set_write_buffer_limits(high=busy, low=busy // 4)
        self.connected_at = self._phase_since = self._peers.now()
        self._peers.guard(self._peers.connected, self)

    def data_received(self, data: bytes) -> None:
        """Take bytes; deliver every message they complete."""
        self.bytes_in += len(data)
        connection = self._connection
        try:
            if connection is None:
                self._gather(data)
                return
            for event in connection.receive(data):
                if type(event) is Message and event.capability is self._eth:
                    self.messages_in += 1
                    self._sink.message(self, event.code, event.payload)
                else:
                    self._take(event)
            output = connection.take_output()
            if output:
                self._put(output)
        except PeerError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - not the peer's fault: the app stops loudly
            self.bug(error)

    def pause_writing(self) -> None:
        """Note that much waits for the peer."""
        self.writable = False

    def resume_writing(self) -> None:
        """Note that the peer has caught up."""
        self.writable = not self.closing

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the transport."""
        text = str(exc) if exc else "closed by the other side"
        self._end(Departure(DisconnectReason.NETWORK_ERROR, "connection lost", text, by_remote=exc is None))
        self.phase = Phase.CLOSED
        self._peers.guard(self._peers.disconnected, self)

    # -- for PeerSet -----------------------------------------------------------------------------------

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport, once there is one."""
        return self._transport

    def dialed_by(self, endpoint: Endpoint, label: Network, via_tor: bool) -> None:
        """Note which way led to the peer."""
        self.endpoint = endpoint
        self.label = label
        self.via_tor = via_tor

    def start(self, connection: DevP2PConnection) -> None:
        """Begin the RLPx handshake on the dialing side."""
        self._connection = connection
        self._put(connection.take_output())

    def take_turn(self) -> None:
        """Compute the RLPx handshake on the accepting side; its deadline starts now."""
        packet, self._early = bytes(self._early or b""), None
        self._enter(Phase.RLPX)
        self._connection = self._peers.recipient()
        if self._transport is not None:
            self._transport.resume_reading()
        self.bytes_in -= len(packet)  # counted when they came
        self.data_received(packet)

    def hold(self) -> None:
        """Wait with joining until the connection with precedence joined or failed."""
        self._enter(Phase.HELD)
        if self._transport is not None:
            self._transport.pause_reading()

    def join(self, slot: int, handler: CapabilityHandler) -> None:
        """Become a peer: from now on messages go to the handler."""
        held = self.phase is Phase.HELD
        self.slot = slot
        self._sink = handler
        self._enter(Phase.JOINED)
        now = self.joined_at = self._phase_since
        self._read_at = self._flushed_at = self._pinged_at = now
        if held and self._transport is not None:
            self._transport.resume_reading()

    def deliver_stash(self) -> None:
        """Deliver what came before joining."""
        stash, self._stash = self._stash, None
        for message in stash or ():
            self._dispatch(message)

    def early_message(self, code: int, payload: bytes) -> None:
        """Take an eth message before joining: Status first, what follows it while held waits."""
        if self.phase is Phase.HELD and self._eth is not None:
            self._put_by(Message(self._eth, code, payload))
        elif code != STATUS:
            raise ProtocolBreach(f"the first eth message is Status, not {code:#x}")
        else:
            self._take_status(payload)

    def check(self, now: float) -> None:
        """Look at the deadlines."""
        options = self._peers.options
        if self.phase is Phase.JOINED:
            self._check_joined(now)
        elif self.phase is Phase.CLOSING:
            if now - self._phase_since >= options.linger and self._transport is not None:
                self._transport.abort()
        else:
            limit = options.handshake_timeout_tor if self.via_tor else options.handshake_timeout
            if self.phase is Phase.HELD:
                limit *= 3  # the other connection's phases from RLPx to Status, one after the other
            if now - self._phase_since >= limit:
                self._time_out(f"nothing came of {self.phase.name.lower()} for {limit:g} s")

    def flush(self) -> None:
        """Write what was corked."""
        cork, transport = self._cork, self._transport
        if not cork or transport is None:
            return
        data = cork[0] if len(cork) == 1 else b"".join(cork)
        cork.clear()
        transport.write(data)
        if not self.writable and transport.get_write_buffer_size() > self._peers.options.overflow_bytes:
            self.abort("slow reader")

    def bug(self, error: Exception) -> None:
        """Stop this connection for a fault of our own and report it."""
        self.abort("bug")
        self._peers.on_bug(error)

    # -- inside ----------------------------------------------------------------------------------------

    def _gather(self, data: bytes) -> None:
        """Collect the first packet of a peer that came in; it must be exact, as ours is due after it."""
        if self.phase is not Phase.WAITING:
            return
        if self._early is None:
            self._early = bytearray()
        self._early += data
        if len(self._early) < PREFIX:
            return
        size = PREFIX + packet_length(bytes(self._early[:PREFIX]))
        if len(self._early) > size:
            raise HandshakeFailed("bytes that nobody can have encrypted before our answer")
        if len(self._early) == size:
            self._enter(Phase.READY)
            if self._transport is not None:
                self._transport.pause_reading()
            self._peers.gate.packet_complete(self)

    def _take(self, event: Event) -> None:
        if self.closing:
            return
        if isinstance(event, Message):
            self._take_foreign(event)
        elif isinstance(event, RemoteIdentified):
            self.public_key = event.public_key
            self._peers.admit(self)
            self._enter(Phase.HELLO)
        elif isinstance(event, Connected):
            self._take_hello(event)
        elif isinstance(event, Disconnected):
            self._take_disconnect(event.reason)

    def _take_hello(self, event: Connected) -> None:
        self.hello = event.hello
        shared = next((each for each in event.shared if each.name == ETH), None)
        if shared is None:
            raise UselessPeer("no version of eth is shared")
        self._eth = shared
        self._offset = shared.offset
        self.eth = BY_VERSION[shared.version]
        self._peers.check_room(self)
        self._enter(Phase.STATUS)
        self.send(STATUS, self._peers.eth.status(shared.version).encode(shared.version))

    def _take_status(self, payload: bytes) -> None:
        assert self.eth is not None
        status = cast(Status, self.eth.decode(STATUS, payload))
        self._peers.eth.check_status(self, status)
        self.status = status
        self._peers.join(self)

    def _take_foreign(self, message: Message) -> None:
        if self.phase is Phase.JOINED:
            self.messages_in += 1
            self._dispatch(message)
        else:
            self._put_by(message)

    def _put_by(self, message: Message) -> None:
        self._stash = self._stash or []
        if len(self._stash) >= MAX_STASH:
            raise ProtocolBreach("too many messages before eth's handshake is over")
        self._stash.append(message)

    def _dispatch(self, message: Message) -> None:
        if message.capability is self._eth:
            self._sink.message(self, message.code, message.payload)
        elif not self.closing:
            self._peers.handlers[message.capability.name].message(self, message.code, message.payload)

    def _take_disconnect(self, reason: int) -> None:
        self._end(Departure(reason, describe_reason(reason), "the peer said so", by_remote=True))
        if self._transport is not None:
            self._transport.close()

    def _put(self, data: bytes) -> None:
        if not data:
            return
        self.bytes_out += len(data)
        self.messages_out += 1
        if not self._cork:
            self._peers.cork(self)
        self._cork.append(data)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._phase_since = self._peers.now()

    def _fail(self, error: PeerError) -> None:
        category = "bad handshake" if isinstance(error, HandshakeFailed) else describe_reason(error.reason)
        self._disconnect(error.reason, category, str(error))

    def _time_out(self, text: str) -> None:
        self._disconnect(DisconnectReason.TIMEOUT, "timeout", text)

    def _disconnect(self, reason: int, category: str, text: str) -> None:
        if self.closing:
            return
        if self._connection is not None:
            self._connection.disconnect(reason)
            self._put(self._connection.take_output())
            self.flush()
        self._end(Departure(reason, category, text or category, by_remote=False))
        self._hang_up()

    def _hang_up(self) -> None:
        """Let the peer read our last words: bytes of its own left unread would make TCP reset them away."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._connection is None or not self._connection.handshake_done or not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # the peer has reset the connection in this very moment
            transport.abort()
            return
        transport.resume_reading()

    def _end(self, departure: Departure) -> None:
        if self.closing:
            return
        self.departure = departure
        self.writable = False
        self._sink = _NOWHERE
        self._stash = None
        self._early = None
        self._cork.clear()
        self._enter(Phase.CLOSING)
        self._peers.timers.call_soon(self._peers.departed, self)

    def _check_joined(self, now: float) -> None:
        """Compare the counters with those of the last look: no clock is asked where bytes flow."""
        options = self._peers.options
        assert self._transport is not None
        if self.bytes_in != self._seen_in or self.reading_paused:
            self._seen_in = self.bytes_in
            self._read_at = now
        limit = options.read_timeout_tor if self.via_tor else options.read_timeout
        if now - self._read_at >= limit:
            self._time_out(f"silent for {limit:g} s")
            return
        waiting = self._transport.get_write_buffer_size()
        if not waiting or self.bytes_out - waiting != self._seen_flushed:
            self._seen_flushed = self.bytes_out - waiting
            self._flushed_at = now
        elif now - self._flushed_at >= options.write_timeout:
            self.abort("write stalled")
            return
        self._ping(now, options.ping_interval)

    def _ping(self, now: float, interval: float) -> None:
        # Whatever else passes, as geth does: who counts our pings learns neither what we are nor what we do.
        if now - self._pinged_at < interval:
            return
        assert self._connection is not None
        self._pinged_at = now
        self._connection.ping()
        self._put(self._connection.take_output())


def printable(text: str, limit: int = _MAX_CLIENT) -> str:
    """Make text of a peer fit for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:limit])
