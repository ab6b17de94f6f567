"""Real blocks of geth's test chain, and chains of headers made here that nothing but their parents bind."""

from __future__ import annotations

from dataclasses import dataclass

from relay.chain.genesis import EMPTY_LIST_HASH
from relay.chain.headers import Header
from relay.chain.ordered_trie import EMPTY_ROOT
from relay.primitives import rlp
from tests.aids.vectors import load

__all__ = ["RealBlock", "made_chain", "made_header", "real_blocks", "split_block"]


@dataclass(frozen=True)
class RealBlock:
    """A block; raw_receipts in their consensus encoding, none where they are not at hand."""

    header: Header
    body: bytes
    raw_receipts: tuple[bytes, ...] = ()

    @property
    def receipts_68(self) -> bytes:
        """The list that eth/68 carries."""
        wire = [raw if raw[0] >= 0xC0 else rlp.encode(raw) for raw in self.raw_receipts]
        return rlp.list_header(sum(map(len, wire))) + b"".join(wire)


def real_blocks() -> list[RealBlock]:
    """Return blocks with every type of transaction and header, withdrawals and logs."""
    return [
        RealBlock(
            Header.decode(bytes.fromhex(each["header"])),
            bytes.fromhex(each["body"]),
            tuple(map(bytes.fromhex, each["receipts"])),
        )
        for each in load("chain/blocks.json")["blocks"]
    ]


def split_block(raw: bytes) -> RealBlock:
    """Read a block as files of geth have it: `[header, transactions, ommers, withdrawals]`."""
    _, start, end = rlp.read_header(raw, 0, len(raw))
    parts = [raw[slice(*span)] for span in rlp.list_items(raw, start, end)]
    body = b"".join(parts[1:])
    return RealBlock(Header.decode(parts[0]), rlp.list_header(len(body)) + body)


def made_header(number: int, parent: bytes = bytes(32), extra: bytes = b"", **roots: bytes) -> Header:
    """Make a header; extra tells forks apart."""
    fields: list[rlp.Encodable] = [
        parent,
        roots.get("ommers", EMPTY_LIST_HASH),
        bytes(20),
        bytes(32),
        roots.get("transactions", EMPTY_ROOT),
        roots.get("receipts", EMPTY_ROOT),
        bytes(256),
        0,
        number,
        30_000_000,
        21_000_000,
        1_700_000_000 + 12 * number,
        extra,
        bytes(32),
        bytes(8),
        7,
    ]
    if "withdrawals" in roots:
        fields.append(roots["withdrawals"])
    if "access_list" in roots:
        fields += [0, 0, bytes(32), bytes(32), roots["access_list"], number]
    return Header.decode(rlp.encode(fields))


def made_chain(count: int, after: Header | None = None, extra: bytes = b"") -> list[Header]:
    """Make so many headers, each the child of the one before; from genesis, or after a header."""
    chain: list[Header] = []
    for _ in range(count):
        last = chain[-1] if chain else after
        chain.append(made_header(last.number + 1, last.hash, extra) if last else made_header(0, extra=extra))
    return chain
