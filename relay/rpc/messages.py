"""JSON-RPC 2.0 messages: bytes to calls, answers to bytes. Pure.

The reading follows geth 1.17.8 (rpc/json.go), quirks included: an id may be null and is answered then; a
number is echoed as it was written; bytes that are not UTF-8 become U+FFFD; a response sent to us is let pass.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, NoReturn

from relay.rpc.errors import RpcError, parse_error
from relay.rpc.params import Number

__all__ = [
    "Call",
    "NotCall",
    "RawJson",
    "decode",
    "encode_batch",
    "encode_error",
    "encode_result",
    "read_message",
]

NULL: Final = "null"
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode  # made once: json.dumps makes one a call


@dataclass(frozen=True, slots=True)
class Call:
    """A request, or a notification, which gets no answer.

    Attributes:
        method: name, not empty.
        params: decoded JSON; None for absent and for null.
        id: JSON text to echo; None makes it a notification.
    """

    method: str
    params: object
    id: str | None


@dataclass(frozen=True, slots=True)
class NotCall:
    """Something else in the place of a request.

    Attributes:
        id: JSON text to echo in the error.
        silent: a response, which is no error and gets no answer.
    """

    id: str = NULL
    silent: bool = False


@dataclass(frozen=True, slots=True)
class RawJson:
    """A result that is JSON already and is passed on as it is. text: one whole value."""

    text: str


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_no_constant)


def decode(body: bytes) -> object:
    """Decode one JSON value; numbers stay `Number`, so that digits cost nothing however many they are.

    Raises:
        RpcError: -32700: not JSON, more than one value, nested deeper than the interpreter's own limit.
    """
    try:
        return _DECODER.decode(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise parse_error() from None


def read_message(value: object) -> Call | NotCall:
    """Sort one decoded element of the input."""
    if not isinstance(value, dict):
        return NotCall()
    message_id = _id_text(value)
    method = value.get("method")
    if value.get("jsonrpc") == "2.0":
        if isinstance(method, str) and method and not (message_id is None and "id" in value):
            return Call(method, value.get("params"), message_id)
        if _is_response(value, message_id):
            return NotCall(silent=True)
    return NotCall(message_id or NULL)


def _is_response(value: dict[str, object], message_id: str | None) -> bool:
    has_method = bool(value.get("method")) and isinstance(value["method"], str)
    return (
        message_id is not None
        and not has_method
        and "params" not in value
        and ("result" in value or "error" in value)
    )


def _id_text(value: dict[str, object]) -> str | None:
    """Return the id as JSON text; None when it is absent, or an object or array, which no id may be."""
    if "id" not in value or isinstance(value["id"], dict | list):
        return None
    message_id = value["id"]
    if isinstance(message_id, Number):
        return message_id.text
    return json.dumps(message_id)


def encode_result(message_id: str, result: object) -> str:
    """Write an answer."""
    body = result.text if isinstance(result, RawJson) else _ENCODE(result)
    return f'{{"jsonrpc":"2.0","id":{message_id},"result":{body}}}'


def encode_error(message_id: str, error: RpcError) -> str:
    """Write an error answer."""
    told: dict[str, object] = {"code": error.code, "message": error.message}
    if error.data is not None:
        told["data"] = error.data
    body = _ENCODE(told)
    return f'{{"jsonrpc":"2.0","id":{message_id},"error":{body}}}'


def encode_batch(answers: list[str]) -> str:
    """Join answers."""
    return "[" + ",".join(answers) + "]"
