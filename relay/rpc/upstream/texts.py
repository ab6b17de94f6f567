"""JSON as it goes to an upstream and comes back: requests, and answers passed on without being written anew.

An answer is one value inside of an envelope, and a client must never be told anything that reaches beyond it:
so the value is always checked. Up to MAX_DECODED bytes it is decoded; what is larger would take twenty times
its size as objects, so there only strings, brackets and the words between are checked, in slices of time.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from relay.rpc.errors import SERVER_ERROR, RpcError, invalid_params
from relay.rpc.params import Number
from relay.rpc.upstream.faults import Fault, UpstreamFault

__all__ = ["UNREAD", "Answer", "answer_id", "encode_params", "read_answer", "request"]

MAX_DECODED: Final = 2 * 1024 * 1024  # bytes
MAX_DEPTH: Final = 512  # brackets of an answer; traces of nested calls have most
_SLICE: Final = 512 * 1024  # bytes looked at in one go, some milliseconds
_LIMIT_CODES: Final = frozenset({-32005, -32029, 429})  # EIP-1474's "limit exceeded", and what providers use
_SPACE: Final = " \t\r\n"
_TAIL: Final = 64  # characters at the end in which an envelope closes
_ID_FIRST: Final = re.compile(r'\s*\{"jsonrpc":\s?"2\.0",\s?"id":\s?([0-9]{1,15}),\s?"result":')
_RESULT_FIRST: Final = re.compile(r'\s*\{"jsonrpc":\s?"2\.0",\s?"result":')
_ID_LAST: Final = re.compile(r',\s?"id":\s?([0-9]{1,15})\}\s*$')
_END: Final = re.compile(r"\}\s*$")
_ID_ANYWHERE: Final = re.compile(rb'"id"\s*:\s*([0-9]{1,15})\s*[,}]')
# Whole tokens only, so that a slice ends where a token does; possessive, so that nothing is tried twice.
_TOKENS: Final = re.compile(
    r'(?:[ \t\r\n,:\[\]{}]|"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"'
    r"|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+(?![0-9.eE+-])|true|false|null)*+"
)
_WHOLE_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"')
_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"')
_NO_BRACKET: Final = re.compile(r"[^\[\]{}]++")

UNREAD: Final = object()
"""Stands for a value that was too large to be decoded."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A result.

    Attributes:
        text: JSON of one value.
        value: decoded, or UNREAD.
    """

    text: str
    value: object = None

    def read(self) -> object:
        """Return the value, decoded in any case."""
        return json.loads(self.text) if self.value is UNREAD else self.value


def encode_params(params: object) -> str:
    """Write params as the caller sent them, numbers to the digit.

    Raises:
        RpcError: they are neither an array nor an object; an absent one becomes an empty array.
    """
    if params is None:
        return "[]"
    if not isinstance(params, list | tuple | dict):
        raise invalid_params("non-array args")
    try:
        return _ENCODE(params)
    except TypeError:
        return "".join(_written(params))


def _written(value: object) -> list[str]:
    """Write what json can't: `Number` anywhere inside."""
    match value:
        case Number(text):
            return [text]
        case dict():
            parts = ["{"]
            for key, each in value.items():
                parts += [json.dumps(key), ":", *_written(each), ","]
            return [*parts[: -1 if value else None], "}"]
        case list() | tuple():
            parts = ["["]
            for each in value:
                parts += [*_written(each), ","]
            return [*parts[: -1 if value else None], "]"]
        case _:
            return [json.dumps(value)]


def request(call_id: int, method: str, params: str) -> bytes:
    """Write a request."""
    return f'{{"jsonrpc":"2.0","id":{call_id},"method":{json.dumps(method)},"params":{params}}}'.encode()


def answer_id(body: bytes) -> int | None:
    """Guess by its bytes to which request an answer belongs, without decoding it; it is checked later."""
    for part in (body[:64], body[-64:]):
        if found := _ID_ANYWHERE.search(part):
            return int(found[1])
    try:
        value = json.loads(body) if len(body) <= MAX_DECODED else None
    except (ValueError, RecursionError):
        return None
    found_id = value.get("id") if isinstance(value, dict) else None
    return found_id if type(found_id) is int else None


async def read_answer(body: bytes, call_id: int) -> Answer:
    """Read what an upstream sent in answer to a request.

    Raises:
        RpcError: the upstream's own error, passed on.
        UpstreamFault: it is no JSON-RPC, or not the answer to this request.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _garbage("its answer is not UTF-8") from None
    inner = _inside(text, call_id)
    if inner is not None and len(inner) > MAX_DECODED:
        await _check_large(inner)
        return Answer(inner, UNREAD)
    if inner is not None:
        return Answer(inner, _decoded(inner))
    if len(text) > MAX_DECODED:
        raise _garbage("its large answer is of an unusual form")
    return _from_envelope(_decoded(text), call_id)


def _inside(text: str, call_id: int) -> str | None:
    """Cut the result out of the envelopes that servers really write; None for any other."""
    head = _ID_FIRST.match(text)
    if head is not None:
        tail = _END.search(text, max(head.end(), len(text) - _TAIL))
        if tail is None or int(head[1]) != call_id:
            return None
        return text[head.end() : tail.start()].strip(_SPACE)
    head = _RESULT_FIRST.match(text)
    tail = None if head is None else _ID_LAST.search(text, max(head.end(), len(text) - _TAIL))
    if head is None or tail is None or int(tail[1]) != call_id:
        return None
    return text[head.end() : tail.start()].strip(_SPACE)


def _decoded(text: str) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return _DECODE(text)
    except (ValueError, RecursionError):
        words = " ".join(text[:48].split())
        kind = "HTML" if words.lower().startswith(("<!doctype", "<html")) else "not JSON"
        raise _garbage(f"its answer is {kind}") from None


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


# Made once: json.dumps and json.loads would make them anew in each call.
_DECODE: Final = json.JSONDecoder(parse_constant=_no_constant).decode
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode


def _from_envelope(value: object, call_id: int) -> Answer:
    if not isinstance(value, dict) or value.get("id", call_id) not in (call_id, None):
        raise _garbage("its answer is not the one to this request")
    error = value.get("error")
    if error is not None:
        raise _passed_on(error)
    if "result" not in value or type(value.get("id")) is not int:
        raise _garbage("its answer has neither a result nor an error")
    return Answer(_ENCODE(value["result"]), value["result"])


def _passed_on(error: object) -> RpcError | UpstreamFault:
    match error:
        case {"code": int(code), "message": str(message)}:
            pass
        case {"message": str(message)} | str(message):
            code = SERVER_ERROR
        case _:
            return _garbage("its error is none of JSON-RPC")
    if code in _LIMIT_CODES:
        return UpstreamFault(Fault.LIMITED, "it limits our calls")
    return RpcError(code, message, error.get("data") if isinstance(error, dict) else None)


async def _check_large(text: str) -> None:
    """Check a value too large to be decoded: tokens and brackets, not where commas stand."""
    if text[:1] == '"':
        if not _WHOLE_STRING.fullmatch(text):
            raise _garbage("its answer is not JSON")
        return
    if text[:1] + text[-1:] not in ("[]", "{}"):
        raise _garbage("its answer is not JSON")
    # Without the outer pair: whatever would end the value early closes a bracket that nobody opened.
    at, last, open_ = 1, len(text) - 1, ""
    while at < last:
        end = _end_of_tokens(text, at, last)
        open_ = _still_open(open_ + _NO_BRACKET.sub("", _STRING.sub("", text[at:end])))
        at = end
        await asyncio.sleep(0)
    if open_:
        raise _garbage("the brackets of its answer don't match")


def _end_of_tokens(text: str, at: int, last: int) -> int:
    """Return where the tokens of a slice end; a token that is larger than a slice is taken whole."""
    for end in (min(at + _SLICE, last), last):
        found = _TOKENS.match(text, at, end)
        if found is not None and found.end() > at:
            return found.end()
    raise _garbage("its answer is not JSON")


def _still_open(brackets: str) -> str:
    """Let pairs fall away, from the inside out."""
    for _ in range(MAX_DEPTH):
        shorter = brackets.replace("[]", "").replace("{}", "")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
    if len(brackets) > MAX_DEPTH or "]" in brackets or "}" in brackets:
        raise _garbage("the brackets of its answer don't match, or are too many inside each other")
    return brackets


def _garbage(words: str) -> UpstreamFault:
    return UpstreamFault(Fault.GARBAGE, words)
