"""Backoff, versions, addresses to probe, torrc lines, and the status board."""

from pathlib import Path

import pytest

from relay.primitives.address import TcpAddress, UnixAddress
from relay.primitives.errors import ConnectFailed, TorControlError, UsageError
from relay.tor.address import probe_list, probing
from relay.tor.backoff import Backoff
from relay.tor.control_protocol import ReplyParser
from relay.tor.process import check_version
from relay.tor.status import StatusBoard
from relay.tor.torrc import client_torrc, cookie_path, torrc_text
from relay.tor.version import FIRST_WITH_POW, OLDEST_SUPPORTED, TorVersion


def event(text):
    return ReplyParser().feed(f"650 {text}\r\n".encode())[0]


def test_pauses_grow_by_half_up_to_a_minute_and_begin_anew():
    backoff = Backoff()
    assert [backoff.next_pause() for _ in range(4)] == [1, 1.5, 2.25, 3.375]
    assert [backoff.next_pause() for _ in range(20)][-1] == 60
    backoff.reset()
    assert backoff.next_pause() == 1


def test_versions_are_found_and_ordered():
    assert str(TorVersion.find("Tor version 0.4.9.11.\nThis build")) == "0.4.9.11"
    assert TorVersion.find("Tor version 0.4.8.0-alpha-dev (git-x)") == TorVersion((0, 4, 8, 0))
    assert TorVersion.find("nothing 1.2.3") is None
    assert TorVersion((0, 4, 9, 11)) > FIRST_WITH_POW > OLDEST_SUPPORTED


def test_too_old_tor_is_refused():
    check_version(OLDEST_SUPPORTED)
    with pytest.raises(UsageError, match=r"0\.4\.4\.9 is too old"):
        check_version(TorVersion((0, 4, 4, 9)))


def test_control_port_is_probed_at_debians_socket_then_beside_the_proxy():
    debian = UnixAddress("/run/tor/control")
    assert probe_list("127.0.0.1") == (debian, TcpAddress("127.0.0.1", 9051))
    assert probe_list(None) == (debian,)


async def test_probing_takes_the_first_that_answers():
    async def opener(address):
        if isinstance(address, UnixAddress):
            raise ConnectFailed("no such file")
        return address

    assert await probing(opener, probe_list("127.0.0.1"))() == TcpAddress("127.0.0.1", 9051)


async def test_probing_names_each_failure_and_the_group_for_missing_rights():
    async def opener(address):
        if isinstance(address, UnixAddress):
            raise ConnectFailed("no right") from PermissionError(13, "denied")
        raise ConnectionRefusedError("nobody there")

    with pytest.raises(TorControlError, match=r"unix:/run/tor/control.*debian-tor.*9051: nobody there"):
        await probing(opener, probe_list("127.0.0.1"))()


def test_torrc_of_our_own_tor_isolates_explains_and_ends_with_us():
    folder = Path('/data "x"/tor')
    lines = client_torrc(folder, UnixAddress("/s/socks"), TcpAddress("::1", 9051), 77, ["Extra 1"])
    assert 'SocksPort unix:"/s/socks" IsolateSOCKSAuth ExtendedErrors' in lines
    assert "ControlPort [::1]:9051" in lines
    assert 'DataDirectory "/data \\"x\\"/tor/data"' in lines
    assert "__OwningControllerProcess 77" in lines
    assert lines[-1] == "Extra 1"
    assert cookie_path(folder).name in torrc_text(lines)


@pytest.mark.parametrize("line", ["a\nb", "a\rb", "a\0"])
def test_torrc_line_with_a_break_is_refused(line):
    with pytest.raises(UsageError):
        torrc_text([line])


def test_board_tells_changes_once():
    board, told = StatusBoard(), []
    board.subscribe(told.append)
    board.update(uploads=1)
    board.update(uploads=1)
    assert [status.uploads for status in told] == [0, 1]


@pytest.mark.parametrize(
    ("text", "percent", "summary"),
    [
        ('NOTICE BOOTSTRAP PROGRESS=85 TAG=ap_conn SUMMARY="Connecting"', 85, "Connecting"),
        ("NOTICE BOOTSTRAP PROGRESS=999", 100, ""),
        ("NOTICE BOOTSTRAP PROGRESS=-5", 0, ""),
        ("NOTICE BOOTSTRAP PROGRESS=9999999999999999999", 0, ""),
        ("NOTICE CIRCUIT_ESTABLISHED PROGRESS=50", 0, ""),
        ("", 0, ""),
    ],
)
def test_board_reads_bootstrap_and_ignores_nonsense(text, percent, summary):
    board = StatusBoard()
    board.take_bootstrap(text)
    assert (board.status.bootstrap_percent, board.status.bootstrap_summary) == (percent, summary)


def test_board_shows_why_the_bootstrap_is_stuck():
    board = StatusBoard()
    text = 'STATUS_CLIENT WARN BOOTSTRAP PROGRESS=14 SUMMARY="Handshaking" WARNING="No route to host"'
    board.take_status_event(event(text))
    assert board.status.problem == "tor's bootstrap: No route to host"


@pytest.mark.parametrize(("skew", "seconds"), [("-3600", -3600), ("90", 90), ("x", 0), ("9" * 400, 0)])
def test_board_reads_clock_skew(skew, seconds):
    board = StatusBoard()
    board.take_status_event(event(f"STATUS_GENERAL WARN CLOCK_SKEW SKEW={skew} SOURCE=CONSENSUS"))
    assert board.status.clock_skew == seconds


def test_board_reads_liveness():
    board = StatusBoard()
    board.take_liveness("NETWORK_LIVENESS UP")
    assert board.status.network_live
    board.take_liveness("down")
    assert not board.status.network_live
