"""How a crawl is shown while it runs: in place on a terminal, as lines elsewhere, or not at all."""

from __future__ import annotations

import asyncio
import io
import locale
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live

from relay.chain.forknames import ForkNames
from relay.cli.nodes_table import View, heading, render

__all__ = ["Screen", "print_view", "screen"]

PAUSE: Final = 0.5  # seconds between two looks; longer where drawing takes long
LINE_PAUSE: Final = 10.0  # the same where there is no terminal
SHARE: Final = 10  # drawing takes at most one part of these
PLAIN_WIDTH: Final = 140  # columns where there is no terminal
FRAME: Final = 13  # lines of the screen that are no rows: heading, titles, totals
MIN_ROWS: Final = 3


class Screen:
    """Draws now and then.

    Args:
        draw: draws once.
        say: shows one line of words.
        pause: seconds between two drawings.
    """

    def __init__(self, draw: Callable[[], None], say: Callable[[str], None], pause: float) -> None:
        self._draw, self._pause = draw, pause
        self.say = say

    async def run(self) -> None:
        """Draw until cancelled."""
        while True:
            begun = time.monotonic()
            self._draw()
            await asyncio.sleep(max(self._pause, SHARE * (time.monotonic() - begun)))


@contextmanager
def screen(names: ForkNames, view: Callable[[], View], *, silent: bool) -> Iterator[Screen]:
    """Make what fits standard output, and take it down again.

    Args:
        names: of forks.
        view: what there is to show now.
        silent: show nothing: standard output is for a program.
    """
    console = make_console()
    if silent:
        yield Screen(lambda: None, _say, LINE_PAUSE)
    elif not console.is_terminal or console.is_dumb_terminal:
        yield Screen(lambda: _say(heading(view())), _say, LINE_PAUSE)
    else:
        # What was drawn goes when it ends: the whole table follows.
        with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
            yield Screen(lambda: _draw(live, console, names, view()), _say, PAUSE)


def print_view(names: ForkNames, view: View, rows: int) -> None:
    """Print the table once, on standard output."""
    console = make_console()
    console.print(render(view, names, console.width, rows, ascii_only=console.options.ascii_only))


def make_console() -> Console:
    """Return standard output as rich sees it."""
    if locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX") and isinstance(sys.stdout, io.TextIOWrapper):
        # Python writes UTF-8 all the same then, which such a terminal shows as rubbish.
        sys.stdout.reconfigure(encoding="ascii", errors="replace")
    console = Console(file=sys.stdout, highlight=False)
    return console if console.is_terminal else Console(file=sys.stdout, highlight=False, width=PLAIN_WIDTH)


def _draw(live: Live, console: Console, names: ForkNames, view: View) -> None:
    rows = max(MIN_ROWS, console.height - FRAME)
    drawn = render(view, names, console.width, rows, ascii_only=console.options.ascii_only)
    live.update(drawn, refresh=True)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
