"""Session keys and open challenges, bounded. Spec: discv5-theory.md, "Session Cache".

Both are kept by (node id, address): a session is worth nothing on another address, and on streams it dies
with the stream.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeAlias

from relay.primitives.keys import NodeId
from relay.protocols.discv5.contact import Contact
from relay.protocols.discv5.crypto import Aead, Mask, Suite
from relay.protocols.discv5.networks import Address

__all__ = ["Challenge", "Challenges", "Occupants", "Session", "SessionKey", "Sessions"]

SessionKey: TypeAlias = tuple[NodeId, Address]

MAX_MESSAGES: Final = 0xFFFFFFFF  # the count is 32 bits of the nonce; discv5-theory.md


class Ciphers:
    """The ciphers of a session, set up."""

    __slots__ = ("mask", "older", "read", "write")

    def __init__(self, suite: Suite, node_id: NodeId, session: Session) -> None:
        self.mask: Mask = suite.mask(node_id)
        self.read: Aead = suite.aead(session.read_key)
        self.write: Aead = suite.aead(session.write_key)
        self.older: Aead | None = None if session.older_key is None else suite.aead(session.older_key)


class Session:
    """Keys for one node on one address.

    Attributes:
        contact: the node's record and the address of this session.
        read_key: what the other side writes with.
        write_key: what we write with.
        older_key: read key of the session before. When both sides begin a handshake at the same time, each
            ends with the session that the other has replaced; with the older key both are readable.
        sent: messages written with write_key.
        ciphers: None until used, and again when too many others are set up.
    """

    __slots__ = ("ciphers", "contact", "older_key", "read_key", "sent", "write_key")

    def __init__(self, contact: Contact, read_key: bytes, write_key: bytes) -> None:
        self.contact = contact
        self.read_key = read_key
        self.write_key = write_key
        self.older_key: bytes | None = None
        self.sent = 0
        self.ciphers: Ciphers | None = None


class Sessions:
    """An LRU of sessions; some have their ciphers set up and take 6 to 9 KB, the others hold keys: 1 KB."""

    __slots__ = ("_at", "_sessions", "_size", "_suite", "_warm", "_warm_size")

    def __init__(self, suite: Suite, size: int, warm: int) -> None:
        self._suite = suite
        self._size = size
        self._warm_size = warm
        self._sessions: OrderedDict[SessionKey, Session] = OrderedDict()
        self._at: dict[Address, tuple[NodeId, ...]] = {}
        self._warm: list[Session] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: SessionKey) -> Session | None:
        """Return a session and mark it as used; one that has written all it may is forgotten."""
        session = self._sessions.get(key)
        if session is None:
            return None
        if session.sent >= MAX_MESSAGES:
            self.drop(key)
            return None
        self._sessions.move_to_end(key)
        return session

    def __contains__(self, key: SessionKey) -> bool:
        return key in self._sessions

    def put(self, key: SessionKey, session: Session) -> None:
        """Store a new session; the one it replaces can still be read."""
        node, address = key
        replaced = self._sessions.pop(key, None)
        if replaced is not None:
            session.older_key = replaced.read_key
            replaced.ciphers = None
        else:
            self._at[address] = (*self._at.get(address, ()), node)
        self._sessions[key] = session
        if len(self._sessions) > self._size:
            oldest = next(iter(self._sessions))
            self._sessions[oldest].ciphers = None
            self.drop(oldest)

    def drop(self, key: SessionKey) -> None:
        """Forget a session."""
        if self._sessions.pop(key, None) is None:
            return
        node, address = key
        others = tuple(each for each in self._at[address] if each != node)
        if others:
            self._at[address] = others
        else:
            del self._at[address]

    def drop_address(self, address: Address) -> None:
        """Forget all sessions on an address: streams end all the time, so it must not take a search."""
        for node in self._at.pop(address, ()):
            del self._sessions[node, address]

    def ciphers(self, session: Session) -> Ciphers:
        """Return the ciphers of a session, set up."""
        if session.ciphers is None:
            # All at once rather than one by one: no order of use has to be kept for each packet.
            if len(self._warm) >= self._warm_size:
                for each in self._warm:
                    each.ciphers = None
                self._warm.clear()
            session.ciphers = Ciphers(self._suite, session.contact.node_id, session)
            self._warm.append(session)
        return session.ciphers


@dataclass(frozen=True, slots=True)
class Challenge:
    """A WHOAREYOU that we sent.

    Attributes:
        data: the challenge data.
        packet: as sent, for sending it again.
        known: the other's record as we have it.
        expires: seconds of the clock.
    """

    data: bytes
    packet: bytes
    known: Contact | None
    expires: float


class Challenges:
    """Open challenges, at most one for each node and address; when full, the oldest goes."""

    __slots__ = ("_challenges", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._challenges: OrderedDict[SessionKey, Challenge] = OrderedDict()

    def __len__(self) -> int:
        return len(self._challenges)

    def get(self, key: SessionKey, now: float) -> Challenge | None:
        """Return the open challenge."""
        self._expire(now)
        return self._challenges.get(key)

    def pop(self, key: SessionKey, now: float) -> Challenge | None:
        """Take the open challenge away: it is answered once, well or badly."""
        self._expire(now)
        return self._challenges.pop(key, None)

    def drop_address(self, address: Address) -> None:
        """Forget all challenges on an address."""
        for key in [key for key in self._challenges if key[1] == address]:
            del self._challenges[key]

    def put(self, key: SessionKey, challenge: Challenge) -> None:
        """Store a new challenge."""
        if len(self._challenges) >= self._size:
            self._challenges.popitem(last=False)
        self._challenges[key] = challenge

    def _expire(self, now: float) -> None:
        while self._challenges:
            # All live equally long, so the first one ends first.
            first = next(iter(self._challenges))
            if self._challenges[first].expires > now:
                return
            del self._challenges[first]


class Occupants:
    """Who is at the end of each stream: the first node that proved itself there, until the stream ends.

    Otherwise one stream could carry any number of node ids, and one onion stand for all of them.
    """

    __slots__ = ("_nodes", "_size")

    def __init__(self, size: int) -> None:
        self._nodes: dict[Address, NodeId] = {}
        self._size = size

    def claim(self, address: Address, node: NodeId) -> bool:
        """Say whether a node is the one at this address; the first to ask is."""
        holder = self._nodes.get(address)
        if holder is not None:
            return holder == node
        if len(self._nodes) >= self._size:
            del self._nodes[next(iter(self._nodes))]
        self._nodes[address] = node
        return True

    def release(self, address: Address) -> None:
        """Note that the stream has ended."""
        self._nodes.pop(address, None)
