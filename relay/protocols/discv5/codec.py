"""Packets sealed and opened: sessions, challenges and the handshake, over the wire forms of `packet`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag

from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId, NodeKey
from relay.protocols.discv5 import packet as wire
from relay.protocols.discv5.contact import Contact, ContactCache
from relay.protocols.discv5.crypto import Mask, Suite
from relay.protocols.discv5.messages import Ping
from relay.protocols.discv5.networks import Address
from relay.protocols.discv5.options import Options
from relay.protocols.discv5.packet import HandshakeAuth, Packet, Reason, Refusal
from relay.protocols.discv5.session import Challenge, Challenges, Session, Sessions

__all__ = ["Accepted", "Codec"]

_RANDOM_MESSAGE = 20  # bytes; go-ethereum randomPacketMsgSize: no less than a real message


@dataclass(frozen=True, slots=True)
class Accepted:
    """A handshake that held: the new session and the message that came with it."""

    session: Session
    plaintext: bytes


class Codec:
    """All packets of one node key."""

    __slots__ = (
        "_contacts",
        "_key",
        "_lifetime",
        "_mask",
        "_own_record",
        "_rand",
        "_suite",
        "challenges",
        "sessions",
    )

    def __init__(
        self,
        key: NodeKey,
        own_record: Callable[[], NodeRecord],
        contacts: ContactCache,
        suite: Suite,
        options: Options,
        rand: Callable[[int], bytes],
    ) -> None:
        self._key = key
        self._own_record = own_record
        self._contacts = contacts
        self._suite = suite
        self._lifetime = options.challenge_lifetime
        self._rand = rand
        self._mask: Mask = suite.mask(key.node_id)
        self.sessions = Sessions(suite, options.sessions, options.warm_sessions)
        self.challenges = Challenges(options.challenges)

    def parse(self, data: bytes) -> Packet:
        """Unmask a packet; raises Refusal."""
        return wire.parse(data, self._mask)

    def open(self, session: Session, packet: Packet) -> bytes | None:
        """Return the plaintext of a message; None: it is not written with the keys of this session."""
        ciphers = self.sessions.ciphers(session)
        try:
            return ciphers.read.decrypt(packet.nonce, packet.message, packet.header)
        except InvalidTag:
            pass
        if ciphers.older is None:
            return None
        try:
            return ciphers.older.decrypt(packet.nonce, packet.message, packet.header)
        except InvalidTag:
            return None

    def seal(self, session: Session, plaintext: bytes) -> tuple[bytes, bytes]:
        """Return an ordinary packet over a session, and its nonce."""
        ciphers = session.ciphers or self.sessions.ciphers(session)
        random = self._rand(24)
        nonce = self._nonce(session, random[16:])
        header = wire.message_header(random[:16], nonce, self._key.node_id)
        message = ciphers.write.encrypt(nonce, plaintext, header)
        return wire.protect(header, ciphers.mask, message), nonce

    def seal_unreadable(self, to: NodeId) -> tuple[bytes, bytes]:
        """Return a packet of noise, and its nonce: without keys it asks for a challenge."""
        random = self._rand(28 + _RANDOM_MESSAGE)
        nonce = random[16:28]
        header = wire.message_header(random[:16], nonce, self._key.node_id)
        return wire.protect(header, self._suite.mask(to), random[28:]), nonce

    def challenge(
        self, node: NodeId, source: Address, nonce: bytes, known: Contact | None, now: float
    ) -> bytes:
        """Return the WHOAREYOU for a packet that could not be read.

        While one is open it is sent again, since its answer may be under way: a second one would void it.
        """
        key = (node, source)
        challenge = self.challenges.get(key, now)
        if challenge is None:
            random = self._rand(32)
            seq = 0 if known is None else known.record.seq
            data = wire.whoareyou_header(random[:16], nonce, random[16:], seq)
            packet = wire.protect(data, self._suite.mask(node))
            challenge = Challenge(data, packet, known, now + self._lifetime)
            self.challenges.put(key, challenge)
        return challenge.packet

    def answer(self, challenge: Packet, to: Contact, plaintext: bytes) -> tuple[list[bytes], bytes]:
        """Answer a WHOAREYOU with a handshake packet that carries the request; begins a new session.

        Returns:
            The packet, or two of them: a request that does not fit beside the proof and the record follows by
            itself; and the nonce of the packet with the request.
        """
        begun = self._suite.initiate(self._key, to.record.public_key, challenge.header, self._rand)
        session = Session(to, begun.keys.recipient, begun.keys.initiator)
        self.sessions.put((to.node_id, to.address), session)
        ciphers = self.sessions.ciphers(session)
        random = self._rand(24)
        nonce = self._nonce(session, random[16:])
        own = self._own_record()
        seq = wire.split_whoareyou(challenge.auth)[1]
        record = own.raw if seq < own.seq else b""
        auth = HandshakeAuth(self._key.node_id, begun.signature, begun.ephemeral, record)
        header = wire.handshake_header(random[:16], nonce, auth)
        if len(header) + len(plaintext) + wire.TAG <= wire.MAX_PACKET:
            message = ciphers.write.encrypt(nonce, plaintext, header)
            return [wire.protect(header, ciphers.mask, message)], nonce
        filler = ciphers.write.encrypt(nonce, Ping(b"", own.seq).encode(), header)
        request, later_nonce = self.seal(session, plaintext)
        return [wire.protect(header, ciphers.mask, filler), request], later_nonce

    def accept(self, packet: Packet, source: Address, now: float) -> Accepted:
        """Take a handshake packet; begins a new session.

        Raises:
            DecodeError: no challenge is open (Refusal), or the answer to it is wrong, which voids it.
        """
        auth = wire.parse_handshake(packet.auth)
        node = NodeId(auth.source)
        challenge = self.challenges.pop((node, source), now)
        if challenge is None:
            raise Refusal(Reason.HANDSHAKE, "no challenge is open for this node and address")
        peer = self._identify(auth, challenge)
        try:
            keys = self._suite.accept(
                self._key, peer.record.public_key, challenge.data, auth.ephemeral, auth.signature
            )
            cipher = self._suite.aead(keys.initiator)
            plaintext = cipher.decrypt(packet.nonce, packet.message, packet.header)
        except (DecodeError, InvalidTag) as error:
            raise Refusal(Reason.HANDSHAKE, f"handshake: {error}") from None
        session = Session(Contact(peer.record, source), keys.initiator, keys.recipient)
        self.sessions.put((node, source), session)
        return Accepted(session, plaintext)

    def _identify(self, auth: HandshakeAuth, challenge: Challenge) -> Contact:
        known = challenge.known
        if not auth.record:
            if known is None or not known.is_known:
                raise Refusal(Reason.RECORD, "a handshake without a record, and we have none")
            return known
        try:
            sent = self._contacts.get(auth.record)
        except DecodeError as error:
            raise Refusal(Reason.RECORD, f"record in a handshake: {error}") from None
        if sent.node_id != auth.source:
            raise Refusal(Reason.RECORD, "the record in a handshake is of another node")
        return known if known is not None and known.record.seq > sent.record.seq else sent

    def _nonce(self, session: Session, random: bytes) -> bytes:
        # 32 bits of count and 64 of randomness, as the specification strongly recommends.
        session.sent += 1
        return session.sent.to_bytes(4, "big") + random
