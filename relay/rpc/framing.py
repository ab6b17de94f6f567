"""Cuts a stream into JSON values, with or without newlines between them. Pure, and linear in the input.

Brackets and strings are followed as the bytes come in, so a value is decoded once, when it is whole; trying
to decode what is there after each read would be quadratic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from relay.rpc.errors import INVALID_REQUEST, RpcError, parse_error

__all__ = ["JsonFramer"]

MAX_VALUE: Final = 5 * 1024 * 1024  # bytes; geth's limit of an HTTP body
MAX_DEPTH: Final = 256  # brackets; no request needs more than a few

_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_STRUCTURE: Final = re.compile(rb'[\[\]{}"]')
_IN_STRING: Final = re.compile(rb'["\\]')
_AFTER_SCALAR: Final = re.compile(rb'[\s\[\]{}",:]')
_OPEN: Final = b"[{"
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C


class JsonFramer:
    """Holds at most one unfinished value.

    Args:
        max_value: bytes of one value.
        max_depth: brackets that may be open.
    """

    def __init__(self, *, max_value: int = MAX_VALUE, max_depth: int = MAX_DEPTH) -> None:
        self._max_value = max_value
        self._max_depth = max_depth
        self._buffer = bytearray()
        self._start = 0  # of the unfinished value
        self._at = 0  # everything before is looked at
        self._depth = 0
        self._quoted = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes and give each value that they complete; what these are is the decoder's business.

        The iterator is run to its end before the next call.

        Raises:
            RpcError: after the values before it: one is too large or nested too deep; the stream can not be
                read any further.
        """
        self._buffer += data
        while (end := self._end_of_value()) is not None:
            value = bytes(self._buffer[self._start : end])
            self._start = self._at = end
            yield value
        self._forget()

    def finish(self) -> bytes:
        """Return what is left at the end of the stream: empty, a number, or a value that is cut off."""
        return bytes(self._buffer[self._start :]).strip(b" \t\r\n")

    def _forget(self) -> None:
        del self._buffer[: self._start]
        self._at -= self._start
        self._start = 0
        if len(self._buffer) > self._max_value:
            raise _too_large(self._max_value)

    def _end_of_value(self) -> int | None:
        """Look at what is new, and return where the value at `_start` ends."""
        if self._at == self._start and not self._skip_space():
            return None
        if self._depth or self._quoted or self._buffer[self._start] in b'[{"':
            return self._end_of_nested()
        return self._end_of_scalar()

    def _skip_space(self) -> bool:
        found = _SPACE.match(self._buffer, self._start)
        self._start = self._at = found.end() if found else self._start
        return self._at < len(self._buffer)

    def _end_of_scalar(self) -> int | None:
        # One byte at least: a closing bracket where a value should start is a value of its own, and no JSON.
        found = _AFTER_SCALAR.search(self._buffer, max(self._at, self._start + 1))
        self._at = len(self._buffer)
        return found.start() if found else None

    def _end_of_nested(self) -> int | None:
        while True:
            found = (_IN_STRING if self._quoted else _STRUCTURE).search(self._buffer, self._at)
            if found is None:
                self._at = max(self._at, len(self._buffer))
                return None
            self._at = found.end()
            if self._step(self._buffer[found.start()]):
                return self._at

    def _step(self, byte: int) -> bool:
        """Follow one byte that matters; tell whether the value ends with it."""
        if byte == _BACKSLASH:
            self._at += 1  # whatever comes next is escaped, be it here yet or not
            return False
        if byte == _QUOTE:
            self._quoted = not self._quoted
        else:
            self._depth += 1 if byte in _OPEN else -1
            if self._depth > self._max_depth:
                raise parse_error("exceeded max depth")
        return not self._depth and not self._quoted


def _too_large(limit: int) -> RpcError:
    return RpcError(INVALID_REQUEST, f"request too large, the limit is {limit} bytes")
