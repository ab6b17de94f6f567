"""What the screen shows of a watch: columns, order, filters, and what each key does to them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from relay.monitor.geography import Geography, Nowhere
from relay.monitor.peer import UNKNOWN, Peer, clean, mask
from relay.monitor.watch import Watch

__all__ = [
    "COLUMNS",
    "Column",
    "Scene",
    "ViewState",
    "age_text",
    "column_cells",
    "press",
    "select",
    "shown_columns",
]

MAX_FILTER: Final = 64
NUMBER: Final = 5  # cells of a row's number
_UNSAID: Final = 1 << 62  # sorts what is not known last


@dataclass(frozen=True, slots=True)
class Scene:
    """What cells are made of.

    Attributes:
        watch: what was seen.
        now: seconds of its clock.
        addresses: show them whole.
        geography: for countries.
    """

    watch: Watch
    now: float
    addresses: bool
    geography: Geography | Nowhere


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    Attributes:
        name: in its heading, and as field of a filter.
        width: cells of the terminal.
        place: in the order in which columns get room on a terminal; 0 is always there.
        cell: its text.
        rank: orders peers by it.
        right: its text stands at the right.
    """

    name: str
    width: int
    place: int
    cell: Callable[[Peer, Scene], str]
    rank: Callable[[Peer, Scene], tuple[int, str]]
    right: bool = False


def _by_text(cell: Callable[[Peer, Scene], str]) -> Callable[[Peer, Scene], tuple[int, str]]:
    return lambda peer, scene: (cell(peer, scene) == UNKNOWN, cell(peer, scene))


def _by_number(number: Callable[[Peer, Scene], int | None]) -> Callable[[Peer, Scene], tuple[int, str]]:
    def rank(peer: Peer, scene: Scene) -> tuple[int, str]:
        found = number(peer, scene)
        return (_UNSAID if found is None else found, "")

    return rank


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _id(peer: Peer, _scene: Scene) -> str:
    return peer.short_id


def _direction(peer: Peer, _scene: Scene) -> str:
    return peer.direction


def _network(peer: Peer, _scene: Scene) -> str:
    return peer.address.network


def _flags(peer: Peer, _scene: Scene) -> str:
    return ("S" if peer.static else "") + ("T" if peer.trusted else "") or UNKNOWN


def _client(peer: Peer, _scene: Scene) -> str:
    return peer.name.client


def _version(peer: Peer, _scene: Scene) -> str:
    return peer.name.version


def _system(peer: Peer, _scene: Scene) -> str:
    return peer.name.system


def _eth(peer: Peer, _scene: Scene) -> int | None:
    return peer.eth


def _snap(peer: Peer, _scene: Scene) -> int | None:
    return peer.snap


def _lag(peer: Peer, scene: Scene) -> int | None:
    return None if scene.watch.view is None else scene.watch.view.lag(peer)


def _age(peer: Peer, scene: Scene) -> int:
    return int(scene.watch.seen_for(peer, scene.now))


def _age_cell(peer: Peer, scene: Scene) -> str:
    at_least = ">" if scene.watch.seen_since_start(peer) else ""
    return at_least + age_text(scene.watch.seen_for(peer, scene.now))


def _country(peer: Peer, scene: Scene) -> str:
    return scene.geography.country(peer.address)


def _address(peer: Peer, scene: Scene) -> str:
    return str(peer.address) if scene.addresses else mask(peer.address)


COLUMNS: Final = (
    Column("id", 8, 0, _id, _by_text(_id)),
    Column("dir", 3, 0, _direction, _by_text(_direction)),
    Column("network", 8, 3, _network, _by_text(_network)),
    Column("fl", 2, 6, _flags, _by_text(_flags)),
    Column("client", 12, 1, _client, _by_text(_client)),
    Column("version", 12, 4, _version, _by_text(_version)),
    Column("os", 8, 9, _system, _by_text(_system)),
    Column("eth", 4, 5, lambda peer, scene: _number(_eth(peer, scene)), _by_number(_eth), right=True),
    Column("snap", 4, 10, lambda peer, scene: _number(_snap(peer, scene)), _by_number(_snap), right=True),
    Column("lag", 7, 7, lambda peer, scene: _number(_lag(peer, scene)), _by_number(_lag), right=True),
    Column("age", 6, 2, _age_cell, _by_number(_age), right=True),
    Column("country", 7, 11, _country, _by_text(_country)),
    Column("address", 16, 8, _address, _by_text(_address)),
)
_BY_NAME: Final = {column.name: column for column in COLUMNS}
_SHORT: Final = {"net": "network", "direction": "dir", "flags": "fl", "ip": "address", "geo": "country"}


def shown_columns(width: int, *, geography: bool) -> tuple[Column, ...]:
    """Return the columns for which a terminal of this width has room, beside a number of NUMBER cells."""
    left = width - NUMBER
    shown = set()
    for column in sorted(COLUMNS, key=lambda each: each.place):
        if column.name == "country" and not geography:
            continue
        if column.width + 1 > left:
            break
        shown.add(column.name)
        left -= column.width + 1
    return tuple(column for column in COLUMNS if column.name in shown)


def column_cells(peer: Peer, columns: Sequence[Column], scene: Scene) -> list[str]:
    """Return the texts of a row."""
    return [column.cell(peer, scene) for column in columns]


def age_text(seconds: float) -> str:
    """Return a length of time in at most five letters."""
    whole = max(0, int(seconds))
    for unit, size, below in (("s", 1, 100), ("m", 60, 6000), ("h", 3600, 172_800)):
        if whole < below:
            return f"{whole // size}{unit}"
    return f"{whole // 86_400}d"


@dataclass(frozen=True, slots=True)
class ViewState:
    """What the person at the keyboard chose.

    Attributes:
        screen: table, details, history or help.
        sort: name of the column in order.
        descending: the other way round.
        filter: words that each peer shown has; FIELD:WORD looks at one column.
        typing: the filter is being typed.
        paused: the picture stands still.
        addresses: shown whole.
        cursor: key of the chosen peer; "" for the first.
        top: first row that is shown.
        ended: it is over.
    """

    screen: str = "table"
    sort: str = "id"
    descending: bool = False
    filter: str = ""
    typing: bool = False
    paused: bool = False
    addresses: bool = False
    cursor: str = ""
    top: int = 0
    ended: bool = False


def select(peers: Sequence[Peer], state: ViewState, scene: Scene) -> list[Peer]:
    """Return the peers that the filter leaves, in order."""
    tests = [_test(word, scene) for word in state.filter.lower().split()]
    kept = [peer for peer in peers if all(test(peer) for test in tests)]
    rank = _BY_NAME[state.sort].rank
    return sorted(kept, key=lambda peer: rank(peer, scene), reverse=state.descending)


def _test(word: str, scene: Scene) -> Callable[[Peer], bool]:
    field, colon, wanted = word.partition(":")
    column = _BY_NAME.get(_SHORT.get(field, field))
    if colon and column is not None:
        return lambda peer: wanted in column.cell(peer, scene).lower()
    return lambda peer: any(word in column.cell(peer, scene).lower() for column in COLUMNS)


def press(state: ViewState, key: str, rows: Sequence[str], page: int) -> ViewState:
    """Return what follows from a key.

    Args:
        state: before.
        key: as `keys.KeyReader` names it.
        rows: keys of the peers in the table, in order.
        page: rows that the screen has.
    """
    if key == "quit":
        return replace(state, ended=True)
    if state.typing:
        return _typed(state, key)
    if key == "q":
        return replace(state, ended=True) if state.screen == "table" else replace(state, screen="table")
    if key == "escape":
        return replace(state, filter="") if state.screen == "table" else replace(state, screen="table")
    if key in _MOVES:
        return _moved(state, key, rows, page)
    return _commanded(state, key)


_MOVES: Final = {
    "up": -1, "k": -1, "down": 1, "j": 1, "page up": None, "page down": None, "home": None, "end": None,
    "g": None, "G": None,
}  # fmt: skip


def _typed(state: ViewState, key: str) -> ViewState:
    match key:
        case "enter":
            return replace(state, typing=False)
        case "escape":
            return replace(state, typing=False, filter="")
        case "backspace":
            return replace(state, filter=state.filter[:-1])
        case "erase":
            return replace(state, filter="")
        case _ if len(key) == 1 and len(state.filter) < MAX_FILTER:
            return replace(state, filter=state.filter + clean(key), top=0)
    return state


def _moved(state: ViewState, key: str, rows: Sequence[str], page: int) -> ViewState:
    if not rows:
        return state
    at = rows.index(state.cursor) if state.cursor in rows else 0
    to = {
        "page up": at - page, "page down": at + page, "home": 0, "g": 0, "end": len(rows), "G": len(rows),
    }.get(key, at + (_MOVES[key] or 0))  # fmt: skip
    to = min(max(0, to), len(rows) - 1)
    top = min(max(state.top, to - page + 1), to)
    return replace(state, cursor=rows[to], top=max(0, top))


def _commanded(state: ViewState, key: str) -> ViewState:
    command = _COMMANDS.get(key)
    return state if command is None else command(state)


def _sort_by(step: int) -> Callable[[ViewState], ViewState]:
    names = [column.name for column in COLUMNS]
    return lambda state: replace(state, sort=names[(names.index(state.sort) + step) % len(names)])


def _toggle(screen: str) -> Callable[[ViewState], ViewState]:
    return lambda state: replace(state, screen="table" if state.screen == screen else screen)


def _pause(state: ViewState) -> ViewState:
    return replace(state, paused=not state.paused)


_COMMANDS: Final[Mapping[str, Callable[[ViewState], ViewState]]] = {
    "s": _sort_by(1),
    ">": _sort_by(1),
    "S": _sort_by(-1),
    "<": _sort_by(-1),
    "r": lambda state: replace(state, descending=not state.descending),
    "/": lambda state: replace(state, typing=True, screen="table"),
    "p": _pause,
    " ": _pause,
    "a": lambda state: replace(state, addresses=not state.addresses),
    "enter": _toggle("details"),
    "d": _toggle("details"),
    "h": _toggle("history"),
    "?": _toggle("help"),
}
