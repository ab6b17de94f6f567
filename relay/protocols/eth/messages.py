"""The messages of eth/68 to eth/72 as values.

Each class lists its layouts by the version that brought them; a version uses the newest that is not
younger. Chain data (headers, bodies, receipts, access lists) stays RLP: it is passed on, not interpreted.
Which versions have which messages is in `versions`; what is on every transaction's path is in `packing`.
Spec: caps/eth.md, "Protocol Messages".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from relay.primitives.errors import SubprotocolError
from relay.primitives.forkid import ForkId
from relay.protocols.eth.fields import (
    ASKED,
    CELLS,
    FLAG,
    FORK_ID,
    HASH,
    HASHES,
    ITEMS,
    LISTS,
    MASK,
    ORIGIN,
    SIZES,
    STRING,
    UINT32,
    UINT64,
    UINT256,
    encode_list,
)
from relay.protocols.eth.layouts import EthMessage, Layout
from relay.protocols.eth.limits import MAX_SERVED
from relay.protocols.eth.packing import (
    decode_announcement,
    encode_announcement,
    encode_pooled,
    encode_transactions,
    first_duplicate,
    split_pooled,
    split_transactions,
)

__all__ = [
    "REQUESTS",
    "BlockAccessLists",
    "BlockBodies",
    "BlockHeaders",
    "BlockRangeUpdate",
    "Cells",
    "EthMessage",
    "GetBlockAccessLists",
    "GetBlockBodies",
    "GetBlockHeaders",
    "GetCells",
    "GetPooledTransactions",
    "GetReceipts",
    "NewPooledTransactionHashes",
    "PooledTransactions",
    "Receipts",
    "Status",
    "Transactions",
    "decode_announcement",
    "empty_response",
    "encode_announcement",
    "encode_pooled",
    "encode_transactions",
    "first_duplicate",
    "split_pooled",
    "split_transactions",
]

_ZERO_HASH: Final = bytes(32)


def _check_range(earliest: int, latest: int, latest_hash: bytes) -> None:
    if earliest > latest:
        raise SubprotocolError(f"block range ends at {latest}, before it begins at {earliest}")
    if latest_hash == _ZERO_HASH:
        raise SubprotocolError("block range without the hash of its latest block")


_ID: Final = ("request_id", UINT64)
_ID_AND_HASHES: Final = (_ID, ("hashes", ASKED))
_RANGE: Final = (("earliest", UINT64), ("latest", UINT64), ("latest_hash", HASH))


@dataclass(frozen=True, slots=True)
class Status(EthMessage):
    """The first message of both sides.

    Attributes:
        version: of eth; the other side's has to equal the negotiated one.
        network_id: which chain; also said by genesis and fork_id.
        genesis: hash of block 0.
        fork_id: EIP-2124.
        earliest: first block whose body and receipts are held (from eth/69).
        latest: last one.
        latest_hash: its hash.
        td: total difficulty (eth/68 only).
        head: hash of the best block (eth/68 only).
    """

    version: int
    network_id: int
    genesis: bytes
    fork_id: ForkId
    earliest: int = 0
    latest: int = 0
    latest_hash: bytes = _ZERO_HASH
    td: int = 0
    head: bytes = _ZERO_HASH

    CODE: ClassVar[int] = 0x00
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {
        68: (
            ("version", UINT32),
            ("network_id", UINT64),
            ("td", UINT256),
            ("head", HASH),
            ("genesis", HASH),
            ("fork_id", FORK_ID),
        ),
        69: (
            ("version", UINT32),
            ("network_id", UINT64),
            ("genesis", HASH),
            ("fork_id", FORK_ID),
            *_RANGE,
        ),
    }

    def check(self) -> None:
        """Raise SubprotocolError for a block range that cannot be; eth/68 has none."""
        if self.version != 68:
            _check_range(self.earliest, self.latest, self.latest_hash)


@dataclass(frozen=True, slots=True)
class Transactions(EthMessage):
    """Whole transactions, unasked for.

    Attributes:
        items: as they stand on the wire: legacy ones lists, typed ones strings.
    """

    items: tuple[bytes, ...]

    CODE: ClassVar[int] = 0x02
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {68: ()}

    def encode(self, version: int) -> bytes:
        """Return the payload: the items and nothing around them."""
        return encode_list(self.items)

    @classmethod
    def _read(cls, payload: bytes, version: int) -> Self:
        return cls(tuple(split_transactions(payload)))


@dataclass(frozen=True, slots=True)
class GetBlockHeaders(EthMessage):
    """A request for headers.

    Attributes:
        request_id: chosen by who asks, 64 bits, mirrored by the answer.
        origin: the first block, by hash (32 bytes) or number.
        amount: how many at most.
        skip: blocks to leave out between two.
        reverse: towards genesis.
    """

    request_id: int
    origin: bytes | int
    amount: int
    skip: int = 0
    reverse: bool = False

    CODE: ClassVar[int] = 0x03
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {
        68: (_ID, ("query", (("origin", ORIGIN), ("amount", UINT64), ("skip", UINT64), ("reverse", FLAG)))),
    }


@dataclass(frozen=True, slots=True)
class BlockHeaders(EthMessage):
    """The answer to GetBlockHeaders."""

    request_id: int
    headers: tuple[bytes, ...]

    CODE: ClassVar[int] = 0x04
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {68: (_ID, ("headers", LISTS))}


@dataclass(frozen=True, slots=True)
class GetBlockBodies(EthMessage):
    """A request for bodies by block hash."""

    request_id: int
    hashes: tuple[bytes, ...]

    CODE: ClassVar[int] = 0x05
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {68: _ID_AND_HASHES}


@dataclass(frozen=True, slots=True)
class BlockBodies(EthMessage):
    """The answer to GetBlockBodies; it ends at the first block that is not held."""

    request_id: int
    bodies: tuple[bytes, ...]

    CODE: ClassVar[int] = 0x06
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {68: (_ID, ("bodies", LISTS))}


@dataclass(frozen=True, slots=True)
class NewPooledTransactionHashes(EthMessage):
    """An announcement of transactions.

    Attributes:
        types: a byte for each transaction.
        sizes: bytes of each in its consensus encoding (eth/72: without blobs).
        hashes: of each.
        mask: which cells of the blobs are held, 16 bytes (from eth/72).
    """

    types: bytes
    sizes: list[int]
    hashes: tuple[bytes, ...]
    mask: bytes = bytes(16)

    CODE: ClassVar[int] = 0x08
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {
        68: (("types", STRING), ("sizes", SIZES), ("hashes", HASHES)),
        72: (("types", STRING), ("sizes", SIZES), ("hashes", HASHES), ("mask", MASK)),
    }

    def check(self) -> None:
        """Raise SubprotocolError when the three lists differ in length."""
        if not len(self.types) == len(self.sizes) == len(self.hashes):
            raise SubprotocolError(
                f"announcement of {len(self.types)} types, {len(self.sizes)} sizes, {len(self.hashes)} hashes"
            )


@dataclass(frozen=True, slots=True)
class GetPooledTransactions(EthMessage):
    """A request for announced transactions."""

    request_id: int
    hashes: tuple[bytes, ...]

    CODE: ClassVar[int] = 0x09
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {68: _ID_AND_HASHES}


@dataclass(frozen=True, slots=True)
class PooledTransactions(EthMessage):
    """The answer to GetPooledTransactions, in its order, without those that are not held."""

    request_id: int
    items: tuple[bytes, ...]

    CODE: ClassVar[int] = 0x0A
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {68: (_ID, ("items", ITEMS))}


@dataclass(frozen=True, slots=True)
class GetReceipts(EthMessage):
    """A request for receipts by block hash.

    Attributes:
        first_index: receipts of the first block to leave out (from eth/70).
    """

    request_id: int
    hashes: tuple[bytes, ...]
    first_index: int = 0

    CODE: ClassVar[int] = 0x0F
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {
        68: _ID_AND_HASHES,
        70: (_ID, ("first_index", UINT64), ("hashes", ASKED)),
    }


@dataclass(frozen=True, slots=True)
class Receipts(EthMessage):
    """The answer to GetReceipts.

    Attributes:
        blocks: for each block the list of its receipts (eth/68: with bloom filters).
        last_block_incomplete: more of the last block's has to be asked for (from eth/70).
    """

    request_id: int
    blocks: tuple[bytes, ...]
    last_block_incomplete: bool = False

    CODE: ClassVar[int] = 0x10
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {
        68: (_ID, ("blocks", LISTS)),
        70: (_ID, ("last_block_incomplete", FLAG), ("blocks", LISTS)),
    }


@dataclass(frozen=True, slots=True)
class BlockRangeUpdate(EthMessage):
    """News of which blocks the sender holds."""

    earliest: int
    latest: int
    latest_hash: bytes

    CODE: ClassVar[int] = 0x11
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {69: _RANGE}

    def check(self) -> None:
        """Raise SubprotocolError for a range that cannot be."""
        _check_range(self.earliest, self.latest, self.latest_hash)


@dataclass(frozen=True, slots=True)
class GetBlockAccessLists(EthMessage):
    """A request for block access lists by block hash (EIP-8159)."""

    request_id: int
    hashes: tuple[bytes, ...]

    CODE: ClassVar[int] = 0x12
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {71: _ID_AND_HASHES}


@dataclass(frozen=True, slots=True)
class BlockAccessLists(EthMessage):
    """The answer to GetBlockAccessLists: an item for each hash, the empty string 0x80 for one not held."""

    request_id: int
    access_lists: tuple[bytes, ...]

    CODE: ClassVar[int] = 0x13
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {71: (_ID, ("access_lists", ITEMS))}


@dataclass(frozen=True, slots=True)
class GetCells(EthMessage):
    """A request for cells of blob transactions (EIP-8070).

    Attributes:
        mask: which cells, 16 bytes, bit i in byte i/8, least significant first.
    """

    request_id: int
    hashes: tuple[bytes, ...]
    mask: bytes

    CODE: ClassVar[int] = 0x14
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {72: (*_ID_AND_HASHES, ("mask", MASK))}


@dataclass(frozen=True, slots=True)
class Cells(EthMessage):
    """The answer to GetCells.

    Attributes:
        hashes: the transactions that are answered.
        cells: for each of them its cells, by index, then by blob.
        mask: which indices are there.
    """

    request_id: int
    hashes: tuple[bytes, ...]
    cells: tuple[tuple[bytes, ...], ...]
    mask: bytes

    CODE: ClassVar[int] = 0x15
    LAYOUTS: ClassVar[Mapping[int, Layout]] = {72: (*_ID_AND_HASHES, ("cells", CELLS), ("mask", MASK))}


_UNAVAILABLE: Final = b"\x80"  # the empty string; an empty list would be a valid access list


def _empty_access_lists(request: GetBlockAccessLists) -> BlockAccessLists:
    # The answer has an item for each hash, up to what geth serves at once.
    return BlockAccessLists(request.request_id, (_UNAVAILABLE,) * min(len(request.hashes), MAX_SERVED))


_EMPTY: Final[Mapping[type[EthMessage], Callable[[Any], EthMessage]]] = {
    GetBlockHeaders: lambda request: BlockHeaders(request.request_id, ()),
    GetBlockBodies: lambda request: BlockBodies(request.request_id, ()),
    GetPooledTransactions: lambda request: PooledTransactions(request.request_id, ()),
    GetReceipts: lambda request: Receipts(request.request_id, ()),
    GetBlockAccessLists: _empty_access_lists,
    GetCells: lambda request: Cells(request.request_id, (), (), request.mask),
}

REQUESTS: Final[Mapping[int, type[EthMessage]]] = MappingProxyType({each.CODE: each for each in _EMPTY})
"""Codes that ask for an answer, in the versions that have them."""


def empty_response(version: int, code: int, payload: bytes) -> tuple[int, bytes] | None:
    """Return code and payload of the empty and yet correct answer of a node that holds no chain.

    None when code is no request of this version. Geth keeps a peer that answers so, but not while it syncs
    headers.

    Raises:
        ProtocolBreach: the request does not decode.
    """
    request = REQUESTS.get(code)
    if request is None or version < min(request.LAYOUTS):
        return None
    answer = _EMPTY[request](request.decode(payload, version))
    return answer.CODE, answer.encode(version)
