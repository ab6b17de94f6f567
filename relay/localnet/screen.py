"""The live screen: a pure function from board and size to what rich draws, and the object that draws it."""

from __future__ import annotations

import io
import locale
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.box import ASCII, ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from relay.localnet.words import onion_text, size_text, totals, transaction_text

if TYPE_CHECKING:
    from relay.localnet.board import Board, RelayRow

__all__ = ["LiveScreen", "live_screen", "render"]

FEWEST_LOG_LINES: Final = 3
MIN_HEIGHT: Final = 10
BRIEF_BELOW: Final = 60  # columns
_FRAME: Final = 4  # lines of the table's border and heading


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table of relays. least: width of the screen from which on it is shown."""

    title: str
    least: int
    right: bool = True


_COLUMNS: Final = (
    _Column("#", 0),
    _Column("onion address", 56, right=False),
    _Column("state", 0, right=False),
    _Column("in/out", 0),
    _Column("seen", 0),
    _Column("relayed", 0),
    _Column("received", 76),
    _Column("sent", 76),
)


def render(board: Board, width: int, height: int, *, ascii_only: bool = False) -> RenderableType:
    """Lay a board out.

    Args:
        board: what to show.
        width: columns, 40 at least.
        height: lines that may be used.
        ascii_only: the terminal has nothing beyond ASCII.
    """
    foot = _foot(board, width)
    room = max(height, MIN_HEIGHT) - _FRAME - 2 - len(foot) - 1  # heading and bar; the log's own heading
    shown = min(len(board.rows), max(1, room - FEWEST_LOG_LINES))
    parts: list[RenderableType] = [_heading(board, width), _bar(board, width)]
    parts.append(_table(board.rows[:shown], width, ascii_only))
    hidden = len(board.rows) - shown
    if hidden:
        parts.append(Text(f"and {hidden} more relays", style="dim", no_wrap=True))
    parts += [Text(line, style="bold", no_wrap=True) for line in foot]
    log_room = max(1, room - shown - bool(hidden))
    parts += _log(board, log_room, brief=width < BRIEF_BELOW)
    return Group(*parts)


def _heading(board: Board, width: int) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True, overflow="crop")
    line.add_column(justify="right", no_wrap=True)
    title = "pyrelay localnet: relays on a private Tor network" if width >= 70 else "pyrelay localnet"
    line.add_row(Text(title, style="bold cyan"), f"{board.elapsed:.1f} s")
    return line


def _bar(board: Board, width: int) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=100, completed=board.percent, width=max(8, width // 4))
    words = Text(board.words, no_wrap=True, overflow="crop")
    line.add_row("Tor", bar, f"{board.percent}%", words)
    return line


def _table(rows: list[RelayRow], width: int, ascii_only: bool) -> RenderableType:
    table = Table(box=ASCII if ascii_only else ROUNDED, expand=True, padding=(0, 1 if width >= 100 else 0))
    columns = [column for column in _COLUMNS if width >= column.least]
    for column in columns:
        justify = "right" if column.right else "left"
        table.add_column(
            column.title,
            justify=justify,  # type: ignore[arg-type] # a literal to us, a str to mypy
            no_wrap=True,
            overflow="crop",
        )
    for row in rows:
        cells = _cells(row, ".." if ascii_only else "…")
        table.add_row(*(cells[column.title] for column in columns))
    return table


def _cells(row: RelayRow, dots: str) -> dict[str, RenderableType]:
    reading = row.reading
    style = {"connected": "green", "published": "cyan", "waiting": "dim"}.get(row.state, "yellow")
    return {
        "#": str(row.number),
        "onion address": onion_text(row.onion, dots),
        "state": Text(row.state, style=style),
        "in/out": f"{reading.inbound}/{reading.outbound}",
        "seen": str(reading.seen),
        "relayed": str(reading.relayed),
        "received": size_text(reading.received),
        "sent": size_text(reading.sent),
    }


def _foot(board: Board, width: int) -> list[str]:
    """The totals, broken into lines between their pieces."""
    lines = [""]
    for piece in ["transactions:", *totals(board)]:
        longer = f"{lines[-1]}  {piece}" if lines[-1] else piece
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(piece)
    return lines


def _log(board: Board, room: int, *, brief: bool) -> list[RenderableType]:
    if not board.log:
        text = "the first transaction goes out as soon as all relays are connected"
        return [Text(text, style="dim", no_wrap=True, overflow="crop")]
    newest = list(board.log)[-room:]
    return [
        Text(
            f"{line.elapsed:7.1f} s  {transaction_text(line, brief=brief)}",
            style="bold red" if line.overdue else "",
            no_wrap=True,
            overflow="crop",
        )
        for line in newest
    ]


class LiveScreen:
    """Draws boards on the terminal, in place; the last one stays.

    Args:
        console: a terminal that can move its cursor.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def update(self, board: Board) -> None:
        """Draw it."""
        options = self._console.options
        # One line stays free: a terminal scrolls when its last one is filled.
        drawn = render(board, self._console.width, self._console.height - 1, ascii_only=options.ascii_only)
        self._live.update(drawn, refresh=True)

    def close(self, board: Board) -> None:
        """Draw it for the last time, and give the terminal back."""
        self.update(board)
        self._live.stop()


def live_screen() -> LiveScreen | None:
    """Make a screen on standard output, or None where that is no terminal that could show one."""
    if locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX") and isinstance(sys.stdout, io.TextIOWrapper):
        # Python writes UTF-8 all the same then, which such a terminal shows as rubbish.
        sys.stdout.reconfigure(encoding="ascii", errors="replace")
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    return LiveScreen(console)
