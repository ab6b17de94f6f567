"""Ethereum node records: signed, versioned descriptions of a node. Spec: enr.md (EIP-778).

A record is kept whole: keys that are unknown here, and entries that are bad, survive and count for the
signature. A known entry that is bad reads as absent, since the rest of the record is still signed truth.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.forkid import ForkId
from relay.primitives.hashing import keccak256
from relay.primitives.i2p import I2PAddress, hash_from_i2p, i2p_from_hash
from relay.primitives.keys import NodeId, NodeKey, PublicKey, compress, decompress, node_id, verify
from relay.primitives.onion import OnionAddress, parse_onion

__all__ = ["MAX_SIZE", "NodeRecord", "build_record"]

MAX_SIZE: Final = 300  # bytes; enr.md, RLP encoding
PREFIX: Final = "enr:"
_TEXT: Final = re.compile(r"enr:([A-Za-z0-9_-]{1,400})")  # 300 bytes are 400 characters


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NodeRecord:
    """A record whose signature has been checked, or that we signed.

    Attributes:
        seq: goes up with each change.
        pairs: keys in order, with decoded RLP values; a key is text in Latin-1, which keeps any byte.
        public_key: the identity that signed.
        node_id: keccak256 of it.
        raw: the encoded record.
    """

    seq: int
    pairs: Mapping[str, rlp.RLPItem]
    public_key: PublicKey
    node_id: NodeId
    raw: bytes

    @classmethod
    def sign(cls, key: NodeKey, seq: int, pairs: Mapping[str, rlp.Encodable]) -> NodeRecord:
        """Make a record; the entries id and secp256k1 are filled in.

        Raises:
            DecodeError: it would be over 300 bytes.
        """
        entries: dict[str, rlp.Encodable] = {**pairs, "id": "v4", "secp256k1": compress(key.public_key)}
        flat = b"".join(
            rlp.encode(name.encode("latin-1")) + rlp.encode(entries[name]) for name in sorted(entries)
        )
        content = rlp.encode(seq) + flat
        signature = key.sign(keccak256(rlp.list_header(len(content)) + content))
        payload = rlp.encode(signature) + content
        raw = rlp.list_header(len(payload)) + payload
        if len(raw) > MAX_SIZE:
            raise DecodeError(f"a node record has at most {MAX_SIZE} bytes; this one would have {len(raw)}")
        decoded = rlp.expect_list(rlp.decode(raw))
        return cls(seq, _pairs(decoded), key.public_key, key.node_id, raw)

    @classmethod
    def from_rlp(cls, data: bytes) -> NodeRecord:
        """Read a record and check its signature.

        Raises:
            DecodeError: over 300 bytes, bad RLP, keys unsorted or twice, another identity scheme than v4,
                or a signature that does not fit.
        """
        if len(data) > MAX_SIZE:
            raise DecodeError(f"a node record has at most {MAX_SIZE} bytes, found {len(data)}")
        data = bytes(data)
        items = rlp.expect_list(rlp.decode(data))
        if len(items) < 2 or len(items) % 2:
            raise DecodeError("a node record is a signature, a sequence number, and pairs of key and value")
        signature, seq, pairs = rlp.expect_bytes(items[0], 64), rlp.to_int(items[1], 8), _pairs(items)
        if pairs.get("id") != b"v4":
            raise DecodeError("node record: identity scheme is not v4")
        public_key = decompress(rlp.expect_bytes(pairs.get("secp256k1", b"")))
        if not verify(_signed_digest(data), signature, public_key):
            raise DecodeError("node record: the signature does not fit")
        return cls(seq, pairs, public_key, node_id(public_key), data)

    @classmethod
    def from_text(cls, text: str) -> NodeRecord:
        """Read "enr:" and URL-safe base64 without padding.

        Raises:
            DecodeError: not that form, or see `from_rlp`.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise DecodeError('a node record in text is "enr:" and up to 400 characters of URL-safe base64')
        try:
            data = base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4))
        except binascii.Error:
            raise DecodeError("node record: base64 is cut off") from None
        return cls.from_rlp(data)

    def to_rlp(self) -> bytes:
        """Return the encoded record."""
        return self.raw

    def to_text(self) -> str:
        """Return the record as text: enr:..."""
        return PREFIX + base64.urlsafe_b64encode(self.raw).rstrip(b"=").decode()

    @property
    def signature(self) -> bytes:
        """64 bytes; cut out of `raw`, since tables hold thousands of records."""
        _, start, end = rlp.read_header(self.raw, 0, len(self.raw))
        _, begin, stop = rlp.read_header(self.raw, start, end)
        return self.raw[begin:stop]

    @property
    def ip(self) -> str | None:
        """IPv4 address."""
        value = self.pairs.get("ip")
        return str(ipaddress.IPv4Address(value)) if isinstance(value, bytes) and len(value) == 4 else None

    @property
    def ip6(self) -> str | None:
        """IPv6 address."""
        value = self.pairs.get("ip6")
        return str(ipaddress.IPv6Address(value)) if isinstance(value, bytes) and len(value) == 16 else None

    @property
    def tcp(self) -> int | None:
        """TCP port, of IPv4 and of the onion service."""
        return self._port("tcp")

    @property
    def tcp6(self) -> int | None:
        """TCP port of IPv6 where it differs."""
        return self._port("tcp6")

    @property
    def udp(self) -> int | None:
        """UDP port."""
        return self._port("udp")

    @property
    def udp6(self) -> int | None:
        """UDP port of IPv6 where it differs."""
        return self._port("udp6")

    @property
    def onion3(self) -> OnionAddress | None:
        """Onion address; None as well when the entry is bad, which voids the entry and not the record."""
        value = self.pairs.get("onion3")
        if not isinstance(value, bytes):
            return None
        try:
            return parse_onion(value.decode("latin-1"))
        except DecodeError:
            return None

    @property
    def i2p(self) -> I2PAddress | None:
        """I2P address: the entry is the 32-byte hash of the destination. It has no port."""
        value = self.pairs.get("i2p")
        return i2p_from_hash(value) if isinstance(value, bytes) and len(value) == 32 else None

    @property
    def fork_id(self) -> ForkId | None:
        """The `eth` entry: [[hash, next], ...]; what follows the first item is tolerated. Spec: eth.md."""
        value = self.pairs.get("eth")
        if not isinstance(value, list) or not value:
            return None
        try:
            return ForkId.from_item(value[0])
        except DecodeError:
            return None

    def _port(self, key: str) -> int | None:
        try:
            port = rlp.to_int(self.pairs.get(key, b""), 2)
        except DecodeError:
            return None
        return port or None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeRecord) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"NodeRecord(node_id={self.node_id.hex()[:16]}..., seq={self.seq})"


def build_record(
    key: NodeKey,
    seq: int,
    *,
    ip: str | None = None,
    ip6: str | None = None,
    tcp: int | None = None,
    tcp6: int | None = None,
    udp: int | None = None,
    udp6: int | None = None,
    onion3: OnionAddress | None = None,
    i2p: I2PAddress | None = None,
    fork_id: ForkId | None = None,
    extra: Mapping[str, rlp.Encodable] | None = None,
) -> NodeRecord:
    """Sign a record of the entries that are given.

    Args:
        key: signs it and is its identity.
        seq: its sequence number.
        ip: IPv4 literal.
        ip6: IPv6 literal.
        tcp: TCP port, of the onion service too.
        tcp6: TCP port of IPv6 if it is another one.
        udp: UDP port.
        udp6: UDP port of IPv6 if it is another one.
        onion3: address that is really served.
        i2p: likewise.
        fork_id: becomes the `eth` entry.
        extra: entries of other names.

    Raises:
        DecodeError: over 300 bytes, or an address that is none.
    """
    entries: dict[str, rlp.Encodable | None] = {
        **(extra or {}),
        "eth": None if fork_id is None else [fork_id.to_item()],
        "i2p": None if i2p is None else hash_from_i2p(i2p),
        "ip": None if ip is None else _packed(ip, 4),
        "ip6": None if ip6 is None else _packed(ip6, 16),
        "onion3": onion3,
        "tcp": tcp,
        "tcp6": tcp6,
        "udp": udp,
        "udp6": udp6,
    }
    return NodeRecord.sign(key, seq, {name: value for name, value in entries.items() if value is not None})


def _packed(text: str, size: int) -> bytes:
    try:
        packed = ipaddress.ip_address(text).packed
    except ValueError:
        raise DecodeError(f"{text[:64]!r} is not an IP address") from None
    if len(packed) != size:
        raise DecodeError(f"{text!r} is an IP address of the other version")
    return packed


def _pairs(items: list[rlp.RLPItem]) -> dict[str, rlp.RLPItem]:
    keys = [rlp.expect_bytes(key) for key in items[2::2]]
    # Strictly ascending is sorted and unique in one.
    if any(later <= earlier for earlier, later in pairwise(keys)):
        raise DecodeError("node record: keys are not sorted and unique")
    return {key.decode("latin-1"): value for key, value in zip(keys, items[3::2], strict=True)}


def _signed_digest(data: bytes) -> bytes:
    """Hash what is signed: the record as a list without its first item, the signature."""
    _, start, end = rlp.read_header(data, 0, len(data))
    content = data[rlp.read_header(data, start, end)[2] :]
    return keccak256(rlp.list_header(len(content)) + content)
