"""Arguments of methods: from decoded JSON to values, as strict as geth and in its words.

A parser takes a decoded JSON value and returns the argument, or raises `DecodeError` with geth's text, which
speaks of Go types: clients match on these texts, so they are kept to the letter (common/hexutil/json.go).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from relay.primitives.errors import DecodeError
from relay.rpc.errors import invalid_params

__all__ = [
    "ADDRESS",
    "ANY",
    "DATA",
    "HASH",
    "OPTIONAL_FLAG",
    "TEXT",
    "TEXTS",
    "Number",
    "Parameter",
    "bind",
    "hex_data",
    "hex_quantity",
    "optional",
    "quantity",
]

_HEX: Final = re.compile(r"[0-9a-fA-F]*")
_MAX_QUANTITY_DIGITS: Final = 16  # 64 bits


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it was written: ids are echoed to the letter, and no digit is ever converted."""

    text: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One positional parameter of a method.

    Attributes:
        parse: from decoded JSON to the argument.
        optional: None stands for one that is absent or null (geth: a pointer).
    """

    parse: Callable[[object], object]
    optional: bool = False


def optional(parameter: Parameter) -> Parameter:
    """Return the parameter as one that may be left out."""
    return Parameter(parameter.parse, optional=True)


def hex_digits(text: str) -> str:
    """Strip the prefix (geth: checkText).

    Raises:
        DecodeError: there is none; an empty string is let through, as geth does.
    """
    if not text:
        return ""
    if text[:2] not in ("0x", "0X"):
        raise DecodeError("hex string without 0x prefix")
    return text[2:]


def hex_data(text: str) -> bytes:
    """Read unformatted data, two digits a byte (EIP-1474).

    Raises:
        DecodeError: no prefix, odd length, not hex.
    """
    digits = hex_digits(text)
    if len(digits) % 2:
        raise DecodeError("hex string of odd length")
    if not _HEX.fullmatch(digits):
        raise DecodeError("invalid hex string")
    return bytes.fromhex(digits)


def hex_quantity(text: str) -> int:
    """Read a quantity of at most 64 bits (EIP-1474: no leading zeros, "0x0" for zero).

    Raises:
        DecodeError: anything else.
    """
    if not text:
        raise DecodeError("empty hex string")
    digits = hex_digits(text)
    if not digits:
        raise DecodeError('hex string "0x"')
    if len(digits) > 1 and digits[0] == "0":
        raise DecodeError("hex number with leading zero digits")
    if not _HEX.fullmatch(digits):
        raise DecodeError("invalid hex string")
    if len(digits) > _MAX_QUANTITY_DIGITS:
        raise DecodeError("hex number > 64 bits")
    return int(digits, 16)


def quantity(number: int) -> str:
    """Write a quantity."""
    return hex(number)


def _go_kind(value: object) -> str:
    """Name a JSON value as encoding/json does."""
    match value:
        case bool():
            return "bool"
        case Number():
            return "number"
        case list():
            return "array"
        case _:
            return "object"


def _data(value: object) -> bytes:
    go_type = "into Go value of type hexutil.Bytes"
    if not isinstance(value, str):
        raise DecodeError(f"json: cannot unmarshal non-string {go_type}")
    try:
        return hex_data(value)
    except DecodeError as error:
        raise DecodeError(f"json: cannot unmarshal {error} {go_type}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise DecodeError(f"json: cannot unmarshal {_go_kind(value)} into Go value of type string")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        kind = "string" if isinstance(value, str) else _go_kind(value)
        raise DecodeError(f"json: cannot unmarshal {kind} into Go value of type []string")
    return [_text(each) for each in value]


def _fixed(size: int, go_type: str) -> Callable[[object], bytes]:
    """Return the reader of data of one size (geth: hexutil.UnmarshalFixedJSON)."""

    def read(value: object) -> bytes:
        if not isinstance(value, str):
            raise DecodeError(f"json: cannot unmarshal non-string into Go value of type {go_type}")
        try:
            digits = hex_digits(value)
            if len(digits) % 2:
                raise DecodeError("hex string of odd length")
            if len(digits) == 2 * size and not _HEX.fullmatch(digits):
                raise DecodeError("invalid hex string")
        except DecodeError as error:
            raise DecodeError(f"json: cannot unmarshal {error} into Go value of type {go_type}") from None
        if len(digits) != 2 * size:
            raise DecodeError(f"hex string has length {len(digits)}, want {2 * size} for {go_type}")
        return bytes.fromhex(digits)

    return read


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        kind = "string" if isinstance(value, str) else _go_kind(value)
        raise DecodeError(f"json: cannot unmarshal {kind} into Go value of type bool")
    return value


DATA: Final = Parameter(_data)
TEXT: Final = Parameter(_text)
TEXTS: Final = Parameter(_texts)
HASH: Final = Parameter(_fixed(32, "common.Hash"))
ADDRESS: Final = Parameter(_fixed(20, "common.Address"))
ANY: Final = Parameter(lambda value: value)
OPTIONAL_FLAG: Final = Parameter(_flag, optional=True)


def bind(params: object, wanted: Sequence[Parameter]) -> list[object]:
    """Return the arguments for a call (geth: parsePositionalArguments).

    Args:
        params: the decoded "params", None when it is absent or null.
        wanted: the parameters, in order.

    Raises:
        RpcError: -32602.
    """
    if params is None:
        params = []
    if not isinstance(params, list):
        raise invalid_params("non-array args")
    bound: list[object] = []
    for index, value in enumerate(params):
        if index >= len(wanted):
            raise invalid_params(f"too many arguments, want at most {len(wanted)}")
        bound.append(_argument(index, value, wanted[index]))
    for parameter in wanted[len(bound) :]:
        bound.append(_argument(len(bound), None, parameter))
    return bound


def _argument(index: int, value: object, parameter: Parameter) -> object:
    if value is None:
        if parameter.optional:
            return None
        raise invalid_params(f"missing value for required argument {index}")
    try:
        return parameter.parse(value)
    except DecodeError as error:
        raise invalid_params(f"invalid argument {index}: {error}") from None
