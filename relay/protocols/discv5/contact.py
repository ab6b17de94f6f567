"""Who is called, and the records of others, each verified once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from relay.primitives import rlp
from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeId
from relay.protocols.discv5.networks import Address

__all__ = ["Contact", "ContactCache"]


@dataclass(frozen=True, slots=True)
class Contact:
    """A node by its record, and where it is called.

    Attributes:
        record: its verified record.
        address: where packets to it go; None: not to be reached on this network.
    """

    record: NodeRecord
    address: Address | None

    @property
    def node_id(self) -> NodeId:
        """Its node id."""
        return self.record.node_id


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
        contact = self._contacts.get(record.raw)
        return self._add(record) if contact is None else contact

    def _add(self, record: NodeRecord) -> Contact:
        if len(self._contacts) >= self._size:
            del self._contacts[next(iter(self._contacts))]
        contact = Contact(_lean(record), self._address_of(record))
        self._contacts[record.raw] = contact
        return contact


class _RawPairs(Mapping[str, rlp.RLPItem]):
    """The pairs of a verified record, decoded when asked for: decoded they are half of its memory."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def _decoded(self) -> dict[str, rlp.RLPItem]:
        items = rlp.expect_list(rlp.decode(self._raw))
        keys = (rlp.expect_bytes(key).decode("latin-1") for key in items[2::2])
        return dict(zip(keys, items[3::2], strict=True))

    def __getitem__(self, key: str) -> rlp.RLPItem:
        return self._decoded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())


def _lean(record: NodeRecord) -> NodeRecord:
    raw = record.raw
    return NodeRecord(record.seq, _RawPairs(raw), record.signature, record.public_key, record.node_id, raw)
