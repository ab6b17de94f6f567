"""Who is called, and the records of others, each verified once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from relay.primitives import rlp
from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeId, PublicKey, decompress, node_id
from relay.protocols.discv5.networks import Address

__all__ = ["Contact", "ContactCache"]


@dataclass(frozen=True, slots=True)
class Contact:
    """A node by its record, and where it is called.

    Attributes:
        record: its verified record; a blank one (see `is_known`) while nothing but its key and an address of
            it were given to us.
        address: where packets to it go; None: not to be reached on this network.
        node_id: that of the record, which is asked for many times for each packet.
    """

    record: NodeRecord
    address: Address | None
    node_id: NodeId = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "node_id", self.record.node_id)

    @property
    def is_known(self) -> bool:
        """Whether its record is there: a blank one is number 0 and has no bytes."""
        return bool(self.record.raw)

    @classmethod
    def by_key(cls, public_key: PublicKey, address: Address | None) -> Contact:
        """Make the contact of a node whose record is not known yet."""
        return cls(NodeRecord(0, {}, public_key, node_id(public_key), b""), address)


class ContactCache:
    """Contacts by the bytes of their records; the oldest go first when it is full.

    A signature is checked once, however many answers repeat the record: checking is what bounds FINDNODE.
    Several cores of one network class may share a cache.
    """

    __slots__ = ("_address_of", "_contacts", "_size", "_verify")

    def __init__(
        self,
        address_of: Callable[[NodeRecord], Address | None],
        size: int,
        verify: Callable[[bytes], NodeRecord] = NodeRecord.from_rlp,
    ) -> None:
        self._address_of = address_of
        self._verify = verify
        self._size = size
        self._contacts: dict[bytes, Contact] = {}

    def __len__(self) -> int:
        return len(self._contacts)

    def get(self, raw: bytes) -> Contact:
        """Return the contact of an encoded record.

        Raises:
            DecodeError: it is no record, or not signed by its identity.
        """
        contact = self._contacts.get(raw)
        return self._add(self._verify(raw)) if contact is None else contact

    def of(self, record: NodeRecord) -> Contact:
        """Return the contact of a verified record."""
        assert record.raw, "a blank record has no contact of its own"
        contact = self._contacts.get(record.raw)
        return self._add(record) if contact is None else contact

    def _add(self, record: NodeRecord) -> Contact:
        if len(self._contacts) >= self._size:
            del self._contacts[next(iter(self._contacts))]
        contact = Contact(_LeanRecord(record), self._address_of(record))
        self._contacts[record.raw] = contact
        return contact


class _RawPairs(Mapping[str, rlp.RLPItem]):
    """The pairs of a verified record, decoded when asked for: decoded they are half of its memory.

    Only which keys there are is kept, since that is asked for each record of each answer.
    """

    __slots__ = ("_keys", "_raw")

    def __init__(self, raw: bytes, keys: frozenset[str]) -> None:
        self._raw = raw
        self._keys = keys

    def _items(self) -> Iterator[tuple[bytes, int, int]]:
        """Walk over encoded keys, and where each value begins and ends: one value is what is asked for."""
        raw = self._raw
        _, start, end = rlp.read_header(raw, 0, len(raw))
        items = rlp.list_items(raw, start, end)
        for (begin, stop), value in zip(items[2::2], items[3::2], strict=True):
            yield raw[begin:stop], *value

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __getitem__(self, key: str) -> rlp.RLPItem:
        wanted = rlp.encode(key.encode("latin-1"))
        for name, begin, end in self._items():
            if name == wanted:
                return rlp.decode(self._raw[begin:end])
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return (rlp.expect_bytes(rlp.decode(name)).decode("latin-1") for name, _, _ in self._items())

    def __len__(self) -> int:
        return len(self._keys)


@lru_cache(maxsize=256)
def _shared(keys: frozenset[str]) -> frozenset[str]:
    """Return one set for all records of the same form: there are few forms."""
    return keys


class _LeanRecord(NodeRecord):
    """A verified record that keeps little but its bytes, and finds the rest in them when asked."""

    __slots__ = ("_pairs",)
    _pairs: _RawPairs

    def __init__(self, record: NodeRecord) -> None:
        for name in ("seq", "node_id", "raw"):
            object.__setattr__(self, name, getattr(record, name))
        object.__setattr__(self, "_pairs", _RawPairs(record.raw, _shared(frozenset(record.pairs))))

    @property
    def pairs(self) -> Mapping[str, rlp.RLPItem]:
        """Keys in order, decoded when asked for."""
        return self._pairs

    @property
    def public_key(self) -> PublicKey:
        """The identity; computed, since only handshakes and dials need it."""
        return _identity(self.raw)


@lru_cache(maxsize=512)
def _identity(raw: bytes) -> PublicKey:
    """Return the key of a verified record: the same few nodes are called again and again."""
    return decompress(rlp.expect_bytes(_RawPairs(raw, frozenset())["secp256k1"]))
