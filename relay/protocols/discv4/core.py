"""One discv4 node: packets in, events and packets out; it keeps its table by itself. Spec: discv4.md.

The driver hands in every datagram and the time, sends what `take_packets` gives, and calls `poll` when
`next_deadline` says so. What a hostile packet causes is a `Refused` event and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from relay.primitives.endpoint import Endpoint
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeId, NodeKey
from relay.protocols.discv4.bonds import Bonds, HostBudget
from relay.protocols.discv4.claims import claimed_record
from relay.protocols.discv4.contact import Contact, endpoint_of, wire_endpoint
from relay.protocols.discv4.events import (
    EndpointStated,
    Event,
    Left,
    Proved,
    RecordAnswered,
    RecordReceived,
    Refusal,
    Refused,
    Unanswered,
)
from relay.protocols.discv4.options import Options
from relay.protocols.discv4.outbox import Outbox
from relay.protocols.discv4.packets import (
    MAX_NEIGHBORS,
    Decoded,
    ENRRequest,
    ENRResponse,
    FindNode,
    Neighbors,
    Ping,
    Pong,
    decode,
)
from relay.protocols.discv4.requests import Answer, Request, Requests
from relay.protocols.discv4.searches import Searches
from relay.protocols.discv4.table import BUCKET_SIZE, Table
from relay.protocols.discv5.networks import UdpNetwork

__all__ = ["Discv4"]

_NEVER: Final = float("inf")


class Discv4:
    """A node of the network.

    Attributes:
        record: our own; set it anew when it changes.
        table: whom we know.
        received: packets by kind, those refused by their reason.
    """

    def __init__(
        self,
        key: NodeKey,
        record: NodeRecord,
        *,
        rand: Callable[[int], bytes],
        unix: Callable[[], float],
        bootnodes: Iterable[Contact] = (),
        options: Options | None = None,
        network: UdpNetwork | None = None,
    ) -> None:
        """Make a node that does nothing before `start`.

        Args:
            key: our identity.
            record: our record.
            rand: random bytes.
            unix: the time of day, for what stands in packets; all else goes by `now`.
            bootnodes: asked while the table is empty.
            options: tuning.
            network: rules for addresses.
        """
        self.record = record
        self.received: Counter[str] = Counter()
        self._key = key
        self._rand = rand
        self._unix = unix
        self._bootnodes = tuple(each for each in bootnodes if each.public_key != key.public_key)
        self._options = options = options or Options()
        self._network = network or UdpNetwork()
        self._outbox = Outbox(key, options.max_packets)
        self._bonds = Bonds(options)
        self._budget = HostBudget(options)
        self._requests = Requests(
            self._outbox,
            self._bonds,
            options,
            make_ping=self._make_ping,
            expiration=self._expiration,
        )
        self.table = Table(
            key.node_id, self._group_of, bucket_limit=options.bucket_limit, table_limit=options.table_limit
        )
        self._events: list[Event] = []
        self._searches = Searches(
            key.node_id,
            self._requests,
            self.table,
            self._network,
            max_lookups=options.max_lookups,
            emit=self._emit,
        )
        self._checking: set[tuple[NodeId, str]] = set()  # pinged to see whether they are still there
        self._refresh_at = self._fast_at = self._slow_at = _NEVER
        self._records_asked: set[NodeId] = set()
        self._handlers: dict[type, Callable[[Decoded, Contact, float], None]] = {
            Ping: self._on_ping,
            Pong: self._on_pong,
            FindNode: self._on_find_node,
            Neighbors: self._on_answer,
            ENRRequest: self._on_record_request,
            ENRResponse: self._on_answer,
        }

    # -- the driver's side -----------------------------------------------------------------------------

    @property
    def sent(self) -> Counter[str]:
        """Packets sent, by kind."""
        return self._outbox.sent

    @property
    def bonds(self) -> int:
        """How many endpoint proofs are remembered."""
        return len(self._bonds)

    @property
    def waiting(self) -> int:
        """How many packets of ours wait for an answer."""
        return len(self._requests)

    def start(self, now: float, seeds: Iterable[Contact] = ()) -> None:
        """Begin to keep the table, with nodes from an earlier run."""
        for contact in seeds:
            self.ping(contact, now)
        self._refresh_at = now
        self._fast_at, self._slow_at = now, now

    def receive_packet(self, data: bytes, source: Endpoint, now: float) -> list[Event]:
        """Take a datagram; source: with its UDP port."""
        try:
            self._receive(data, source, now)
        except DecodeError as error:
            self._refuse(Refusal.MALFORMED, source, str(error))
        return self._drain(now)

    def poll(self, now: float) -> list[Event]:
        """Do what is due."""
        for contact in self._requests.expire(now):
            self._unanswered(contact)
        if now >= self._fast_at:
            self._check_one(now, live=False)
            self._fast_at = now + self._share(self._options.fast_interval)
        if now >= self._slow_at:
            self._check_one(now, live=True)
            self._slow_at = now + self._share(self._options.slow_interval)
        if now >= self._refresh_at:
            self._refresh(now)
        return self._drain(now)

    def next_deadline(self) -> float | None:
        """Return when to call `poll`, which may be in the past; None before `start` with nothing asked."""
        if self._requests.unsettled or self._events:
            return -_NEVER
        due = min(self._fast_at, self._slow_at, self._refresh_at, self._requests.next_deadline() or _NEVER)
        return None if due == _NEVER else due

    def take_packets(self) -> list[tuple[bytes, Endpoint]]:
        """Hand over what is to be sent, and where to."""
        return self._outbox.take()

    def ping(self, contact: Contact, now: float) -> bool:
        """Ask for a proof: `Proved` or `Unanswered` follows. False when too many are asked already."""
        return self._requests.ping(contact, now)

    def request_record(self, contact: Contact, now: float) -> None:
        """Ask for a record: `RecordAnswered` follows, before it `RecordReceived` if it is newer than ours."""

        def done(answers: list[Answer]) -> None:
            self._got_record(contact, answers)

        if contact.node_id not in self._records_asked:
            self._records_asked.add(contact.node_id)
            self._requests.ask(Request(contact, None, done), now)

    def lookup(self, target: bytes | None, now: float) -> int | None:
        """Look for the nodes nearest to a target.

        Args:
            target: a public key, or any 64 bytes; None for random ones.
            now: seconds.

        Returns:
            The number that its `LookupDone` will have; None when too many are under way.
        """
        target = self._rand(64) if target is None else target
        return self._searches.begin(target, self._bootnodes, now)

    # -- packets in ------------------------------------------------------------------------------------

    def _receive(self, data: bytes, source: Endpoint, now: float) -> None:
        limited = self._group_of(source) is not None
        if limited and not self._budget.admit(source.host, now):
            self._refuse(Refusal.TOO_MANY, source)
            return
        decoded = decode(data)
        packet = decoded.packet
        self.received[type(packet).__name__] += 1
        if decoded.public_key == self._key.public_key:
            self._refuse(Refusal.OWN, source)
        elif not isinstance(packet, ENRResponse) and self._expired(packet.expiration):
            self._refuse(Refusal.EXPIRED, source)
        else:
            sender = Contact.of(decoded.public_key, source, 0)
            self._handlers[type(packet)](decoded, sender, now)

    def _on_ping(self, decoded: Decoded, sender: Contact, now: float) -> None:
        ping, source = decoded.packet, sender.endpoint
        assert isinstance(ping, Ping)
        to = wire_endpoint(source, ping.sender.tcp)
        self._outbox.send(Pong(to, decoded.hash, self._expiration(), self.record.seq), source)
        self._requests.ping_answered(sender.node_id, source, now)
        if not self._bonds.proved(sender.node_id, source.host, now):
            contact = Contact(sender.public_key, sender.node_id, source, ping.sender.tcp)
            if not self._requests.ping(contact, now, back=True):
                self._refuse(Refusal.BUSY, source)
            return
        self._stated(source, ping.to.ip, ping.to.udp)
        entry = self.table.get(sender.node_id)
        if entry is not None:
            self._want_record(entry.contact, ping.enr_seq, now)

    def _on_pong(self, decoded: Decoded, sender: Contact, now: float) -> None:
        pong, source = decoded.packet, sender.endpoint
        assert isinstance(pong, Pong)
        answered = self._requests.pong(sender.node_id, source, pong.ping_hash, now)
        if answered is None:
            self._refuse(Refusal.UNSOLICITED, source, "Pong")
            return
        contact = answered.contact
        self._checking.discard((contact.node_id, contact.endpoint.host))
        self._stated(source, pong.to.ip, pong.to.udp)
        self.table.heard(contact, now)
        entry = self.table.get(contact.node_id)
        contact = entry.contact if entry is not None else contact
        self._emit(Proved(contact))
        self._want_record(contact, pong.enr_seq, now)

    def _on_find_node(self, decoded: Decoded, sender: Contact, now: float) -> None:
        request, source = decoded.packet, sender.endpoint
        assert isinstance(request, FindNode)
        if not self._require_proof(sender, "FindNode", now):
            return
        # One more than are told: the asker may be among them.
        closest = self.table.closest(keccak256(request.target), BUCKET_SIZE + 1, live=True)
        others = [contact for contact in closest if contact.node_id != sender.node_id][:BUCKET_SIZE]
        told = [each.neighbor for each in others if self._network.may_hear(each.endpoint, source)]
        expiration = self._expiration()
        # With nothing to tell it is told just that: silence would look like a loss.
        for at in range(0, max(1, len(told)), MAX_NEIGHBORS):
            self._outbox.send(Neighbors(tuple(told[at : at + MAX_NEIGHBORS]), expiration), source)

    def _on_record_request(self, decoded: Decoded, sender: Contact, now: float) -> None:
        if self._require_proof(sender, "ENRRequest", now):
            self._outbox.send(ENRResponse(decoded.hash, self.record.to_rlp()), sender.endpoint)

    def _on_answer(self, decoded: Decoded, sender: Contact, now: float) -> None:
        answer = decoded.packet
        assert isinstance(answer, Neighbors | ENRResponse)
        if not self._requests.answer(sender.node_id, sender.endpoint, answer, now):
            self._refuse(Refusal.UNSOLICITED, sender.endpoint, type(answer).__name__)

    def _require_proof(self, sender: Contact, what: str, now: float) -> bool:
        # Both answers are larger than what asks for them: without a proof they could be aimed at a victim.
        if self._bonds.proved(sender.node_id, sender.endpoint.host, now):
            return True
        self._refuse(Refusal.UNPROVED, sender.endpoint, what)
        return False

    def _stated(self, by: Endpoint, ip: bytes, port: int) -> None:
        stated = endpoint_of(ip, port)
        if stated is not None and port:
            self._emit(EndpointStated(by, stated))

    # -- answers to us ---------------------------------------------------------------------------------

    def _drain(self, now: float) -> list[Event]:
        while self._requests.settle():
            self._searches.advance(now)
        events, self._events = self._events, []
        return events

    def _want_record(self, contact: Contact, seq: int | None, now: float) -> None:
        if seq is not None and seq > contact.seq:
            self.request_record(contact, now)

    def _got_record(self, contact: Contact, answers: list[Answer]) -> None:
        self._records_asked.discard(contact.node_id)
        record = None
        for answer in answers:
            assert isinstance(answer, ENRResponse)
            try:
                record = claimed_record(answer.record, contact, self._network)
            except DecodeError as error:
                self._refuse(Refusal.BAD_RECORD, contact.endpoint, str(error))
            else:
                self._take_record(contact, record)
        self._emit(RecordAnswered(contact, record))

    def _take_record(self, contact: Contact, record: NodeRecord) -> None:
        entry = self.table.get(contact.node_id)
        known = entry.contact if entry is not None else contact
        if record.seq <= known.seq:
            return
        updated = replace(known, tcp=record.tcp or known.tcp, record=record)
        if entry is not None:
            entry.contact = updated
        self._emit(RecordReceived(updated, record))

    # -- the table -------------------------------------------------------------------------------------

    def _unanswered(self, contact: Contact) -> None:
        self._emit(Unanswered(contact))
        place = (contact.node_id, contact.endpoint.host)
        # Silence at an address that somebody else told proves nothing.
        if place in self._checking:
            self._checking.discard(place)
            left = self.table.silent(contact.node_id)
            if left is not None:
                self._emit(Left(left))

    def _check_one(self, now: float, *, live: bool) -> None:
        """Ping a random node of those that answered the last time, or of those that did not."""
        quiet = now - self._options.quiet
        due = [entry.contact for entry in self.table if entry.live is live and entry.heard <= quiet]
        if not due:
            return
        contact = due[self._pick(len(due))]
        if self._requests.ping(contact, now):
            self._checking.add((contact.node_id, contact.endpoint.host))

    def _refresh(self, now: float) -> None:
        options = self._options
        starved = not len(self.table)
        self._refresh_at = now + (options.starved_interval if starved else options.refresh_interval)
        if starved and not self._bootnodes:
            return
        targets = [self._key.public_key, *(self._rand(64) for _ in range(options.refresh_lookups))]
        for target in targets:
            self._searches.begin(target, self._bootnodes, now, own=True)

    # -- small things ----------------------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        if isinstance(event, Refused):
            self.received[event.reason.value] += 1
        self._events.append(event)

    def _refuse(self, reason: Refusal, source: Endpoint, detail: str = "") -> None:
        self._emit(Refused(reason, source, detail))

    def _group_of(self, endpoint: Endpoint) -> object:
        return self._network.group_of(endpoint, None)

    def _make_ping(self, to: Endpoint) -> Ping:
        own = self._network.address_of(self.record)
        sender = wire_endpoint(own if isinstance(own, Endpoint) else None, self.record.tcp or 0)
        return Ping(sender, wire_endpoint(to), self._expiration(), self.record.seq)

    def _expiration(self) -> int:
        return int(self._unix() + self._options.expiration)

    def _expired(self, expiration: int) -> bool:
        # From 2**63 on it is a negative number to others, so a time long past.
        return not self._unix() <= expiration < 2**63

    def _pick(self, count: int) -> int:
        return int.from_bytes(self._rand(4), "big") % count

    def _share(self, seconds: float) -> float:
        return seconds * int.from_bytes(self._rand(4), "big") / 2**32
