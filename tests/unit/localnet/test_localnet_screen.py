"""What is drawn, at every size that is promised."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from relay.localnet.board import Board, RelayRow, TransactionLine
from relay.localnet.plain import PlainLines
from relay.localnet.scrape import Reading
from relay.localnet.screen import LiveScreen, live_screen, render
from relay.localnet.words import milliseconds, onion_text, size_text, transaction_text

ONION = "abcdefgh" * 7 + ".onion"


def board(relays: int = 3, lines: int = 30) -> Board:
    made = Board(
        elapsed=123.4,
        percent=100,
        words="clients of the relays, 3 of 3 ready",
        sent=12345,
        arrived=12344,
        rate=19.8,
        p50=31.25,
        p99=144.1,
        first_arrival=15.0,
    )
    reading = Reading(100, True, 2, 1, 1, 12345, 12340, 12_300_000, 999_400)
    made.rows = [RelayRow(number + 1, ONION, True, reading) for number in range(relays)]
    latencies = {number + 2: 31.2 + number for number in range(relays - 1)}
    made.log.extend(
        TransactionLine(number, float(number), f"{number:02x}" * 32, latencies) for number in range(1, lines)
    )
    return made


def drawn(shown: Board, width: int, height: int, *, ascii_only: bool = False) -> list[str]:
    file = io.StringIO()
    console = Console(width=width, height=height, file=file, record=True, color_system=None)
    console.print(render(shown, width, height, ascii_only=ascii_only))
    return console.export_text().splitlines()


@pytest.mark.parametrize("relays", [2, 3, 8, 20])
@pytest.mark.parametrize(("width", "height"), [(40, 24), (60, 24), (80, 24), (120, 50), (40, 10), (80, 12)])
def test_screen_fits(width, height, relays):
    lines = drawn(board(relays), width, height)
    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 12)
    assert any("p50 31.2 ms" in line for line in lines)
    assert "connected" in "".join(lines)


def test_80_columns_show_everything():
    text = "\n".join(drawn(board(), 80, 24))
    for part in (
        "abcdefgh….onion",
        "connected",
        "1/1",
        "12345",
        "12340",
        "12.3 MB",
        "999 kB",
        "arrived 12344 (19.8/s)",
        "100%",
        "0x1d1d1d1d1d  relay 2 31.2 ms, relay 3 32.2 ms",
    ):
        assert part in text


def test_40_columns_show_counts_and_latencies_of_all_receivers():
    text = "\n".join(drawn(board(), 40, 24))
    assert "in/out" in text
    assert "relayed" in text
    assert "0x1d1d1d  2: 31 ms, 3: 32 ms" in text


def test_relays_that_do_not_fit_are_counted():
    lines = drawn(board(20), 80, 24)
    assert any("more relays" in line for line in lines)
    assert (
        sum("connected" in line for line in lines)
        + int(next(line.split()[1] for line in lines if "more relays" in line))
        == 20
    )


def test_terminal_without_utf_8_gets_ascii():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")  # strict: anything else raises
    console = Console(width=80, height=24, file=file, force_terminal=True, color_system=None)
    screen = LiveScreen(console)
    screen.update(board(20))
    screen.close(board(20))
    file.flush()
    assert b"abcdefgh...onion" in raw.getvalue()


def test_early_screen_says_what_it_waits_for():
    early = Board(elapsed=2.0, percent=18, words="the authorities vote on the network")
    early.rows = [RelayRow(1, ONION), RelayRow(2, ONION, True, Reading(tor_percent=45))]
    text = "\n".join(drawn(early, 80, 24))
    assert "18% the authorities vote" in text
    assert "waiting" in text
    assert "Tor 45%" in text
    assert "the first transaction goes out" in text


def test_lost_transaction_stands_out():
    shown = board()
    shown.overdue = 1
    shown.log.append(TransactionLine(99, 60.0, "ff" * 32, {2: 31.0}, overdue=True))
    text = "\n".join(drawn(shown, 80, 24))
    assert "LOST 1" in text
    assert "LOST, arrived only at: relay 2 31.0 ms" in text


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (RelayRow(1, ONION), "waiting"),
        (RelayRow(1, ONION, True), "Tor 0%"),
        (RelayRow(1, ONION, True, Reading(tor_percent=100)), "publishing"),
        (RelayRow(1, ONION, True, Reading(tor_percent=100, service_up=True)), "published"),
        (RelayRow(1, ONION, True, Reading(tor_percent=100, service_up=True, onion_peers=1)), "connected"),
    ],
)
def test_state_of_a_relay(row, state):
    assert row.state == state


def test_no_screen_without_a_terminal(capsys):
    assert live_screen() is None


def test_short_texts():
    assert [size_text(count) for count in (0, 999, 1000, 12_345, 999_400, 999_600, 5 * 10**12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "12.3 kB",
        "999 kB",
        "1.0 MB",
        "5.0 TB",
    ]
    assert onion_text(ONION, "..") == "abcdefgh...onion"
    assert onion_text("", "..") == ""
    assert [milliseconds(value) for value in (None, 3.14159, 1234.5)] == ["-", "3.1 ms", "1234 ms"]
    many = TransactionLine(1, 1.0, "ab" * 32, {2: 5.0, 3: 9.0, 4: 7.0, 5: 6.0})
    assert transaction_text(many) == "0xababababab  4 relays 5.0 ms to 9.0 ms"
    lost = TransactionLine(1, 1.0, "ab" * 32, {}, overdue=True)
    assert transaction_text(lost).endswith("arrived only at: none")
    assert transaction_text(lost, brief=True) == "0xababab  LOST "


def test_plain_lines_say_each_thing_once():
    file = io.StringIO()
    plain = PlainLines(file)
    early = Board(elapsed=1.0, percent=18, words="the authorities vote on the network")
    early.rows = [RelayRow(1, ONION), RelayRow(2, ONION, True, Reading(tor_percent=45))]
    plain.update(early)
    plain.update(early)
    later = board(2, lines=6)
    plain.update(later)
    plain.update(later)
    later.log.append(TransactionLine(7, 60.0, "ff" * 32, {}, overdue=True))
    plain.close(later)
    lines = file.getvalue().splitlines()
    assert all(line.isascii() for line in lines)
    assert [line.strip() for line in lines] == [
        "1.0 s  Tor 18%: the authorities vote on the network",
        "123.4 s  Tor 100%: clients of the relays, 3 of 3 ready",
        f"123.4 s  relay 1 {ONION} connected",
        f"123.4 s  relay 2 {ONION} connected",
        "123.4 s  0x0101010101  relay 2 31.2 ms",
        "123.4 s  0x0202020202  relay 2 31.2 ms",
        "123.4 s  0x0303030303  relay 2 31.2 ms",
        "123.4 s  transactions: sent 12345, arrived 12344 (19.8/s), p50 31.2 ms, p99 144 ms",
        "123.4 s  0xffffffffff  LOST, arrived only at: none",
        "123.4 s  transactions: sent 12345, arrived 12344 (19.8/s), p50 31.2 ms, p99 144 ms",
    ]
