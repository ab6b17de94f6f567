"""Requests of ours: one under way for each node, the others queue. Spec: discv5-wire.md."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from math import inf
from typing import Final, TypeAlias

from relay.primitives.keys import NodeId
from relay.protocols.discv5.codec import Codec
from relay.protocols.discv5.contact import Contact
from relay.protocols.discv5.events import Failure, Result, SessionEstablished
from relay.protocols.discv5.messages import Kind
from relay.protocols.discv5.networks import ITSELF, Address
from relay.protocols.discv5.options import Options
from relay.protocols.discv5.outbox import Outbox
from relay.protocols.discv5.packet import Packet, Reason, Refusal
from relay.protocols.discv5.patience import Estimate, Patience

__all__ = ["Call", "Calls", "Done", "Outcome"]

Outcome: TypeAlias = Result | Failure
Done: TypeAlias = Callable[["Call", Outcome, float], None]
"""Called once with how the call ended, and when."""

_LAPSED: Final = 256  # packets of ours whose late WHOAREYOU is still worth something; the oldest go first
MAX_NODES_PACKETS: Final = 5  # parts of an answer; go-ethereum totalNodesResponseLimit
_ANSWERS: Final = {Kind.PING: Kind.PONG, Kind.FINDNODE: Kind.NODES, Kind.TALKREQ: Kind.TALKRESP}


class Call:
    """A request.

    Attributes:
        contact: who is asked; the address is not None.
        kind: of the request.
        teller: who told us of the node; see `NetworkClass.group_of`.
        request_id: 8 random bytes.
        plaintext: the message.
        distances: that a FINDNODE asks for.
        done: what to do at its end.
        nonce: of the packet that carried it last.
        opening: nonce of its first packet.
        handshaken: a challenge for it was answered: no second one is.
        found: nodes of the parts of NODES that have come, by node id.
        missing: parts of NODES to come; -1 until the first one says it.
        since: when it began to wait for what comes next.
    """

    __slots__ = (
        "contact", "distances", "done", "found", "handshaken", "kind", "missing", "nonce", "opening",
        "plaintext", "request_id", "since", "teller",
    )  # fmt: skip

    def __init__(
        self,
        contact: Contact,
        kind: Kind,
        request_id: bytes,
        plaintext: bytes,
        done: Done,
        teller: Hashable = ITSELF,
    ) -> None:
        self.contact = contact
        self.kind = kind
        self.teller = teller
        self.request_id = request_id
        self.plaintext = plaintext
        self.distances: tuple[int, ...] = ()
        self.done = done
        self.nonce = self.opening = b""
        self.handshaken = False
        self.found: dict[NodeId, Contact] = {}
        self.missing = -1
        self.since = 0.0


class _Deadlines:
    """Calls in the order they were set in, which is the order they end in.

    While the time-out shrinks, later ones are given as long as those before them.
    """

    __slots__ = ("_ends", "_estimate", "_latest")

    def __init__(self, estimate: Estimate) -> None:
        self._estimate = estimate
        self._latest = -inf
        self._ends: dict[Call, float] = {}

    @property
    def next(self) -> float:
        ends = self._ends
        return next(iter(ends.values())) if ends else inf

    def set(self, call: Call, now: float) -> None:
        self._ends.pop(call, None)
        if not self._ends:
            self._latest = -inf
        call.since = now
        self._latest = self._ends[call] = max(self._latest, now + self._estimate.timeout)

    def drop(self, call: Call, now: float, *, answered: bool) -> None:
        if self._ends.pop(call, None) is not None and answered:
            self._estimate.took(now - call.since)

    def at(self, address: Address) -> list[Call]:
        return [call for call in self._ends if call.contact.address == address]

    def pop_due(self, now: float) -> Call | None:
        if self.next > now:
            return None
        self._estimate.missed()
        call = next(iter(self._ends))
        del self._ends[call]
        return call


class Calls:
    """All requests of a core."""

    __slots__ = (
        "_active",
        "_by_nonce",
        "_codec",
        "_connecting",
        "_lapsed",
        "_open",
        "_options",
        "_outbox",
        "_queues",
        "_responding",
        "_size",
        "ended",
        "patience",
    )

    def __init__(self, codec: Codec, outbox: Outbox, options: Options) -> None:
        self._codec = codec
        self._outbox = outbox
        self._options = options
        self._active: dict[NodeId, Call] = {}
        self._by_nonce: dict[bytes, Call] = {}
        self._lapsed: dict[bytes, NodeId] = {}
        self._open: set[Address] = set()
        self._queues: dict[NodeId, deque[Call]] = {}
        self._size = 0
        self.patience = Patience(options)
        self._connecting = _Deadlines(self.patience.connect)
        self._responding = _Deadlines(self.patience.response)
        self.ended: Done = _nothing
        """Told of each call that was sent, before its own `done`."""

    def __len__(self) -> int:
        return self._size

    @property
    def next_deadline(self) -> float:
        """When the next time-out is due; infinity without one."""
        connecting, responding = self._connecting.next, self._responding.next
        return connecting if connecting < responding else responding

    def begin(self, call: Call, now: float) -> Failure | None:
        """Send a request, or queue it behind the one that is under way.

        Returns:
            Why not, in which case `done` is not called.
        """
        if call.contact.address is None:
            return Failure.UNREACHABLE
        if self._size >= self._options.calls:
            return Failure.BUSY
        node = call.contact.node_id
        if node in self._active:
            queue = self._queues.setdefault(node, deque())
            if len(queue) >= self._options.calls_per_node - 1:
                return Failure.BUSY
            queue.append(call)
        else:
            self._active[node] = call
            self._send(call, now)
        self._size += 1
        return None

    def contact_of(self, node: NodeId) -> Contact | None:
        """Return the contact of the call under way to a node."""
        call = self._active.get(node)
        return None if call is None else call.contact

    def challenged(self, packet: Packet, source: Address, now: float) -> None:
        """Answer a WHOAREYOU by sending the request again as a handshake.

        Raises:
            Refusal: it belongs to no request, or not to its address, or is the second one for it.
        """
        call = self._by_nonce.get(packet.nonce) or self._again(packet.nonce)
        if call is None or call.contact.address != source:
            raise Refusal(Reason.WHOAREYOU, "WHOAREYOU for no request of ours")
        if call.handshaken:
            raise Refusal(Reason.WHOAREYOU, "second WHOAREYOU for one request")
        call.handshaken = True
        self._by_nonce.pop(call.nonce, None)
        packets, call.nonce = self._codec.answer(packet, call.contact, call.plaintext)
        self._by_nonce[call.nonce] = call
        for data in packets:
            self._outbox.send(data, source)
        self._outbox.traffic.handshakes += 1
        self._outbox.traffic.sent[call.kind] += 1
        self._await(call, now)

    def match(self, node: NodeId, source: Address, request_id: bytes, kind: Kind) -> Call:
        """Return the call that a response belongs to.

        Raises:
            Refusal: there is none.
        """
        call = self._active.get(node)
        if (
            call is None
            or call.request_id != request_id
            or call.contact.address != source
            or _ANSWERS[call.kind] is not kind
        ):
            raise Refusal(Reason.UNSOLICITED, "response to no request of ours")
        # The packet was read, so a WHOAREYOU for it can no longer be true.
        if self._by_nonce.pop(call.nonce, None) is not None and call.handshaken:
            self._outbox.emit(SessionEstablished(call.contact, incoming=False))
        return call

    def partly(self, call: Call, total: int, now: float) -> bool:
        """Count a part of NODES; returns whether it was the last one."""
        first = call.missing < 0
        if first:
            call.missing = min(total, MAX_NODES_PACKETS)
        call.missing -= 1
        # The other parts come close behind: only the first one tells how long a round trip takes.
        self._responding.drop(call, now, answered=first)
        if call.missing <= 0:
            return True
        self._responding.set(call, now)
        return False

    def finish(self, call: Call, outcome: Outcome, now: float) -> None:
        """End the call under way, send the next one to its node, say how it ended."""
        self._leave(call, now, answered=not isinstance(outcome, Failure))
        self.ended(call, outcome, now)
        call.done(call, outcome, now)

    def expire(self, now: float) -> None:
        """End what is overdue; parts of NODES that have come are an answer."""
        for deadlines in (self._responding, self._connecting):
            while (call := deadlines.pop_due(now)) is not None:
                partial = call.missing > 0
                self._lapse(call)
                self.finish(call, tuple(call.found.values()) if partial else Failure.TIMEOUT, now)

    def opened(self, address: Address, now: float) -> None:
        """Give calls to an open stream no longer than any other, those that waited for it from now on."""
        self._open.add(address)
        for call in self._connecting.at(address):
            self._connecting.drop(call, now, answered=True)
            self._responding.set(call, now)

    def close_address(self, address: Address, now: float, failure: Failure) -> None:
        """End all calls to an address that cannot be reached any more."""
        self._open.discard(address)
        doomed = [call for call in self._active.values() if call.contact.address == address]
        for call in doomed:
            queue = self._queues.get(call.contact.node_id, deque())
            gone = [each for each in queue if each.contact.address == address]
            for each in gone:
                queue.remove(each)
                self._size -= 1
            self.finish(call, failure, now)
            for each in gone:
                each.done(each, failure, now)

    def _lapse(self, call: Call) -> None:
        if len(self._lapsed) >= _LAPSED:
            del self._lapsed[next(iter(self._lapsed))]
        self._lapsed[call.opening] = call.contact.node_id

    def _again(self, nonce: bytes) -> Call | None:
        """Return the call that repeats one in vain, if the nonce was that one's.

        While its challenge is open, a node answers whatever it cannot read with the same WHOAREYOU, which
        names the packet that it was made for. After a lost one, or a lost handshake, that is an earlier one.
        """
        node = self._lapsed.get(nonce)
        call = None if node is None else self._active.get(node)
        if call is not None:
            del self._lapsed[nonce]
        return call

    def _leave(self, call: Call, now: float, *, answered: bool) -> None:
        node = call.contact.node_id
        self._size -= 1
        del self._active[node]
        self._by_nonce.pop(call.nonce, None)
        self._connecting.drop(call, now, answered=answered)
        self._responding.drop(call, now, answered=answered)
        queue = self._queues.get(node)
        if queue:
            following = queue.popleft()
            self._active[node] = following
            self._send(following, now)
        if not queue:
            self._queues.pop(node, None)

    def _send(self, call: Call, now: float) -> None:
        node, address = call.contact.node_id, call.contact.address
        session = self._codec.sessions.get((node, address))
        if session is None:
            data, call.nonce = self._codec.seal_unreadable(node)
            (self._responding if address in self._open else self._connecting).set(call, now)
        else:
            data, call.nonce = self._codec.seal(session, call.plaintext)
            self._responding.set(call, now)
            self._outbox.traffic.sent[call.kind] += 1
        call.opening = call.nonce
        self._by_nonce[call.nonce] = call
        self._outbox.send(data, address)

    def _await(self, call: Call, now: float) -> None:
        self._connecting.drop(call, now, answered=True)
        self._responding.set(call, now)


def _nothing(_call: Call, _outcome: Outcome, _now: float) -> None:
    """Take no notice."""
