"""Provider records: "this node provides this key until then", signed. Spec: docs/specs/provider-dht.md.

The key is not in the record, since whoever asks knows it; it is under the signature, so that a record is
worth nothing for another key. Expiry counts whole hours: a finer one would tell one clock from another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.primitives import rlp
from relay.primitives.enr import MAX_SIZE as MAX_ENR
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeId, NodeKey, verify
from relay.protocols.dht.keys import Key
from relay.protocols.discv5.contact import ContactCache
from relay.protocols.discv5.networks import Address

__all__ = [
    "HOUR",
    "LIFETIME",
    "MAX_RECORD",
    "ProviderRecord",
    "RecordCache",
    "expiry_at",
    "is_current",
    "signed",
]

HOUR: Final = 3600  # seconds
LIFETIME: Final = 24  # hours that a record may live
SLACK: Final = 1  # hours beyond it that are accepted: clocks differ
MAX_RECORD: Final = 3 + MAX_ENR + 5 + 66  # bytes: list header, ENR, hour, signature
_DOMAIN: Final = b"discv5 provider record v1"
_MAX_HOUR: Final = 4  # bytes


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ProviderRecord:
    """A record whose signatures have been checked, or that we signed.

    Attributes:
        key: what is provided.
        enr: the provider.
        address: where it is called on the network that the record was read for; None: not on this network.
        hour: whole hours since 1970 at which the record expires.
        raw: the encoded record.
    """

    key: Key
    enr: NodeRecord
    address: Address | None
    hour: int
    raw: bytes

    @classmethod
    def sign(
        cls, node: NodeKey, key: Key, enr: NodeRecord, hour: int, address: Address | None = None
    ) -> ProviderRecord:
        """Make our own record; the ENR must be of the same node key."""
        assert enr.public_key == node.public_key
        fields = enr.raw + rlp.encode(hour) + rlp.encode(node.sign(signed(key, enr.raw, hour)))
        return cls(key, enr, address, hour, rlp.list_header(len(fields)) + fields)

    @classmethod
    def read(cls, raw: bytes, key: Key, contacts: ContactCache) -> ProviderRecord:
        """Read a record and check both signatures; not whether it is current.

        Raises:
            DecodeError: bad RLP, a bad ENR, or a signature that does not fit the key.
        """
        is_list, start, end = rlp.read_header(raw, 0, len(raw))
        items = rlp.list_items(raw, start, end) if is_list else []
        if len(items) != 3 or end != len(raw):
            raise DecodeError("a provider record is a list of ENR, expiry and signature")
        first, second, third = (raw[begin:stop] for begin, stop in items)
        hour = rlp.to_int(rlp.decode(second, max_depth=0), _MAX_HOUR)
        signature = rlp.expect_bytes(rlp.decode(third, max_depth=0), 64)
        contact = contacts.get(first)
        if not verify(signed(key, first, hour), signature, contact.record.public_key):
            raise DecodeError("provider record: the signature does not fit")
        return cls(key, contact.record, contact.address, hour, bytes(raw))

    @property
    def node_id(self) -> NodeId:
        """The provider's node id."""
        return self.enr.node_id

    @property
    def expiry(self) -> int:
        """Unix seconds from which on the record is void."""
        return self.hour * HOUR

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProviderRecord) and (self.key, self.raw) == (other.key, other.raw)

    def __hash__(self) -> int:
        return hash((self.key, self.raw))

    def __repr__(self) -> str:
        return f"ProviderRecord(key={self.key.hex()[:16]}..., node_id={self.node_id.hex()[:16]}...)"


class RecordCache:
    """Records by their bytes, each verified once; the oldest go first when it is full.

    Several layers of one network class may share a cache.
    """

    __slots__ = ("_contacts", "_records", "_size")

    def __init__(self, contacts: ContactCache, size: int) -> None:
        self._contacts = contacts
        self._size = size
        self._records: dict[tuple[bytes, bytes], ProviderRecord] = {}

    def __len__(self) -> int:
        return len(self._records)

    def get(self, raw: bytes, key: Key) -> ProviderRecord:
        """Return the record of these bytes; raises DecodeError as `ProviderRecord.read`."""
        record = self._records.get((key, raw))
        if record is None:
            if len(raw) > MAX_RECORD:
                raise DecodeError(f"a provider record has at most {MAX_RECORD} bytes, found {len(raw)}")
            record = ProviderRecord.read(raw, key, self._contacts)
            if len(self._records) >= self._size:
                del self._records[next(iter(self._records))]
            self._records[key, record.raw] = record
        return record


def signed(key: Key, enr: bytes, hour: int) -> bytes:
    """Return the digest that a provider signs."""
    return keccak256(_DOMAIN + key + hour.to_bytes(8, "big") + keccak256(enr))


def expiry_at(unix: float) -> int:
    """Return the hour that a record made now is to carry: 23 to 24 hours ahead."""
    return int(unix) // HOUR + LIFETIME


def is_current(hour: int, unix: float) -> bool:
    """Tell whether a record of this hour is neither expired nor too far ahead."""
    return unix < hour * HOUR <= unix + (LIFETIME + SLACK) * HOUR
