"""The node of discv5.1: packets in, events and packets out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId, NodeKey
from relay.primitives.node import Node
from relay.protocols.discv5 import messages
from relay.protocols.discv5.answers import MAX_TALK, Answers
from relay.protocols.discv5.asking import Asker
from relay.protocols.discv5.codec import Codec
from relay.protocols.discv5.contact import Contact, ContactCache
from relay.protocols.discv5.crypto import REAL, Suite
from relay.protocols.discv5.events import (
    Event,
    Failure,
    LookupDone,
    Refused,
    RequestDone,
    RequestFailed,
    SessionEstablished,
    TalkRequest,
)
from relay.protocols.discv5.lookup import Lookup
from relay.protocols.discv5.messages import KINDS, FindNode, Nodes, Ping, Pong, TalkReq, TalkResp
from relay.protocols.discv5.neighbours import Neighbours
from relay.protocols.discv5.networks import Address, NetworkClass
from relay.protocols.discv5.options import UDP, Options
from relay.protocols.discv5.outbox import Outbox, Traffic
from relay.protocols.discv5.packet import Flag, Packet, Reason, Refusal
from relay.protocols.discv5.patience import Patience
from relay.protocols.discv5.requests import Call, Calls, Outcome
from relay.protocols.discv5.searches import Refresh, Searches
from relay.protocols.discv5.session import Occupants, Session
from relay.protocols.discv5.table import Limits, Table

__all__ = ["Discv5"]

_UNIFORM_BYTES: Final = 6


class Discv5:
    """One node on one network class. See the package's docstring for how to drive it.

    Args:
        key: the node key.
        own_record: gives the record to show now; when it changes, others learn of it by its sequence number.
        network: which records can be reached and told on.
        options: bounds and time-outs.
        rand: random bytes.
        suite: the cryptography; another one only in simulations.
        contacts: a cache of verified records to share with other cores of the same network class.

    Attributes:
        table: the node table, for reading.
        traffic: counts of messages.
    """

    def __init__(
        self,
        key: NodeKey,
        own_record: Callable[[], NodeRecord],
        network: NetworkClass,
        options: Options = UDP,
        *,
        rand: Callable[[int], bytes],
        suite: Suite = REAL,
        contacts: ContactCache | None = None,
    ) -> None:
        self._own_id = key.node_id
        self._rand = rand
        self._network = network
        self._occupants = Occupants(options.sessions)
        self._contacts = ContactCache(network.address_of, options.records) if contacts is None else contacts
        self._outbox = Outbox(options.packets)
        self._codec = Codec(key, own_record, self._contacts, suite, options, rand)
        self._calls = Calls(self._codec, self._outbox, options)
        limits = Limits(options.bucket_group_limit, options.table_group_limit)
        self.table = Table(key.node_id, network, limits, self._pick)
        self._answers = Answers(self._codec, self._outbox, self.table, network, own_record, self._pick)
        self._asker = Asker(self._calls, self._contacts, self._outbox, network, own_record, rand)
        self._neighbours = Neighbours(
            self.table,
            self._asker,
            self._codec.sessions,
            self._contacts,
            self._outbox,
            network,
            options,
            self._uniform,
        )
        self._calls.ended = self._neighbours.ended
        self._searches = Searches(self._own_id, self._asker, self._neighbours, self._outbox, options)
        self._refresh = Refresh(self._own_id, self._neighbours, self._searches, options, rand, self._uniform)
        self._neighbours.grown = self._refresh.grown
        self._requests = 0

    @property
    def node_id(self) -> NodeId:
        """Our node id."""
        return self._own_id

    @property
    def traffic(self) -> Traffic:
        """Counts of messages since the start."""
        return self._outbox.traffic

    @property
    def session_count(self) -> int:
        """How many sessions are kept."""
        return len(self._codec.sessions)

    @property
    def patience(self) -> Patience:
        """The time-outs in force, and what they were measured from."""
        return self._calls.patience

    @property
    def next_deadline(self) -> float:
        """When to call `poll`: seconds of the clock, in the past if events wait already."""
        if self._outbox.has_events:
            return float("-inf")
        calls, neighbours, refresh = (
            self._calls.next_deadline,
            self._neighbours.next_deadline,
            self._refresh.due,
        )
        soonest = calls if calls < neighbours else neighbours
        return soonest if soonest < refresh else refresh

    def receive_packet(self, data: bytes, source: Address, now: float) -> list[Event]:
        """Take a packet; never raises for what is in it.

        Args:
            data: one datagram, or one packet of a stream.
            source: where it came from, which is where answers go.
            now: seconds of the clock.
        """
        try:
            packet = self._codec.parse(data)
            if packet.flag == Flag.MESSAGE:
                self._ordinary(packet, source, now)
            elif packet.flag == Flag.WHOAREYOU:
                self._calls.challenged(packet, source, now)
            else:
                self._handshake(packet, source, now)
        except Refusal as refusal:
            self._outbox.emit(Refused(refusal.reason, source))
        except DecodeError:
            self._outbox.emit(Refused(Reason.MESSAGE, source))
        return self._outbox.take_events()

    def poll(self, now: float) -> list[Event]:
        """Do what is due: time-outs, pings, refreshes. The first call starts everything."""
        self._calls.expire(now)
        self._refresh.poll(now)
        self._neighbours.poll(now)
        return self._outbox.take_events()

    def take_packets(self) -> list[tuple[bytes, Address]]:
        """Return what is to be sent now: after each other call."""
        return self._outbox.take_packets()

    def opened(self, address: Address, now: float) -> None:
        """Learn that a dial has come through: what was sent to this address is on its way from now on."""
        self._calls.opened(address, now)

    def close_address(
        self, address: Address, now: float, failure: Failure = Failure.UNREACHABLE
    ) -> list[Event]:
        """Forget the sessions of a stream that ended, and end the requests to what cannot be dialed.

        Args:
            address: of the stream, or what was to be dialed.
            now: seconds of the clock.
            failure: how those requests end: UNREACHABLE counts against the node; so does TIMEOUT, for a dial
                that we gave up, but a lookup may then try again; LOST, for a stream that was there, makes it
                be pinged soon; BUSY, for a fault of our own, does nothing to it.
        """
        self._occupants.release(address)
        self._codec.sessions.drop_address(address)
        self._codec.challenges.drop_address(address)
        self._calls.close_address(address, now, failure)
        return self._outbox.take_events()

    def contact(self, node: Node | NodeRecord) -> Contact:
        """Return the contact of a node on this network.

        Args:
            node: its verified record; or a Node that may have none, as one given by its enode: its endpoints
                count then, with the port that packets go to.
        """
        if isinstance(node, NodeRecord):
            return self._contacts.of(node)
        if node.record is not None:
            return self._contacts.of(node.record)
        return Contact.by_key(node.public_key, self._network.choose(node.endpoints))

    def add_bootnode(self, node: Node | NodeRecord) -> None:
        """Enter the network by this node, now and whenever the table is refreshed; see `contact`.

        One without a record is asked for it, and enters the table when the record names the address that it
        answered on.
        """
        self._refresh.add_bootnode(self.contact(node))

    def add_node(self, node: Node | NodeRecord, now: float) -> None:
        """Tell of a node known from elsewhere, such as a node database; see `contact`."""
        self._neighbours.heard(self.contact(node), None, now)

    def register_talk(self, protocol: bytes) -> None:
        """Let requests of a protocol come as TalkRequest events; all others get the empty answer."""
        self._answers.protocols.add(protocol)

    def respond_talk(self, request: TalkRequest, payload: bytes) -> bool:
        """Answer a TalkRequest with at most `MAX_TALK` bytes; returns False if its session is gone."""
        return self._answers.respond_talk(request, payload)

    def ping(self, to: Contact, now: float) -> int:
        """Send a PING; its RequestDone carries a Ponged."""
        return self._requested(to, partial(self._asker.ping, to), now)

    def findnode(self, to: Contact, distances: tuple[int, ...], now: float) -> int:
        """Ask for nodes at distances; its RequestDone carries a tuple of contacts."""
        return self._requested(to, partial(self._asker.findnode, to, distances), now)

    def talkreq(self, to: Contact, protocol: bytes, payload: bytes, now: float) -> int:
        """Send a TALKREQ; its RequestDone carries the answer's bytes.

        Raises:
            ValueError: protocol and payload together are over `MAX_TALK` - 1 bytes.
        """
        if len(protocol) + len(payload) >= MAX_TALK:
            raise ValueError(f"a TALKREQ carries at most {MAX_TALK - 1} bytes")
        return self._requested(to, partial(self._asker.talkreq, to, protocol, payload), now)

    def lookup(self, target: NodeId, now: float, known: Sequence[Contact] = ()) -> int:
        """Search for the nodes nearest to a target; ends with LookupDone. known: more nodes to begin with."""
        self._requests += 1
        request = self._requests

        def done(lookup: Lookup, _now: float) -> None:
            self._outbox.emit(LookupDone(request, target, lookup.result, lookup.asked, lookup.hops))

        if not self._searches.begin(target, done, now, known):
            self._outbox.emit(RequestFailed(request, None, Failure.BUSY))
        return request

    def may_dial(self, contact: Contact, now: float) -> bool:
        """Count a first call against the budget of its host; ask before calling what strangers told of."""
        return contact.address is not None and self._neighbours.may_dial(contact, now)

    def _requested(self, to: Contact, begin: Callable[..., Failure | None], now: float) -> int:
        self._requests += 1
        request = self._requests

        def done(call: Call, outcome: Outcome, _now: float) -> None:
            if isinstance(outcome, Failure):
                self._outbox.emit(RequestFailed(request, call.contact, outcome))
            else:
                self._outbox.emit(RequestDone(request, call.contact, outcome))

        failure = begin(done, now)
        if failure is not None:
            self._outbox.emit(RequestFailed(request, to, failure))
        return request

    def _ordinary(self, packet: Packet, source: Address, now: float) -> None:
        node = NodeId(packet.auth)
        if node == self._own_id:
            raise Refusal(Reason.SELF, "packet from ourselves")
        session = self._codec.sessions.get((node, source))
        plaintext = None if session is None else self._codec.open(session, packet)
        if session is None or plaintext is None:
            answer = self._codec.challenge(node, source, packet.nonce, self._known(node), now)
            self._outbox.send(answer, source)
            self._outbox.traffic.challenges += 1
        else:
            self._message(session, plaintext, now)

    def _handshake(self, packet: Packet, source: Address, now: float) -> None:
        accepted = self._codec.accept(packet, source, now)
        contact = accepted.session.contact
        self._claim(contact.node_id, source)
        self._outbox.emit(SessionEstablished(contact, incoming=True))
        self._neighbours.introduced(contact, now)
        self._message(accepted.session, accepted.plaintext, now)

    def _claim(self, node: NodeId, source: Address) -> None:
        if self._network.is_exclusive(source) and not self._occupants.claim(source, node):
            self._codec.sessions.drop((node, source))
            raise Refusal(Reason.HANDSHAKE, "another node is at the end of this stream")

    def _message(self, session: Session, plaintext: bytes, now: float) -> None:
        message = messages.decode(plaintext)
        self._outbox.traffic.received[KINDS[plaintext[0]]] += 1
        node, source = session.contact.node_id, session.contact.address
        self._claim(node, source)
        match message:
            case Ping():
                self._answers.ping(session, message)
            case FindNode():
                self._answers.findnode(session, message)
            case TalkReq():
                self._answers.talkreq(session, message)
            case Pong():
                self._asker.pong(node, source, message, now)
            case Nodes():
                self._asker.nodes(node, source, message, now)
            case TalkResp():
                self._asker.talkresp(node, source, message, now)

    def _known(self, node: NodeId) -> Contact | None:
        entry = self.table.entries.get(node)
        return self._calls.contact_of(node) if entry is None else entry.contact

    def _uniform(self) -> float:
        return int.from_bytes(self._rand(_UNIFORM_BYTES), "big") / (1 << 8 * _UNIFORM_BYTES)

    def _pick(self, count: int) -> int:
        return int(self._uniform() * count)
