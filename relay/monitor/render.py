"""Draws a watch as lines of text, for a terminal of any width, with or without UTF-8. Pure.

Lines are laid out here and not by rich's tables: of 10,000 peers only those on the screen are drawn, each in
microseconds, and nothing that a peer chose is ever read as markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from relay.monitor.anomalies import find_anomalies
from relay.monitor.geography import Geography, Nowhere
from relay.monitor.peer import UNKNOWN, Peer, mask
from relay.monitor.view import (
    NUMBER,
    Column,
    Scene,
    ViewState,
    age_text,
    column_cells,
    select,
    shown_columns,
)
from relay.monitor.watch import Sample, Watch, tally

__all__ = ["Canvas", "Drawing", "draw_once", "draw_screen"]

_BARS: Final = "▁▂▃▄▅▆▇█"  # eighths of a cell
_ASCII_BARS: Final = "._-:=+*#"
MAX_ANOMALIES: Final = 4
TOP: Final = 6  # words of one histogram
_STALE: Final = 5.0  # seconds
FEW_KEYS: Final = ("? help", "q end")
KEYS: Final = ("? help", "/ filter", "s sort", "Enter details", "h history", "p pause", "q end")
HELP: Final = (
    "up down j k PgUp PgDn Home End   choose a peer",
    "Enter d   details of the chosen peer",
    "s S r     order by the next, by the previous column, the other way round",
    "/         filter: words that a peer has; client:geth net:onion dir:in fl:S; Esc ends it",
    "p Space   pause: the picture stands still, the node is still watched",
    "a         show addresses, or mask them again",
    "h         history and what happened",
    "q         back, or the end",
)


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where it is drawn.

    Attributes:
        width: cells, 20 at least.
        height: lines; 0 for as many as there are.
        ascii_only: there is nothing beyond ASCII.
    """

    width: int
    height: int = 0
    ascii_only: bool = False

    @property
    def dots(self) -> str:
        """What stands where text was cut off."""
        return "~" if self.ascii_only else "…"

    def plain(self, text: str) -> str:
        """Return a text in the letters that there are: replaced later they are not as wide as was counted."""
        return text.encode("ascii", "replace").decode() if self.ascii_only else text

    def cut(self, text: str) -> str:
        """Return as much of a text as fits a line."""
        text = self.plain(text)
        return text if cell_len(text) <= self.width else set_cell_size(text, self.width - 1) + self.dots


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture.

    Attributes:
        lines: from the top.
        rows: keys of the peers in the table, in order, whether they are on the screen or not.
        page: rows that there was room for.
    """

    lines: list[Text]
    rows: list[str]
    page: int


def draw_once(
    watch: Watch, now: float, canvas: Canvas, geography: Geography | Nowhere, *, addresses: bool
) -> list[Text]:
    """Draw everything, once."""
    state = ViewState(addresses=addresses)
    scene = Scene(watch, now, addresses, geography)
    peers = select(watch.peers, state, scene)
    columns = shown_columns(canvas.width, geography=geography.known)
    rows = [_row(number, peer, columns, scene, canvas) for number, peer in enumerate(peers, 1)]
    head = [*_header(watch, now, canvas), *_histograms(watch, canvas), *_warnings(watch, now, canvas, scene)]
    table = [_heading(columns, state, canvas), *rows] if rows else []
    return [*head, *table]


def draw_screen(
    watch: Watch, now: float, canvas: Canvas, geography: Geography | Nowhere, state: ViewState
) -> Drawing:
    """Draw what fits a screen."""
    scene = Scene(watch, now, state.addresses, geography)
    head = _header(watch, now, canvas)
    if canvas.height >= 16:
        head += _histograms(watch, canvas)
    head += _warnings(watch, now, canvas, scene)[: 1 if canvas.height < 16 else MAX_ANOMALIES]
    peers = select(watch.peers, state, scene)
    page = max(1, canvas.height - len(head) - 2)
    if state.screen == "table":
        body = _table(peers, state, scene, canvas, page)
    else:
        body = _other(peers, state, scene, canvas, page + 1)
    lines = [*head, *body][: canvas.height - 1]
    lines += [Text("")] * (canvas.height - 1 - len(lines))
    return Drawing([*lines, _footer(state, len(peers), canvas)], [peer.key for peer in peers], page)


# -- above the table -----------------------------------------------------------------------------------


def _header(watch: Watch, now: float, canvas: Canvas) -> list[Text]:
    view = watch.view
    if view is None:
        words = watch.failure or "looking at the node"
        return [Text(canvas.cut(f"no data yet: {words}"), style="bold red" if watch.failure else "bold")]
    head = UNKNOWN if view.head is None else f"{view.head:,}"
    synced = {
        None: "",
        False: "synced",
        True: "syncing" if not view.target else f"syncing to {view.target:,}",
    }
    parts = [view.client.partition("/")[0] or view.kind, view.chain, f"head {head}", synced[view.syncing]]
    lines = [Text(canvas.cut("  ".join(part for part in parts if part)), style="bold")]
    peers = view.peers
    inbound = sum(peer.inbound is True for peer in peers)
    outbound = sum(peer.inbound is False for peer in peers)
    counts = f"{len(peers)} peer{'s' * (len(peers) != 1)}: {inbound} in, {outbound} out"
    counts += f"; {view.waiting} not connected" if view.waiting else ""
    counts += f"; {view.refused} entries not understood" if view.refused else ""
    lines.append(Text(canvas.cut(counts)))
    age = watch.age(now) or 0.0
    if watch.failure:
        words = f"the data is {age_text(age)} old: {watch.failure}"
        lines.append(Text(canvas.cut(words), style="bold red"))
    elif age > _STALE:
        lines.append(Text(canvas.cut(f"the data is {age_text(age)} old"), style="yellow"))
    return lines


def _histograms(watch: Watch, canvas: Canvas) -> list[Text]:
    peers = watch.peers
    if not peers:
        return []
    found = (
        ("networks", tally(peer.address.network for peer in peers)),
        ("clients", tally(peer.name.client for peer in peers)),
        ("eth", tally(str(peer.eth or UNKNOWN) for peer in peers)),
    )
    told = [(title, counts) for title, counts in found if counts[0] != (UNKNOWN, len(peers))]
    lines = [_histogram(title, counts, len(peers), canvas) for title, counts in told]
    if len(watch.samples) > 1:
        room = max(8, min(60, canvas.width - 24))
        lines.append(Text(canvas.cut(_sparkline(list(watch.samples), room, canvas)), style="cyan"))
    return lines


def _histogram(title: str, counts: Sequence[tuple[str, int]], total: int, canvas: Canvas) -> Text:
    pieces = []
    for word, count in counts[:TOP]:
        bar = _bar(count / total, canvas)
        pieces.append(f"{bar} {word} {count}")
    rest = sum(count for _, count in counts[TOP:])
    pieces += [f"others {rest}"] if rest else []
    return Text(canvas.cut(f"{title:<9}" + "  ".join(pieces)))


def _bar(share: float, canvas: Canvas) -> str:
    bars = _ASCII_BARS if canvas.ascii_only else _BARS
    return bars[min(len(bars) - 1, int(share * len(bars)))]


def _sparkline(samples: Sequence[Sample], room: int, canvas: Canvas) -> str:
    """Draw totals over the time watched, the most of each part of it."""
    begin, end = samples[0].at, samples[-1].at
    width = max((end - begin) / room, 1e-9)
    parts = [0] * room
    for sample in samples:
        place = min(room - 1, int((sample.at - begin) / width))
        parts[place] = max(parts[place], sample.total)
    for place in range(1, room):  # nothing was looked at meanwhile: as before
        parts[place] = parts[place] or parts[place - 1]
    most, least = max(parts), min(parts)
    bars = _ASCII_BARS if canvas.ascii_only else _BARS
    line = "".join(bars[int(part / most * (len(bars) - 1))] if most else bars[0] for part in parts)
    return f"{'history':<9}{line} {least}..{most} in {age_text(end - begin)}"


def _warnings(watch: Watch, now: float, canvas: Canvas, scene: Scene) -> list[Text]:
    mark = "!" if canvas.ascii_only else "⚠"
    lines = []
    for anomaly in find_anomalies(watch, now, addresses=scene.addresses)[:MAX_ANOMALIES]:
        style = "bold red" if anomaly.severity == "critical" else "yellow"
        if canvas.height:
            lines.append(Text(canvas.cut(f"{mark} {anomaly.words}"), style=style))
        else:
            lines += [
                Text(line, style=style)
                for line in _wrapped(canvas.plain(f"{mark} {anomaly.words}"), canvas.width)
            ]
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width:
            lines.append("  " + word)
        else:
            lines[-1] += (" " if lines[-1] else "") + word
    return lines


# -- the table -----------------------------------------------------------------------------------------


def _table(peers: Sequence[Peer], state: ViewState, scene: Scene, canvas: Canvas, page: int) -> list[Text]:
    columns = shown_columns(canvas.width, geography=scene.geography.known)
    if not peers:
        words = "no peer fits the filter" if state.filter else "no peers"
        return [_heading(columns, state, canvas), Text(canvas.cut(words), style="dim")]
    top = min(state.top, max(0, len(peers) - page))
    chosen = state.cursor or peers[0].key
    lines = [_heading(columns, state, canvas)]
    for number, peer in enumerate(peers[top : top + page], top + 1):
        row = _row(number, peer, columns, scene, canvas)
        if peer.key == chosen:
            row.stylize("reverse")
            # Without colour the chosen row would look like any other.
            row = Text(">", style=row.style) + row[1:]
        lines.append(row)
    return lines


def _heading(columns: Sequence[Column], state: ViewState, canvas: Canvas) -> Text:
    cells = ["#".rjust(NUMBER)]
    for column in columns:
        name = column.name
        if name == state.sort and canvas.height:
            arrow = (
                ("v" if state.descending else "^") if canvas.ascii_only else "▼" if state.descending else "▲"
            )
            name = name[: column.width - 1] + arrow
        cells.append(_fit(name, column, canvas))
    return Text(canvas.cut(" ".join(cells)).rstrip(), style="bold underline")


def _row(number: int, peer: Peer, columns: Sequence[Column], scene: Scene, canvas: Canvas) -> Text:
    texts = [canvas.plain(text) for text in column_cells(peer, columns, scene)]
    cells = [str(number).rjust(NUMBER)]
    used = NUMBER + sum(column.width + 1 for column in columns[:-1]) + 1
    for column, text in zip(columns[:-1], texts[:-1], strict=True):
        cells.append(_fit(text, column, canvas))
    room = max(columns[-1].width, canvas.width - used)
    last = texts[-1]
    cells.append(last if cell_len(last) <= room else set_cell_size(last, room - 1) + canvas.dots)
    if columns[-1].right:
        cells[-1] = cells[-1].rjust(columns[-1].width)
    return Text(set_cell_size(" ".join(cells), canvas.width).rstrip())


def _fit(text: str, column: Column, canvas: Canvas) -> str:
    if cell_len(text) > column.width:
        return set_cell_size(text, column.width - 1) + canvas.dots
    return text.rjust(column.width) if column.right else set_cell_size(text, column.width)


# -- the other screens ---------------------------------------------------------------------------------


def _other(peers: Sequence[Peer], state: ViewState, scene: Scene, canvas: Canvas, room: int) -> list[Text]:
    if state.screen == "details":
        return _details(peers, state, scene, canvas)
    if state.screen == "history":
        return _history(scene, canvas, room)
    return [Text(canvas.cut(line)) for line in HELP]


def _details(peers: Sequence[Peer], state: ViewState, scene: Scene, canvas: Canvas) -> list[Text]:
    peer = next((each for each in peers if each.key == state.cursor), peers[0] if peers else None)
    if peer is None:
        return [Text(canvas.cut("that peer has gone"), style="dim")]
    hidden = "masked: press a"
    lag = None if scene.watch.view is None else scene.watch.view.lag(peer)
    said = (
        ("id", peer.key if scene.addresses else f"{peer.short_id} ({hidden})"),
        ("client", f"{peer.name.client} {peer.name.version} {peer.name.system}"),
        ("name", peer.full_name if scene.addresses else hidden),
        ("direction", {True: "it dialed the node", False: "the node dialed it", None: UNKNOWN}[peer.inbound]),
        ("kept", " ".join(["static"] * peer.static + ["trusted"] * peer.trusted) or "no"),
        ("network", peer.address.network),
        ("address", str(peer.address) if scene.addresses else mask(peer.address)),
        ("country", scene.geography.country(peer.address)),
        ("protocols", ", ".join(peer.caps) or UNKNOWN),
        ("speaks", f"eth {peer.eth or UNKNOWN}, snap {peer.snap or UNKNOWN}"),
        ("head", UNKNOWN if peer.head is None else f"{peer.head:,}, {lag} behind"),
        ("seen for", age_text(scene.watch.seen_for(peer, scene.now))
         + (" at least" if scene.watch.seen_since_start(peer) else "")),
        ("enode", peer.enode or UNKNOWN if scene.addresses else hidden),
    )  # fmt: skip
    return [Text(canvas.cut(f"{name:<11}{words}")) for name, words in said]


def _history(scene: Scene, canvas: Canvas, room: int) -> list[Text]:
    watch = scene.watch
    gone = ", ".join(f"{count} {reason}" for reason, count in watch.disconnects.items())
    lines = [Text(canvas.cut(f"{watch.connects} came, {gone}; {watch.failures} looks failed"))]
    for change in list(watch.changes)[-max(0, room - 1) :]:
        lines.append(Text(canvas.cut(f"{age_text(scene.now - change.at):>5} ago  {change.words}")))
    return lines


def _footer(state: ViewState, shown: int, canvas: Canvas) -> Text:
    if state.typing:
        return Text(canvas.cut(f"filter: {state.filter}_   ({shown} fit)"), style="reverse")
    parts = ["PAUSED"] if state.paused else []
    parts += [f"filter {state.filter} ({shown})"] if state.filter else []
    parts += ["addresses shown"] if state.addresses else []
    parts += FEW_KEYS if canvas.width < 70 else KEYS
    return Text(canvas.cut("  ".join(parts)), style="dim" if not state.paused else "reverse")
