"""Makes requests, and judges what nodes answer about others."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId
from relay.protocols.discv5.contact import Contact, ContactCache
from relay.protocols.discv5.distance import log_distance
from relay.protocols.discv5.events import EndpointVote, Failure, Ponged, Refused
from relay.protocols.discv5.messages import FindNode, Kind, Nodes, Ping, Pong, TalkReq, TalkResp
from relay.protocols.discv5.networks import ITSELF, NetworkClass
from relay.protocols.discv5.outbox import Outbox
from relay.protocols.discv5.packet import Reason
from relay.protocols.discv5.requests import Call, Calls, Done

__all__ = ["Asker"]

_REQUEST_ID: Final = 8  # bytes
_MAX_FOUND: Final = 32  # nodes of one answer; asked for are 16


class Asker:
    """Sends requests through `Calls` and takes their responses."""

    __slots__ = ("_calls", "_contacts", "_network", "_outbox", "_own", "_own_record", "_rand")

    def __init__(
        self,
        calls: Calls,
        contacts: ContactCache,
        outbox: Outbox,
        network: NetworkClass,
        own_record: Callable[[], NodeRecord],
        rand: Callable[[int], bytes],
    ) -> None:
        self._calls = calls
        self._contacts = contacts
        self._outbox = outbox
        self._network = network
        self._own_record = own_record
        self._rand = rand
        self._own: Contact | None = None

    def ping(self, to: Contact, done: Done, now: float, teller: Hashable = ITSELF) -> Failure | None:
        """Send or queue a PING; returns why not, then without calling done."""
        request_id = self._rand(_REQUEST_ID)
        plaintext = Ping(request_id, self._own_record().seq).encode()
        return self._calls.begin(Call(to, Kind.PING, request_id, plaintext, done, teller), now)

    def findnode(
        self, to: Contact, distances: tuple[int, ...], done: Done, now: float, teller: Hashable = ITSELF
    ) -> Failure | None:
        """Send or queue a FINDNODE; see `ping`."""
        request_id = self._rand(_REQUEST_ID)
        plaintext = FindNode(request_id, distances).encode()
        call = Call(to, Kind.FINDNODE, request_id, plaintext, done, teller)
        call.distances = distances
        return self._calls.begin(call, now)

    def talkreq(self, to: Contact, protocol: bytes, payload: bytes, done: Done, now: float) -> Failure | None:
        """Send or queue a TALKREQ; see `ping`."""
        request_id = self._rand(_REQUEST_ID)
        plaintext = TalkReq(request_id, protocol, payload).encode()
        return self._calls.begin(Call(to, Kind.TALKREQ, request_id, plaintext, done), now)

    def pong(self, node: NodeId, source: Hashable, message: Pong, now: float) -> None:
        """Take a PONG; raises Refusal if it was not asked for."""
        call = self._calls.match(node, source, message.request_id, Kind.PONG)
        if self._network.votes(source):
            self._outbox.emit(EndpointVote(source, message.ip, message.port))
        self._calls.finish(call, Ponged(message.enr_seq, message.ip, message.port), now)

    def nodes(self, node: NodeId, source: Hashable, message: Nodes, now: float) -> None:
        """Take a part of the answer to FINDNODE; raises Refusal if it was not asked for."""
        call = self._calls.match(node, source, message.request_id, Kind.NODES)
        for raw in message.records:
            if len(call.found) >= _MAX_FOUND or not self._take(call, raw):
                break
        if self._calls.partly(call, message.total, now):
            self._calls.finish(call, tuple(call.found.values()), now)

    def talkresp(self, node: NodeId, source: Hashable, message: TalkResp, now: float) -> None:
        """Take a TALKRESP; raises Refusal if it was not asked for."""
        call = self._calls.match(node, source, message.request_id, Kind.TALKRESP)
        self._calls.finish(call, message.payload, now)

    def is_ours(self, contact: Contact) -> bool:
        """Whether a node is ourselves, or says that it lives at our address."""
        record, own = self._own_record(), self._own
        if own is None or own.record.raw is not record.raw:
            own = self._own = self._contacts.of(record)
        if contact.node_id == own.node_id:
            return True
        address, own_address = contact.address, own.address
        return address is not None and own_address is not None and self._network.is_ours(address, own_address)

    def _take(self, call: Call, raw: bytes) -> bool:
        """Keep a record of an answer if it is of use; returns whether to look at the ones after it."""
        try:
            contact = self._contacts.get(raw)
        except DecodeError:
            # Checking signatures is dear, so one bad record ends what is read of the packet.
            self._refuse(call, Reason.RECORD)
            return False
        node, told_by = contact.node_id, call.contact.node_id
        if log_distance(told_by, node) not in call.distances or node in call.found:
            self._refuse(call, Reason.DISTANCE)
        elif (node == told_by and contact.address is None) or self._is_usable(contact, call):
            call.found[node] = contact
        return True

    def _is_usable(self, contact: Contact, call: Call) -> bool:
        address = contact.address
        if (
            address is None
            or not self._network.may_hear(address, call.contact.address)
            or self.is_ours(contact)
        ):
            if contact.node_id != self._own_record().node_id:
                self._refuse(call, Reason.ADDRESS)
            return False
        return True

    def _refuse(self, call: Call, reason: Reason) -> None:
        self._outbox.emit(Refused(reason, call.contact.address))
