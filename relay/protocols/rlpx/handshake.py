"""The RLPx handshake (EIP-8): auth one way, ack the other, then both sides hold the same secrets.

Both machines take whole packets; `packet_length` says from the first two bytes how long one is.
What EIP-8 asks to tolerate is tolerated: any version number, further list items, bytes after the list.
Spec: rlpx.md, "Initial Handshake".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from relay.primitives import rlp
from relay.primitives.errors import DecodeError, HandshakeFailed
from relay.primitives.hashing import Keccak256, keccak256
from relay.primitives.keys import NodeKey, PublicKey, parse_public_key, recover
from relay.protocols.rlpx import ecies

__all__ = ["MAX_PACKET", "PREFIX", "Initiator", "Recipient", "Secrets", "packet_length"]

PREFIX: Final = 2  # bytes of the size in front of auth and ack
MAX_PACKET: Final = 2048  # bytes after the size, as geth (p2p/rlpx/rlpx.go, readMsg)
VERSION: Final = 4  # auth-vsn and ack-vsn
MIN_PADDING: Final = 100  # bytes; EIP-8: tells the packet from those before EIP-8
_PADDING_SPREAD: Final = 100  # bytes; our padding is MIN_PADDING and up to so many more, as geth's
_NONCE: Final = 32
_SIGNATURE: Final = 65
_PUBLIC: Final = 64


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """What the handshake gives to the framing.

    Attributes:
        aes: key of both cipher streams, 32 bytes.
        mac: key of the MAC's block cipher, 32 bytes.
        egress: running Keccak-256 of what is sent.
        ingress: running Keccak-256 of what is received.
    """

    aes: bytes
    mac: bytes
    egress: Any
    ingress: Any


def packet_length(prefix: bytes) -> int:
    """Return how many bytes follow the two of the size prefix.

    Raises:
        HandshakeFailed: no handshake packet has this size; said before anything more is read.
    """
    size = int.from_bytes(prefix, "big")
    if not ecies.OVERHEAD < size <= MAX_PACKET:
        raise HandshakeFailed(f"no handshake packet has {size} bytes")
    return size


class Initiator:
    """The side that opened the connection.

    Attributes:
        auth: the packet to send first.
        remote_public: the key that was dialed; only its holder can answer.
    """

    __slots__ = ("_ephemeral", "_key", "_nonce", "auth", "remote_public")

    def __init__(self, key: NodeKey, remote_public: PublicKey, rand: Callable[[int], bytes]) -> None:
        self._key = key
        self._nonce = rand(_NONCE)
        self._ephemeral = NodeKey.generate(rand)
        self.remote_public = remote_public
        token = _xor(key.ecdh(remote_public), self._nonce)
        signature = self._ephemeral.sign_recoverable(token)
        self.auth = _seal((signature, key.public_key, self._nonce, VERSION), remote_public, rand)

    def receive(self, ack: bytes) -> Secrets:
        """Take the recipient's packet with its size prefix and return the secrets.

        Raises:
            HandshakeFailed: it is not sealed for us, or holds anything but an ack.
        """
        try:
            ephemeral, nonce = _open(self._key, ack, (_PUBLIC, _NONCE))
            shared = self._ephemeral.ecdh(parse_public_key(ephemeral))
        except DecodeError as error:
            raise HandshakeFailed(f"bad ack: {error}") from None
        aes, mac = _derive(shared, self._nonce, nonce)
        return Secrets(aes, mac, _mac(mac, nonce, self.auth), _mac(mac, self._nonce, ack))


class Recipient:
    """The side that accepted the connection. On a bad auth it has nothing to say: it must not be probed."""

    __slots__ = ("_key", "_rand", "ack", "remote_public")

    def __init__(self, key: NodeKey, rand: Callable[[int], bytes]) -> None:
        self._key = key
        self._rand = rand
        self.ack = b""
        self.remote_public = PublicKey(b"")

    def receive(self, auth: bytes) -> Secrets:
        """Take the initiator's packet with its size prefix; afterwards `ack` and `remote_public` are set.

        Raises:
            HandshakeFailed: it is not sealed for us, holds anything but an auth, or its signature is none.
        """
        try:
            signature, public, nonce = _open(self._key, auth, (_SIGNATURE, _PUBLIC, _NONCE))
            remote = parse_public_key(public)
            token = _xor(self._key.ecdh(remote), nonce)
            remote_ephemeral = recover(token, signature)
        except DecodeError as error:
            raise HandshakeFailed(f"bad auth: {error}") from None
        own_nonce = self._rand(_NONCE)
        ephemeral = NodeKey.generate(self._rand)
        self.remote_public = remote
        self.ack = _seal((ephemeral.public_key, own_nonce, VERSION), remote, self._rand)
        aes, mac = _derive(ephemeral.ecdh(remote_ephemeral), nonce, own_nonce)
        return Secrets(aes, mac, _mac(mac, nonce, self.ack), _mac(mac, own_nonce, auth))


def _seal(fields: tuple[bytes | int, ...], to: PublicKey, rand: Callable[[int], bytes]) -> bytes:
    padding = rand(MIN_PADDING + rand(1)[0] % _PADDING_SPREAD)
    plaintext = rlp.encode(fields) + padding
    prefix = (len(plaintext) + ecies.OVERHEAD).to_bytes(PREFIX, "big")
    return prefix + ecies.encrypt(to, plaintext, prefix, rand)


def _open(key: NodeKey, packet: bytes, sizes: tuple[int, ...]) -> list[bytes]:
    """Return the fixed-size fields in front of the version number; what follows it is for later versions."""
    plain = ecies.decrypt(key, packet[PREFIX:], packet[:PREFIX])
    is_list, start, end = rlp.read_header(plain, 0, len(plain))
    items = rlp.list_items(plain, start, end)
    if not is_list or len(items) <= len(sizes):
        raise DecodeError("expected a list of the handshake's fields")
    fields = [_string(plain, *item) for item in items[: len(sizes) + 1]]
    rlp.to_int(fields.pop(), 8)
    if tuple(map(len, fields)) != sizes:
        raise DecodeError("a field of the handshake has a wrong length")
    return fields


def _string(data: bytes, pos: int, end: int) -> bytes:
    is_list, start, stop = rlp.read_header(data, pos, end)
    if is_list:
        raise DecodeError("a field of the handshake is a list")
    return data[start:stop]


def _derive(ephemeral_shared: bytes, initiator_nonce: bytes, recipient_nonce: bytes) -> tuple[bytes, bytes]:
    """Return aes-secret and mac-secret."""
    shared = keccak256(ephemeral_shared + keccak256(recipient_nonce + initiator_nonce))
    aes = keccak256(ephemeral_shared + shared)
    return aes, keccak256(ephemeral_shared + aes)


def _mac(mac_secret: bytes, nonce: bytes, packet: bytes) -> Any:  # noqa: ANN401  the hash object has no stubs
    """Return a MAC's first state: the receiver's nonce, then the packet, which includes its size prefix."""
    return Keccak256(_xor(mac_secret, nonce) + packet)


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")
