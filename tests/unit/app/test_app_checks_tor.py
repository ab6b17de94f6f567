from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.app import checks_tor
from relay.app.checkup import State
from relay.primitives.errors import UsageError
from relay.tor.address import GROUP_REMEDY
from relay.tor.version import TorVersion
from tests.aids.control_server import DROP, SILENCE, control_server
from tests.aids.socks_server import Act, Script, SocksServer
from tests.unit.app.conftest import NOW


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(autouse=True)
def tor_program(monkeypatch):
    """The machine's own tor is not asked; a test says what there is."""

    async def version(_: str) -> TorVersion:
        return TorVersion((0, 4, 9, 11))

    monkeypatch.setattr(checks_tor, "find_tor", lambda: "/usr/bin/tor")
    monkeypatch.setattr(checks_tor, "tor_version", version)
    monkeypatch.setattr(checks_tor, "PATIENCE", 0.2)
    return monkeypatch


def stamp(seconds: float) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S").encode()


def consensus(after: float = NOW - 3600, until: float = NOW + 3600) -> dict[str, bytes]:
    return {
        "GETINFO consensus/valid-after": b"250-consensus/valid-after=" + stamp(after) + b"\r\n250 OK\r\n",
        "GETINFO consensus/valid-until": b"250-consensus/valid-until=" + stamp(until) + b"\r\n250 OK\r\n",
    }


@asynccontextmanager
async def tor(folder: Path, **control):
    """A scripted Tor: its flags."""
    async with SocksServer() as proxy, control_server(folder, **control) as server:
        yield {
            "tor_proxy": proxy.address,
            "tor_control": f"127.0.0.1:{server.port}",
            "only_onion": "true",
        }


# -- the program


async def test_no_tor_asked_for_no_tor_looked_at(doctor):
    found = [each for each in await doctor.findings() if each.check.startswith("tor")]
    assert {each.state for each in found} == {State.SKIPPED}


@pytest.mark.parametrize(
    ("numbers", "state"),
    [
        ((0, 4, 9, 2), State.OK),
        ((0, 4, 9, 1), State.WARN),
        ((0, 4, 8, 16), State.WARN),
        ((0, 4, 4, 9), State.FAIL),
    ],
)
async def test_a_tor_too_old_for_proof_of_work_is_worth_a_look(doctor, tor_program, numbers, state):
    async def version(_: str) -> TorVersion:
        return TorVersion(numbers)

    tor_program.setattr(checks_tor, "tor_version", version)
    finding = await doctor.one("tor program", tor_launch="true")
    assert finding.state is state
    if state is not State.OK:
        assert "0.4.9.2" in finding.remedy


@pytest.mark.parametrize(("flag", "state"), [("tor_launch", State.FAIL), ("tor_proxy", State.OK)])
async def test_a_missing_program_matters_only_for_launching_it(doctor, tor_program, flag, state):
    def missing():
        raise UsageError("no program 'tor' found: install Tor (Debian, Ubuntu: sudo apt install tor)")

    tor_program.setattr(checks_tor, "find_tor", missing)
    value = "true" if flag == "tor_launch" else f"127.0.0.1:{free_port()}"
    assert (await doctor.one("tor program", **{flag: value})).state is state


async def test_a_tor_that_the_daemon_starts_is_not_looked_for_before(doctor):
    found = [await doctor.one(name, tor_launch="true") for name in ("tor proxy", "tor control")]
    assert {each.state for each in found} == {State.SKIPPED}


# -- the proxy


async def test_tor_is_recognized_without_asking_the_network(doctor):
    async with SocksServer() as proxy:
        finding = await doctor.one("tor proxy", tor_proxy=proxy.address, only_onion="true")
        assert finding.state is State.OK
        assert proxy.asked == []


async def test_tor_is_recognized_on_a_unix_socket(doctor, tmp_path):
    async with SocksServer(path=str(tmp_path / "socks")) as proxy:
        assert (await doctor.one("tor proxy", tor_proxy=proxy.address)).state is State.OK


async def test_another_socks_proxy_is_not_taken_for_tor(doctor):
    async with SocksServer(is_tor=False) as proxy:
        finding = await doctor.one("tor proxy", tor_proxy=proxy.address)
    assert (finding.state, "not Tor" in finding.detail) == (State.FAIL, True)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (Act.HTTP, "answers in HTTP"),
        (Act.CONTROL, "like a control port"),
        (Act.SOCKS4, "SOCKS4"),
        (Act.NO_AUTH, "does not take user name and password"),
        (Act.BAD_PASSWORD, "refuses our user name"),
        (Act.SILENT, "says nothing for 0.2 s"),
        (Act.CLOSE, "closed the connection|broke the connection"),
    ],
)
async def test_whatever_listens_in_place_of_tor_is_told(doctor, act, words):
    async with SocksServer(script=Script(act)) as proxy:
        finding = await doctor.one("tor proxy", tor_proxy=proxy.address, only_onion="true")
    assert finding.state is State.FAIL
    assert any(word in finding.detail for word in words.split("|")), finding
    assert "--tor-proxy" in finding.remedy


async def test_a_control_port_given_as_proxy_is_told(doctor, tmp_path):
    async with control_server(tmp_path) as server:
        finding = await doctor.one("tor proxy", tor_proxy=f"127.0.0.1:{server.port}")
    assert (finding.state, "SocksPort" in finding.remedy) == (State.FAIL, True)


async def test_no_proxy_at_all_is_told_with_how_to_start_tor(doctor):
    finding = await doctor.one("tor proxy", tor_proxy=f"127.0.0.1:{free_port()}")
    assert (finding.state, "connection refused" in finding.detail) == (State.FAIL, True)
    assert "systemctl" in finding.remedy


# -- the control port


async def test_a_healthy_tor_is_healthy(doctor, tmp_path):
    async with tor(tmp_path, answers=consensus()) as flags:
        found = await doctor.findings(**flags)
    states = {each.check: each.state for each in found}
    for name in ("tor program", "tor proxy", "tor control", "tor bootstrap", "clock"):
        assert states[name] is State.OK
    assert State.FAIL not in states.values()


async def test_no_control_port_is_told_with_the_lines_for_torrc(doctor):
    async with SocksServer() as proxy:
        flags = {"tor_proxy": proxy.address, "tor_control": f"127.0.0.1:{free_port()}"}
        hidden = await doctor.one("tor control", only_onion="true", **flags)
        default = await doctor.one("tor control", **flags)
        outbound = await doctor.one("tor control", only_onion="true", onion_service="off", **flags)
    assert [each.state for each in (hidden, default, outbound)] == [State.FAIL, State.WARN, State.WARN]
    assert "CookieAuthentication 1" in hidden.remedy


async def test_a_cookie_that_can_not_be_opened_is_told_with_the_adduser_line(doctor, tmp_path, monkeypatch):
    def opened(_path: str, _flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("relay.tor.control._open_at_once", opened)
    async with tor(tmp_path) as flags:
        finding = await doctor.one("tor control", **flags)
    assert (finding.state, finding.remedy) == (State.FAIL, GROUP_REMEDY)
    assert "sudo adduser $USER debian-tor" in finding.remedy
    assert "adduser" not in finding.detail


async def test_a_port_without_authentication_is_worth_a_look(doctor, tmp_path):
    async with tor(tmp_path, methods="NULL") as flags:
        finding = await doctor.one("tor control", **flags)
    assert finding.state is State.WARN
    assert "every program on this host" in finding.detail
    assert finding.remedy == "set CookieAuthentication 1 in torrc"


async def test_a_password_that_is_missing_or_wrong_is_told(doctor, tmp_path):
    (tmp_path / "password").write_text("wrong\n")
    async with tor(tmp_path, methods="HASHEDPASSWORD", password="right") as flags:
        missing = await doctor.one("tor control", **flags)
        wrong = await doctor.one("tor control", tor_password_file=tmp_path / "password", **flags)
        (tmp_path / "password").write_text("right\n")
        right = await doctor.one("tor control", tor_password_file=tmp_path / "password", **flags)
        empty = await doctor.one("tor control", tor_password_file="/dev/null", **flags)
        absent = await doctor.one("tor control", tor_password_file=tmp_path / "no", **flags)
    assert [each.state for each in (missing, wrong, right, empty, absent)] == [
        State.FAIL, State.FAIL, State.OK, State.FAIL, State.FAIL,
    ]  # fmt: skip
    assert "--tor-password-file" in missing.remedy
    assert "Authentication failed" in wrong.detail


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 200_000, DROP, SILENCE, b"250 OK\r\n"]
)
async def test_whatever_listens_in_place_of_a_control_port_is_told(doctor, tmp_path, answer):
    async with tor(tmp_path, answers={"PROTOCOLINFO": answer}) as flags:
        assert (await doctor.one("tor control", **flags)).state is State.FAIL


# -- its network, and the clock


async def test_a_tor_that_has_not_bootstrapped_is_a_failure(doctor, tmp_path):
    key = "status/bootstrap-phase"
    phase = b'250-%s=WARN BOOTSTRAP PROGRESS=14 SUMMARY="Handshaking" WARNING="No route"\r\n250 OK\r\n'
    async with tor(tmp_path, answers={f"GETINFO {key}": phase % key.encode()}) as flags:
        found = await doctor.findings(**flags)
    finding = next(each for each in found if each.check == "tor bootstrap")
    assert (finding.state, finding.detail) == (State.FAIL, "Tor has bootstrapped 14%: Handshaking No route")
    assert next(each for each in found if each.check == "own onion").state is State.SKIPPED


async def test_a_network_that_is_down_is_worth_a_look(doctor, tmp_path):
    down = {"GETINFO network-liveness": b"250-network-liveness=down\r\n250 OK\r\n"}
    async with tor(tmp_path, answers=down) as flags:
        assert (await doctor.one("tor bootstrap", **flags)).state is State.WARN


@pytest.mark.parametrize(
    ("offset", "state", "words"),
    [
        (0, State.OK, "agrees"),
        (-3600 - 30, State.OK, "agrees"),
        (-3600 - 1200, State.FAIL, "20 minutes behind"),
        (3600 + 7200, State.FAIL, "2.0 hours ahead"),
    ],
)
async def test_the_clock_is_compared_with_the_consensus(doctor, tmp_path, offset, state, words):
    doctor.now = NOW + offset
    async with tor(tmp_path, answers=consensus()) as flags:
        finding = await doctor.one("clock", **flags)
    assert (finding.state, words in finding.detail) == (state, True)


@pytest.mark.parametrize("value", [b"", b"yesterday", b"9999999-01-01 00:00:00"])
async def test_no_consensus_says_nothing_of_the_clock(doctor, tmp_path, value):
    answers = {"GETINFO consensus/valid-after": b"250-consensus/valid-after=" + value + b"\r\n250 OK\r\n"}
    async with tor(tmp_path, answers=answers) as flags:
        assert (await doctor.one("clock", **flags)).state is State.SKIPPED


async def test_a_control_port_that_hangs_up_in_between_is_a_failure(doctor, tmp_path):
    async with tor(tmp_path, answers={"GETINFO network-liveness": DROP}) as flags:
        assert (await doctor.one("tor control", **flags)).state is State.FAIL
