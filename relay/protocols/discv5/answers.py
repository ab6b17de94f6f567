"""Answers to the requests of others. Spec: discv5-wire.md, "Protocol Messages"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeId
from relay.protocols.discv5.codec import Codec
from relay.protocols.discv5.contact import Contact
from relay.protocols.discv5.events import TalkRequest
from relay.protocols.discv5.messages import (
    FindNode,
    Kind,
    Nodes,
    Ping,
    Pong,
    TalkReq,
    TalkResp,
    split_records,
)
from relay.protocols.discv5.networks import NetworkClass
from relay.protocols.discv5.outbox import Outbox
from relay.protocols.discv5.packet import MAX_PACKET, MESSAGE_OVERHEAD
from relay.protocols.discv5.session import Session
from relay.protocols.discv5.table import Table

__all__ = ["MAX_TALK", "Answers"]

MAX_NODES: Final = 16  # records of an answer; discv5-wire.md, FINDNODE
_NODES_FRAME: Final = 1 + 3 + 9 + 1 + 3  # type, list header, request id, total, list header
_RECORDS_ROOM: Final = MAX_PACKET - MESSAGE_OVERHEAD - _NODES_FRAME
MAX_TALK: Final = MAX_PACKET - MESSAGE_OVERHEAD - 1 - 3 - 9 - 3
"""Bytes of a TALKRESP's payload, and of a TALKREQ's together with its protocol, less one for the latter."""


class Answers:
    """Serves PING, FINDNODE and TALKREQ over an existing session; keeps nothing between them."""

    __slots__ = ("_codec", "_network", "_outbox", "_own_record", "_pick", "_table", "protocols")

    def __init__(
        self,
        codec: Codec,
        outbox: Outbox,
        table: Table,
        network: NetworkClass,
        own_record: Callable[[], NodeRecord],
        pick: Callable[[int], int],
    ) -> None:
        self._codec = codec
        self._outbox = outbox
        self._table = table
        self._network = network
        self._own_record = own_record
        self._pick = pick
        self.protocols: set[bytes] = set()

    def ping(self, session: Session, message: Ping) -> None:
        """Answer with our sequence number and where we see the asker."""
        ip, port = self._network.seen_as(session.contact.address)
        self._send(session, Kind.PONG, Pong(message.request_id, self._own_record().seq, ip, port).encode())

    def findnode(self, session: Session, message: FindNode) -> None:
        """Answer with live nodes at the distances that are asked for, in as few packets as they need."""
        records = [contact.record.raw for contact in self._collect(session, message.distances)]
        parts = split_records(records, _RECORDS_ROOM)
        for part in parts:
            self._send(session, Kind.NODES, Nodes(message.request_id, len(parts), part).encode())

    def talkreq(self, session: Session, message: TalkReq) -> None:
        """Hand on a request of a registered protocol; answer any other with nothing, as the spec demands."""
        if message.protocol in self.protocols:
            event = TalkRequest(session.contact, message.request_id, message.protocol, message.payload)
            self._outbox.emit(event)
        else:
            self._send(session, Kind.TALKRESP, TalkResp(message.request_id, b"").encode())

    def respond_talk(self, request: TalkRequest, payload: bytes) -> bool:
        """Answer a request that was handed on; returns whether the session for it still exists."""
        if len(payload) > MAX_TALK:
            raise ValueError(f"a TALKRESP carries at most {MAX_TALK} bytes, not {len(payload)}")
        session = self._codec.sessions.get((request.contact.node_id, request.contact.address))
        if session is None:
            return False
        self._send(session, Kind.TALKRESP, TalkResp(request.request_id, payload).encode())
        return True

    def _collect(self, session: Session, distances: tuple[int, ...]) -> list[Contact]:
        source, asker = session.contact.address, session.contact.node_id
        found: list[Contact] = []
        for distance in distances:
            if distance == 0:
                found.append(Contact(self._own_record(), None))
            else:
                found += self._tellable(distance, source, asker, MAX_NODES - len(found))
            if len(found) >= MAX_NODES:
                break
        return found

    def _tellable(self, distance: int, source: object, asker: NodeId, room: int) -> list[Contact]:
        nodes = [
            contact
            for contact in self._table.live_at(distance)
            if contact.node_id != asker and self._network.may_tell(contact.record, contact.address, source)
        ]
        # Not always the same ones where there are more than fit.
        while len(nodes) > room:
            del nodes[self._pick(len(nodes))]
        return nodes

    def _send(self, session: Session, kind: Kind, plaintext: bytes) -> None:
        self._outbox.send(self._codec.seal(session, plaintext)[0], session.contact.address)
        self._outbox.traffic.sent[kind] += 1
