"""Keys of a terminal: what its bytes mean, and a terminal that gives them one by one."""

from __future__ import annotations

import codecs
import os
import re
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["KeyReader", "keyboard"]

_SEQUENCES: Final = {
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down",
    "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\x1b[H": "home", "\x1b[1~": "home", "\x1bOH": "home",
    "\x1b[F": "end", "\x1b[4~": "end", "\x1bOF": "end",
}  # fmt: skip
_NAMED: Final = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x03": "quit",
    "\x04": "quit",
    "\x0c": "redraw",
    "\x15": "erase",
}
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|O[@-~])")
_UNFINISHED: Final = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*|O)")
_LONGEST: Final = 16  # letters of an unfinished sequence


class KeyReader:
    """Makes keys of bytes; a sequence may come in pieces. Pure."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the keys that are whole: one letter each, or a name such as "page up"."""
        text, self._rest = self._rest + self._decoder.decode(data), ""
        keys: list[str] = []
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                keys += _plain(text[at])
                at += 1
            elif found := _SEQUENCE.match(text, at):
                keys += [_SEQUENCES[found[0]]] if found[0] in _SEQUENCES else []
                at = found.end()
            elif _UNFINISHED.fullmatch(text, at) and len(text) - at <= _LONGEST:
                self._rest = text[at:]
                break
            else:
                keys.append("escape")
                at += 1
        return keys


def _plain(letter: str) -> list[str]:
    name = _NAMED.get(letter)
    return [name] if name else [letter] if letter.isprintable() else []


@contextmanager
def keyboard(
    watch: Callable[[int, Callable[[], None]], object], take: Callable[[str], None]
) -> Iterator[int | None]:
    """Have each key told, unbuffered and without echo, while inside.

    Gives the descriptor that is watched, which the caller stops to watch; None where there is no keyboard.

    Args:
        watch: an event loop's add_reader.
        take: told of each key.
    """
    if not sys.stdin.isatty():
        yield None
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    reader = KeyReader()

    def ready() -> None:
        for key in reader.feed(os.read(number, 1024) or b"\x04"):
            take(key)

    try:
        tty.setcbreak(number)
        watch(number, ready)
        yield number
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
