"""What we have asked and wait for: pings, FindNode and ENRRequest, each with a deadline.

A node answers the latter two only to whom it has a proof of. Without being sure of that we ping it, answer
its ping back, and ask then: the state of a request goes PINGING, AWAITING_PING, ASKED.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from relay.primitives.endpoint import Endpoint
from relay.primitives.keys import NodeId
from relay.protocols.discv4.bonds import Bonds
from relay.protocols.discv4.contact import Contact
from relay.protocols.discv4.options import Options
from relay.protocols.discv4.outbox import Outbox
from relay.protocols.discv4.packets import ENRRequest, ENRResponse, FindNode, Neighbors, Packet, Ping

__all__ = ["Request", "Requests", "Sent"]

Answer: TypeAlias = Neighbors | ENRResponse
MAX_NEIGHBORS_TOLD: Final = 16  # nodes that answer one FindNode; discv4.md, k


class _State(Enum):
    QUEUED = "queued"
    PINGING = "pinging"
    AWAITING_PING = "awaiting their ping"
    ASKED = "asked"


@dataclass(slots=True, eq=False)
class Sent:
    """A ping that waits for its pong.

    Attributes:
        contact: whom we pinged.
        deadline: seconds of the clock.
        back: it pinged us first.
        pinged: it has pinged us since, or first.
    """

    contact: Contact
    deadline: float
    back: bool
    pinged: bool


@dataclass(slots=True, eq=False)
class Request:
    """A FindNode or ENRRequest.

    Attributes:
        contact: whom to ask.
        target: of FindNode; None for ENRRequest.
        done: called once, by `Requests.settle`, with what was answered; nothing means no answer.
    """

    contact: Contact
    target: bytes | None
    done: Callable[[list[Answer]], None]
    state: _State = _State.QUEUED
    deadline: float = 0.0
    hash: bytes = b""
    answers: list[Answer] = field(default_factory=list)
    told: int = 0

    def packet(self, expiration: int) -> Packet:
        """Make the packet that asks."""
        return ENRRequest(expiration) if self.target is None else FindNode(self.target, expiration)


class Requests:
    """Sends, matches answers, and gives up in time. One request a node at a time, in order."""

    def __init__(
        self,
        outbox: Outbox,
        bonds: Bonds,
        options: Options,
        *,
        make_ping: Callable[[Endpoint], Ping],
        expiration: Callable[[], int],
    ) -> None:
        """Make it with nothing asked.

        Args:
            outbox: takes the packets.
            bonds: tells whom we have to ping first.
            options: time-outs and bounds.
            make_ping: a Ping to an endpoint.
            expiration: unix seconds until which a packet sent now is valid.
        """
        self._outbox = outbox
        self._bonds = bonds
        self._options = options
        self._make_ping = make_ping
        self._expiration = expiration
        self._pings: dict[bytes, Sent] = {}  # by hash, in order of their deadlines
        self._pinging: dict[tuple[NodeId, str], Sent] = {}
        self._backs = 0
        self._queues: dict[NodeId, list[Request]] = {}  # the first of each is under way
        self._count = 0
        self._finished: list[Request] = []

    def __len__(self) -> int:
        return len(self._pings) + self._count

    # -- asking ----------------------------------------------------------------------------------------

    def ping(self, contact: Contact, now: float, *, back: bool = False) -> bool:
        """Ping a node unless a ping to it is under way; False when too many are."""
        key = (contact.node_id, contact.endpoint.host)
        known = self._pinging.get(key)
        if known is not None:
            known.pinged = known.pinged or back
            return True
        if back and self._backs >= self._options.max_ping_backs:
            return False
        if not back and len(self._pings) - self._backs >= self._options.max_pings:
            return False
        self._backs += back
        sent = Sent(contact, now + self._options.reply_timeout, back, pinged=back)
        digest = self._outbox.send(self._make_ping(contact.endpoint), contact.endpoint)
        self._pings[digest] = self._pinging[key] = sent
        return True

    def ask(self, request: Request, now: float) -> None:
        """Ask as soon as the node's other requests are done; when too much is asked already it fails."""
        queue = self._queues.get(request.contact.node_id, [])
        full = len(queue) >= self._options.max_requests_per_node
        if full or self._count >= self._options.max_requests:
            self._finished.append(request)
            return
        self._count += 1
        queue.append(request)
        self._queues[request.contact.node_id] = queue
        if len(queue) == 1:
            self._begin(request, now)

    def _begin(self, request: Request, now: float) -> None:
        contact = request.contact
        if self._bonds.given(contact.node_id, contact.endpoint.host, now):
            self._send(request, now)
        elif self.ping(contact, now):
            request.state = _State.PINGING
            request.deadline = float("inf")  # that of the ping
        else:
            self._finish(request, now)

    def _send(self, request: Request, now: float) -> None:
        request.state = _State.ASKED
        request.deadline = now + self._options.reply_timeout
        endpoint = request.contact.endpoint
        request.hash = self._outbox.send(request.packet(self._expiration()), endpoint)

    # -- answers ---------------------------------------------------------------------------------------

    def pong(self, node: NodeId, source: Endpoint, ping_hash: bytes, now: float) -> Sent | None:
        """Take a pong; return the ping that it answers, None if it answers none."""
        sent = self._pings.get(ping_hash)
        if sent is None or sent.contact.node_id != node or sent.contact.endpoint.host != source.host:
            return None
        self._forget(ping_hash, sent)
        self._bonds.heard_pong(node, source.host, now, pinged=sent.pinged)
        request = self._head(node, source.host)
        if request is not None and request.state is _State.PINGING:
            if sent.pinged:
                self._send(request, now)
            else:
                request.state = _State.AWAITING_PING
                request.deadline = now + self._options.reply_timeout
        return sent

    def ping_answered(self, node: NodeId, source: Endpoint, now: float) -> None:
        """Note that a node has pinged us and got its pong: now it should answer requests."""
        self._bonds.heard_ping(node, source.host, now)
        sent = self._pinging.get((node, source.host))
        if sent is not None:
            sent.pinged = True
        request = self._head(node, source.host)
        if request is not None and request.state is _State.AWAITING_PING:
            self._send(request, now)

    def answer(self, node: NodeId, source: Endpoint, answer: Answer, now: float) -> bool:
        """Take Neighbors or an ENRResponse; False if nobody asked for it."""
        request = self._head(node, source.host)
        if request is None or request.state is not _State.ASKED:
            return False
        if isinstance(answer, ENRResponse):
            if request.target is not None or answer.request_hash != request.hash:
                return False
            complete = True
        else:
            if request.target is None:
                return False
            request.told += len(answer.nodes)
            complete = request.told >= MAX_NEIGHBORS_TOLD
        request.answers.append(answer)
        if complete or len(request.answers) >= MAX_NEIGHBORS_TOLD:
            self._finish(request, now)
        return True

    @property
    def unsettled(self) -> bool:
        """Whether `settle` has something to do."""
        return bool(self._finished)

    def settle(self) -> bool:
        """Tell of the requests that have ended. Apart from all else, since who is told may ask again."""
        finished, self._finished = self._finished, []
        for request in finished:
            request.done(request.answers)
        return bool(finished)

    # -- time ------------------------------------------------------------------------------------------

    def expire(self, now: float) -> list[Contact]:
        """Give up what has had its time; return the nodes that did not answer a ping."""
        silent = []
        for digest, sent in tuple(self._pings.items()):
            if sent.deadline > now:
                break
            self._forget(digest, sent)
            silent.append(sent.contact)
            request = self._head(sent.contact.node_id, sent.contact.endpoint.host)
            if request is not None and request.state is _State.PINGING:
                self._finish(request, now)
        for queue in tuple(self._queues.values()):
            request = queue[0]
            if request.deadline <= now:
                self._overdue(request, now)
        return silent

    def next_deadline(self) -> float | None:
        """Return when `expire` is to be called."""
        deadlines = [queue[0].deadline for queue in self._queues.values()]
        if self._pings:
            deadlines.append(next(iter(self._pings.values())).deadline)
        earliest = min(deadlines, default=float("inf"))
        return None if earliest == float("inf") else earliest

    def _overdue(self, request: Request, now: float) -> None:
        if request.state is _State.AWAITING_PING:
            self._send(request, now)  # it may have a proof of us from before
            return
        if not request.answers:
            self._bonds.doubt(request.contact.node_id, request.contact.endpoint.host)
        self._finish(request, now)

    def _forget(self, digest: bytes, sent: Sent) -> None:
        del self._pings[digest]
        del self._pinging[sent.contact.node_id, sent.contact.endpoint.host]
        self._backs -= sent.back

    def _head(self, node: NodeId, host: str) -> Request | None:
        queue = self._queues.get(node)
        return queue[0] if queue and queue[0].contact.endpoint.host == host else None

    def _finish(self, request: Request, now: float) -> None:
        node = request.contact.node_id
        queue = self._queues[node]
        queue.pop(0)
        self._count -= 1
        self._finished.append(request)
        if queue:
            self._begin(queue[0], now)
        else:
            del self._queues[node]
