"""The messages of `pyrelay/1` for transactions on their stem, and for padding.

    Stem    0x02  [[transaction, ...], padding]
    Padding 0x03  [padding]

Transactions stand as in Transactions of eth. Padding is a string of random bytes that nobody reads; who
measures frames can't tell one transaction by its length then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from relay.primitives import rlp
from relay.primitives.errors import DecodeError, ProtocolBreach
from relay.protocols.eth.fields import encode_list, read_items, split_items

__all__ = ["MAX_PADDING", "MAX_TRANSACTIONS", "Padding", "Stem"]

MAX_TRANSACTIONS: Final = 16
"""Of one Stem (our choice: a stem is for a few, and all of them are checked in one turn)."""
MAX_PADDING: Final = 4096  # bytes (our choice)


@dataclass(frozen=True, slots=True)
class Stem:
    """Transactions that are to be passed on to one relay, or gossiped.

    Attributes:
        items: wire items, 1 to MAX_TRANSACTIONS.
        padding: at most MAX_PADDING bytes.
    """

    items: Sequence[bytes]
    padding: bytes = b""

    CODE: ClassVar[int] = 0x02

    def encode(self) -> bytes:
        """Return the payload."""
        return encode_list((encode_list(self.items), rlp.encode(self.padding)))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a payload.

        Raises:
            ProtocolBreach: it does not decode, or is over a bound.
        """
        try:
            inner, padding = _fields(payload, 2)
            is_list, start, end = rlp.read_header(inner, 0, len(inner))
            if not is_list:
                raise DecodeError("the transactions are no list")
            items = split_items(inner, start, end, MAX_TRANSACTIONS)
            found = cls(items, _padding(padding))
        except DecodeError as error:
            raise ProtocolBreach(f"bad Stem: {error}") from None
        if not items:
            raise ProtocolBreach("bad Stem: it holds no transaction")
        return found


@dataclass(frozen=True, slots=True)
class Padding:
    """Bytes for nobody.

    Attributes:
        padding: at most MAX_PADDING of them.
    """

    padding: bytes

    CODE: ClassVar[int] = 0x03

    def encode(self) -> bytes:
        """Return the payload."""
        return encode_list((rlp.encode(self.padding),))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a payload.

        Raises:
            ProtocolBreach: it does not decode, or is over the bound.
        """
        try:
            (padding,) = _fields(payload, 1)
            return cls(_padding(padding))
        except DecodeError as error:
            raise ProtocolBreach(f"bad Padding: {error}") from None


def _fields(payload: bytes, count: int) -> list[bytes]:
    fields = read_items(payload, count)
    if len(fields) != count:
        raise DecodeError(f"expected {count} fields, found {len(fields)}")
    return fields


def _padding(item: bytes) -> bytes:
    is_list, start, end = rlp.read_header(item, 0, len(item))
    if is_list:
        raise DecodeError("the padding is a list")
    if end - start > MAX_PADDING:
        raise DecodeError(f"{end - start} bytes of padding, at most {MAX_PADDING} are allowed")
    return item[start:end]
