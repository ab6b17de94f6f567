import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from relay.monitor.geography import Nowhere
from relay.monitor.keys import KeyReader
from relay.monitor.render import Canvas, draw_once, draw_screen
from relay.monitor.view import COLUMNS, NUMBER, Scene, ViewState, age_text, press, select, shown_columns
from relay.monitor.watch import Watch
from tests.unit.monitor.conftest import peer, view

GETH, RETH = "Geth/v1.17.8/linux-amd64/go1.24", "reth/v2.5.1-7b3432d/x86_64-unknown-linux-gnu"
ADDRESS = "93.184.216.34:30303"


def watched(*peers: object) -> Watch:
    watch = Watch(0.0)
    watch.take(view(*peers), 1.0)
    return watch


def crowd(count: int = 30) -> Watch:
    return watched(
        *(
            peer(n, client=GETH if n % 3 else RETH, inbound=n % 2 == 0, head=1000 - n, eth=68 + n % 2)
            for n in range(count)
        )
    )


def selected(watch: Watch, **changes: object) -> list[object]:
    state = ViewState(**changes)
    return select(watch.peers, state, Scene(watch, 5.0, state.addresses, Nowhere()))


def drawn(watch: Watch, state: ViewState | None = None, **canvas: object) -> list[str]:
    size = Canvas(**{"width": 120, "height": 30, **canvas})
    return [line.plain for line in draw_screen(watch, 5.0, size, Nowhere(), state or ViewState()).lines]


def pressed(watch: Watch, *keys: str, state: ViewState | None = None, page: int = 10) -> ViewState:
    state = state or ViewState()
    for key in keys:
        state = press(state, key, [each.key for each in selected(watch, sort=state.sort)], page)
    return state


# -- order and filters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [each.name for each in COLUMNS])
def test_every_column_orders_peers_both_ways(column: str) -> None:
    up, down = selected(crowd(), sort=column), selected(crowd(), sort=column, descending=True)

    assert len(up) == 30
    assert {each.key for each in up} == {each.key for each in down}
    rank = next(each for each in COLUMNS if each.name == column).rank
    scene = Scene(crowd(), 5.0, False, Nowhere())
    assert [rank(each, scene) for each in up] == [rank(each, scene) for each in down][::-1]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("", 30),
        ("client:geth", 20),
        ("client:reth dir:in", 5),
        ("GETH", 20),
        ("eth:69 client:reth", 5),
        ("net:ipv4", 30),
        ("net:onion", 0),
        ("nothing-like-it", 0),
        ("nofield:geth", 0),
    ],
)
def test_filters(words: str, count: int) -> None:
    assert len(selected(crowd(), filter=words)) == count


def test_filter_does_not_look_behind_the_mask() -> None:
    watch = watched(peer(1, address=ADDRESS))

    assert selected(watch, filter="216.34") == []
    assert len(selected(watch, filter="216.34", addresses=True)) == 1


# -- keys ----------------------------------------------------------------------------------------------


def test_keys_come_whole_from_bytes_in_any_pieces() -> None:
    data = "j\x1b[B\x1b[6~/gé\x7f\r\x1b[9;9Z\x03".encode()
    whole = KeyReader().feed(data)
    reader = KeyReader()
    # An escape at the end of a read is the key of that name: terminals send a sequence's first two at once.
    cuts = [
        piece
        for part in data.split(b"\x1b")
        for piece in (b"\x1b" + part[:1], *(part[i : i + 1] for i in range(1, len(part))))
    ]
    pieces = [key for piece in (b"j", *cuts[1:]) for key in reader.feed(piece)]

    assert whole == ["j", "down", "page down", "/", "g", "é", "backspace", "enter", "quit"]
    assert pieces == whole


@given(st.binary(max_size=64))
def test_any_bytes_are_keys_or_nothing(data: bytes) -> None:
    assert all(key.isprintable() for key in KeyReader().feed(data))


def test_lone_escape_is_told_at_once() -> None:
    assert KeyReader().feed(b"\x1b") == ["escape"]
    assert KeyReader().feed(b"\x1bq") == ["escape", "q"]


def test_cursor_moves_within_the_table_and_the_table_follows() -> None:
    watch = crowd()
    keys = [each.key for each in selected(watch)]

    assert pressed(watch, "down").cursor == keys[1]
    assert pressed(watch, "down", "up", "up").cursor == keys[0]
    assert (pressed(watch, "page down").cursor, pressed(watch, "page down").top) == (keys[10], 1)
    assert (pressed(watch, "end").cursor, pressed(watch, "end").top) == (keys[29], 20)
    assert (pressed(watch, "end", "home").cursor, pressed(watch, "end", "home").top) == (keys[0], 0)
    assert press(ViewState(), "down", [], 10) == ViewState()
    assert press(ViewState(cursor="gone"), "down", keys, 10).cursor == keys[1]


def test_filter_is_typed_kept_and_dropped() -> None:
    watch = crowd()
    typed = pressed(watch, "/", *"geth", "backspace", "x")

    assert (typed.filter, typed.typing) == ("getx", True)
    assert pressed(watch, "enter", state=typed).typing is False
    assert pressed(watch, "enter", "q", state=typed).ended
    assert pressed(watch, "escape", state=typed).filter == ""
    assert pressed(watch, "erase", state=typed).filter == ""
    assert pressed(watch, "q", "quit", state=typed).ended
    assert len(pressed(watch, "/", *("x" * 500)).filter) == 64


def test_commands() -> None:
    watch = crowd()

    assert pressed(watch, "s").sort == "dir"
    assert pressed(watch, "S").sort == "address"
    assert pressed(watch, "r").descending
    assert pressed(watch, " ").paused
    assert pressed(watch, "a").addresses
    assert pressed(watch, "enter").screen == "details"
    assert pressed(watch, "enter", "q").screen == "table"
    assert pressed(watch, "h", "escape").screen == "table"
    assert pressed(watch, "?").screen == "help"
    assert pressed(watch, "q").ended
    assert pressed(watch, "quit").ended
    assert pressed(watch, "Z") == ViewState()


# -- pictures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [*range(20, 60), 79, 80, 100, 119, 120, 160, 200])
@pytest.mark.parametrize("geography", [True, False])
def test_columns_fit_any_terminal(width: int, geography: bool) -> None:
    columns = shown_columns(width, geography=geography)

    assert NUMBER + sum(each.width + 1 for each in columns) <= width
    if width >= 40:
        assert {"id", "dir", "client"} <= {each.name for each in columns}


def test_screen_of_forty_columns_keeps_to_them(hostile_names: list[str]) -> None:
    peers = [peer(n, client=name, full_name=name[:200]) for n, name in enumerate(hostile_names)]
    watch = watched(*peers)
    watch.fail("can't be reached: connection refused " * 5, 2.0)

    for width in (20, 40, 80, 200):
        for screen in ("table", "details", "history", "help"):
            for height in (6, 12, 24):
                lines = drawn(
                    watch, ViewState(screen=screen, filter="", addresses=True), width=width, height=height
                )
                assert len(lines) == height
                assert all(cell_len(line) <= width for line in lines)


def test_no_name_of_a_peer_reaches_the_terminal_raw(hostile_names: list[str]) -> None:
    watch = watched(
        *(peer(n, client=name, full_name="", address=name[:40]) for n, name in enumerate(hostile_names))
    )
    pictures = [
        drawn(watch, ViewState(screen=each, addresses=True)) for each in ("table", "details", "history")
    ]
    pictures.append([line.plain for line in draw_once(watch, 5.0, Canvas(120), Nowhere(), addresses=True)])

    for lines in pictures:
        assert all(line.isprintable() for line in lines)


def test_ascii_terminal_gets_ascii() -> None:
    watch = crowd()
    watch.take(view(*watch.peers[:9]), 3.0)
    for screen in ("table", "details", "history", "help"):
        for line in drawn(watch, ViewState(screen=screen), ascii_only=True, width=60):
            assert line.isascii(), line


def test_without_utf8_what_is_replaced_takes_the_room_that_was_counted() -> None:
    strange = watched(
        peer(1, client="漢字/v1.0"), peer(2, client="e\u0301" * 12 + "/v1.0"), peer(3, client=GETH)
    )
    for screen in ("table", "details", "history"):
        for line in drawn(strange, ViewState(screen=screen, addresses=True), ascii_only=True, width=40):
            assert line.isascii(), line
            assert len(line) <= 40, line

    rows = [line for line in drawn(strange, ascii_only=True) if "v1." in line]
    assert len({row.index("v1.") for row in rows}) == 1, rows


def test_screen_shows_head_counts_and_rows() -> None:
    lines = drawn(crowd())

    assert lines[0].startswith("Geth  mainnet  head 1,000  synced")
    assert lines[1] == "30 peers: 15 in, 15 out"
    assert any(line.startswith("clients  ") and "geth 20" in line and "reth 10" in line for line in lines)
    heading = next(line for line in lines if line.startswith("    #"))
    assert heading.split() == [
        "#",
        "id▲",
        "dir",
        "network",
        "fl",
        "client",
        "version",
        "os",
        "eth",
        "snap",
        "lag",
        "age",
        "address",
    ]
    assert any(line.startswith(">") for line in lines)
    assert lines[-1].startswith("? help")


def test_what_no_peer_tells_has_no_histogram() -> None:
    text = "\n".join(drawn(watched(peer(1, client="", eth=None), peer(2, client="", eth=None))))

    assert "networks " in text
    assert "clients " not in text
    assert "\neth " not in text


def test_screen_says_how_old_the_data_is() -> None:
    watch = crowd()
    watch.fail("connection refused", 2.0)

    assert "the data is 4s old: connection refused" in drawn(watch)
    assert drawn(Watch(0.0))[0] == "no data yet: looking at the node"
    failed = Watch(0.0)
    failed.fail("no answer within 1 s", 1.0)
    assert drawn(failed)[0] == "no data yet: no answer within 1 s"


def test_details_are_masked_until_asked() -> None:
    watch = watched(
        peer(1, address=ADDRESS, full_name="Geth/private-name/v1", enode=f"enode://aa@{ADDRESS}", head=990)
    )
    masked = "\n".join(drawn(watch, ViewState(screen="details")))
    shown = "\n".join(drawn(watch, ViewState(screen="details", addresses=True)))

    for personal in ("93.184.216.34", "private-name", watch.peers[0].key):
        assert personal not in masked
        assert personal in shown
    assert "990, 10 behind" in masked


def test_history_tells_what_happened() -> None:
    watch = crowd()
    watch.take(view(*watch.peers[:9]), 3.0)
    text = "\n".join(drawn(watch, ViewState(screen="history")))

    assert "0 came, 21 left, 0 node_restart; 0 looks failed" in text
    assert "and 18 more went" in text
    assert "history  " in text


def test_filter_and_pause_are_told_in_the_footer() -> None:
    assert drawn(crowd(), ViewState(typing=True, filter="geth"))[-1] == "filter: geth_   (20 fit)"
    assert drawn(crowd(), ViewState(paused=True, filter="zz"))[-1].startswith("PAUSED  filter zz (0)")
    assert "no peer fits the filter" in drawn(crowd(), ViewState(filter="zz"))


def test_table_of_all_peers_has_each_of_them() -> None:
    lines = [line.plain for line in draw_once(crowd(), 5.0, Canvas(100), Nowhere(), addresses=False)]

    assert len([line for line in lines if " 93.0.*.*" in line]) == 30
    assert all(cell_len(line) <= 100 for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (99, "99s"), (100, "1m"), (5999, "99m"), (6000, "1h"), (200_000, "2d"), (-4, "0s")],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert age_text(seconds) == text
