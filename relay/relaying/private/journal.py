"""How transactions that wait for their echo are written down, for after a restart. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.primitives import rlp
from relay.primitives.errors import DecodeError

__all__ = ["Kept", "read_kept", "write_kept"]

_FORM: Final = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """A transaction.

    Attributes:
        raw: canonical bytes, with its blobs if it has some.
        submitted: unix seconds.
    """

    raw: bytes
    submitted: int


def write_kept(kept: Iterable[Kept]) -> bytes:
    """Return the bytes of a journal."""
    return rlp.encode((_FORM, [(each.submitted, each.raw) for each in kept]))


def read_kept(data: bytes) -> list[Kept]:
    """Read a journal.

    Raises:
        DecodeError: it is none, or of another form.
    """
    fields = rlp.expect_list(rlp.decode(data))
    if len(fields) != 2 or rlp.to_int(rlp.expect_bytes(fields[0]), 8) != _FORM:
        raise DecodeError("no journal of this form")
    return [_kept(each) for each in rlp.expect_list(fields[1])]


def _kept(item: rlp.RLPItem) -> Kept:
    fields = rlp.expect_list(item)
    if len(fields) != 2:
        raise DecodeError("an entry has two fields")
    return Kept(rlp.expect_bytes(fields[1]), rlp.to_int(rlp.expect_bytes(fields[0]), 8))
