"""Tor's control protocol as bytes: replies in, command lines out; no I/O.

Spec: control-spec, "Message format". A reply is a run of lines that start with a three-digit code and
a divider: ``-`` more follows, ``+`` a block of data follows that ends with a lone dot, a space: the
last line. Codes of 6xx are events that Tor sends unasked between replies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from relay.primitives.errors import TorControlError

MAX_LINE: Final = 100_000  # bytes; Bitcoin Core's MAX_LINE_LENGTH of torcontrol.cpp
MAX_LINES: Final = 1_000  # lines a reply, data lines counted; Bitcoin Core's MAX_LINE_COUNT
MAX_REPLY: Final = 1_000_000  # bytes a reply; our choice, far above every answer we ask for
MAX_SHOWN: Final = 200  # characters of a control port's own words that are repeated

_HEAD: Final = re.compile(rb"[1-6][0-9]{2}[-+ ]")
_OCTAL: Final = re.compile(r"[0-3]?[0-7]{1,2}")
# a key begins a word, which keeps the search linear in long garbage
_KEYWORD: Final = re.compile(r'(?<!\S)([A-Za-z0-9_/.-]+)=("(?:[^"\\]|\\.)*"|\S*)')
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, slots=True)
class ReplyLine:
    """One line of a reply.

    Text and data keep each byte as one character (latin-1), so that a path in them is exact.
    """

    code: int
    text: str
    data: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; its code is that of its last line."""

    lines: tuple[ReplyLine, ...]

    @property
    def code(self) -> int:
        """The status code that decides."""
        return self.lines[-1].code

    @property
    def text(self) -> str:
        """The last line's text, which is where Tor explains a refusal."""
        return self.lines[-1].text

    @property
    def is_event(self) -> bool:
        """Whether Tor sent it unasked."""
        return 600 <= self.code < 700

    def keyword_lines(self) -> dict[str, str]:
        """Values by key of ``key=value`` lines, a data block being its line's value; the first counts."""
        found: dict[str, str] = {}
        for line in self.lines:
            key, equals, value = line.text.partition("=")
            if equals:
                found.setdefault(key, value if line.data is None else line.data)
        return found


class ReplyParser:
    """Bytes of any split to whole replies, bounded by the limits above; linear in what it is fed."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._lines: list[ReplyLine] = []
        self._data: list[str] | None = None
        self._count = 0
        self._size = 0

    def feed(self, data: bytes) -> list[Reply]:
        """Take what arrived and return the replies that it completes.

        Raises:
            TorControlError: what arrived is not the control protocol, or passes a limit. The parser
                is of no use afterwards.
        """
        self._buffer += data
        replies: list[Reply] = []
        start = 0
        while (end := self._buffer.find(b"\n", max(start, self._searched))) >= 0:
            self._check_length(end - start)
            line = bytes(self._buffer[start:end]).removesuffix(b"\r")
            start = end + 1
            if (reply := self._take_line(line)) is not None:
                replies.append(reply)
        del self._buffer[:start]
        self._searched = len(self._buffer)
        self._check_length(self._searched)
        return replies

    @staticmethod
    def _check_length(length: int) -> None:
        if length > MAX_LINE:
            raise TorControlError(f"control port sent a line of over {MAX_LINE} bytes")

    def _take_line(self, line: bytes) -> Reply | None:
        self._count += 1
        self._size += len(line)
        if self._count > MAX_LINES:
            raise TorControlError(f"control port sent a reply of over {MAX_LINES} lines")
        if self._size > MAX_REPLY:
            raise TorControlError(f"control port sent a reply of over {MAX_REPLY} bytes")
        if self._data is not None:
            self._take_data(line)
            return None
        return self._take_reply_line(line)

    def _take_data(self, line: bytes) -> None:
        assert self._data is not None
        if line != b".":
            # a line that starts with a dot has it doubled on the wire
            self._data.append(line.removeprefix(b".").decode("latin-1"))
            return
        head = self._lines[-1]
        self._lines[-1] = ReplyLine(head.code, head.text, "\n".join(self._data))
        self._data = None

    def _take_reply_line(self, line: bytes) -> Reply | None:
        if not _HEAD.match(line):
            raise TorControlError(f"control port sent no reply of Tor's control protocol: {line[:40]!r}")
        code, divider, text = int(line[:3]), line[3:4], line[4:].decode("latin-1")
        if self._lines and (code >= 600) != (self._lines[0].code >= 600):
            raise TorControlError("control port mixed an event into a reply")
        self._lines.append(ReplyLine(code, text))
        if divider == b"+":
            self._data = []
        if divider != b" ":
            return None
        reply = Reply(tuple(self._lines))
        self._lines, self._count, self._size = [], 0, 0
        return reply


def shown(text: str) -> str:
    """The control port's own words for a person: the beginning, without what a terminal would obey."""
    beginning = "".join(each if each.isprintable() else "?" for each in text[:MAX_SHOWN])
    return beginning if len(text) <= MAX_SHOWN else beginning + "..."


def encode_command(keyword: str, *arguments: str) -> bytes:
    """One command line.

    Raises:
        TorControlError: a part holds a line break, which would make two commands of it.
    """
    line = " ".join((keyword, *arguments))
    if "\r" in line or "\n" in line or "\0" in line:
        raise TorControlError(f"a part of the control command {keyword} holds a line break")
    return line.encode("utf-8", "surrogateescape") + b"\r\n"


def quote(text: str) -> str:
    """A QuotedString (control-spec, "General-use tokens")."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """The content of a QuotedString with its C escapes resolved; text without quotes as it is.

    Raises:
        TorControlError: the closing quote is missing.
    """
    if not text.startswith('"'):
        return text
    if len(text) < 2 or not text.endswith('"'):
        raise TorControlError("control port sent a quoted string without its end")
    return _resolve_escapes(text[1:-1])


def _resolve_escapes(body: str) -> str:
    out: list[str] = []
    position = 0
    while position < len(body):
        char = body[position]
        position += 1
        if char != "\\" or position == len(body):
            out.append(char)
        elif octal := _OCTAL.match(body, position):
            out.append(chr(int(octal.group(), 8)))
            position = octal.end()
        else:
            out.append(_ESCAPES.get(body[position], body[position]))
            position += 1
    return "".join(out)


def parse_keywords(text: str) -> dict[str, str]:
    """The ``KEY=value`` and ``KEY="quoted value"`` parts of a line without quotes; the first counts."""
    found: dict[str, str] = {}
    for match in _KEYWORD.finditer(text):
        found.setdefault(
            match.group(1), unquote(match.group(2)) if match.group(2).endswith('"') else match.group(2)
        )
    return found
