"""The messages of `pyrelay/1`: a question for chain data, passed from relay to relay, and its answer.

Two more are in `stems`: transactions on their stem, and padding.

A relay answers what it is asked by asking others. Two relays that ask each other by plain eth would pass one
question round in circles, each believing that the other holds the data. So a relay never asks another one by
eth; it asks here, and says how far the question has come and how long its answer is waited for. Both shrink
with every hop: what is asked twice over is asked of nodes with a chain only.

    Ask    0x00  [hops, patience, code, message]
    Answer 0x01  [code, message]

message is an eth request or answer in the form of eth/71, request id included; code is its code in eth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from relay.primitives import rlp
from relay.primitives.errors import DecodeError, ProtocolBreach
from relay.protocols.devp2p.capabilities import Capability
from relay.protocols.eth.fields import UINT32, UINT64, encode_list, read_items
from relay.protocols.eth.limits import MAX_MESSAGE

__all__ = ["CAPABILITY", "ETH_FORM", "NAME", "Answer", "Ask"]

NAME: Final = "pyrelay"
ETH_FORM: Final = 71
"""The version of eth in whose form messages are inside."""
_ENVELOPE: Final = 64  # bytes around a message, generously
_FIRST_LIST: Final = 0xC0

CAPABILITY: Final = Capability(NAME, 1, 4, MAX_MESSAGE + _ENVELOPE)


@dataclass(frozen=True, slots=True)
class Ask:
    """A question.

    Attributes:
        hops: how many times it has gone from relay to relay, this time included: at least 1.
        patience: milliseconds until nobody waits for the answer any more.
        code: of an eth request.
        message: its payload.
    """

    hops: int
    patience: int
    code: int
    message: bytes

    CODE: ClassVar[int] = 0x00

    def encode(self) -> bytes:
        """Return the payload."""
        numbers = map(rlp.encode_int, (self.hops, self.patience, self.code))
        return encode_list((*numbers, self.message))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a payload.

        Raises:
            ProtocolBreach: it does not decode.
        """
        try:
            hops, patience, code, message = _fields(payload, 4)
            found = cls(UINT32.read(hops), UINT32.read(patience), UINT64.read(code), message)
        except DecodeError as error:
            raise ProtocolBreach(f"bad Ask: {error}") from None
        if not found.hops:
            raise ProtocolBreach("bad Ask: a question that came from a relay has made a hop")
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        code: of an eth answer.
        message: its payload, with the request id of the question.
    """

    code: int
    message: bytes

    CODE: ClassVar[int] = 0x01

    def encode(self) -> bytes:
        """Return the payload."""
        return encode_list((rlp.encode_int(self.code), self.message))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a payload.

        Raises:
            ProtocolBreach: it does not decode.
        """
        try:
            code, message = _fields(payload, 2)
            return cls(UINT64.read(code), message)
        except DecodeError as error:
            raise ProtocolBreach(f"bad Answer: {error}") from None


def _fields(payload: bytes, count: int) -> list[bytes]:
    fields = read_items(payload, count)
    if len(fields) != count:
        raise DecodeError(f"expected {count} fields, found {len(fields)}")
    if fields[-1][0] < _FIRST_LIST:
        raise DecodeError("the message inside is no list")
    return fields
