from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections import namedtuple

import pytest

from relay.app import checks_host
from relay.app.checks_host import _judged_python
from relay.app.checkup import State
from relay.app.datadir import DataDir
from tests.aids.peering import rand_of


async def test_a_fresh_folder_is_healthy(doctor):
    found = await doctor.findings()
    assert {each.state for each in found} <= {State.OK, State.SKIPPED, State.WARN}
    assert not doctor.folder.exists(), "the doctor changes nothing"


@pytest.mark.parametrize(
    ("version", "system", "state"),
    [
        ((3, 10), "linux", State.FAIL),
        ((3, 11), "linux", State.OK),
        ((3, 13), "darwin", State.OK),
        ((3, 14), "linux", State.WARN),
        ((3, 12), "win32", State.FAIL),
    ],
)
def test_python_and_platform_are_judged(version, system, state):
    assert _judged_python(version, system).state is state


async def test_settings_that_contradict_stop_all_that_needs_them(doctor):
    found = await doctor.findings(only_onion="true")
    assert [each.state for each in found[:2]] == [State.OK, State.FAIL]
    assert {each.state for each in found[2:]} == {State.SKIPPED}
    assert found[1].remedy == "add --tor-proxy 127.0.0.1:9050, or --tor-launch"


async def test_unknown_network_is_a_failure(doctor, tmp_path):
    finding = await doctor.one("settings", network=tmp_path / "no.json")
    assert (finding.state, "No such file" in finding.detail) == (State.FAIL, True)


async def test_warnings_of_the_settings_are_shown(doctor):
    found = await doctor.of("settings", tor_proxy="127.0.0.1:1", single_identity="true")
    assert [each.state for each in found] == [State.OK, State.WARN]
    assert "--only-onion" in found[1].remedy


async def test_a_file_in_place_of_the_folder_is_a_failure(doctor):
    doctor.folder.touch()
    assert "is not a folder" in (await doctor.one("data folder")).detail


async def test_a_folder_that_can_not_be_made_is_a_failure(doctor):
    finding = await doctor.one("data folder", datadir="/proc/pyrelay/data")
    assert finding.state is State.FAIL or os.geteuid() == 0  # root may write anywhere, says access()
    assert "data" in finding.detail


async def test_a_folder_below_a_file_is_a_failure(doctor):
    finding = await doctor.one("data folder", datadir="/dev/null/relay")
    assert (finding.state, "can not be made" in finding.detail) == (State.FAIL, True)


async def test_a_folder_without_rights_is_a_failure(doctor, monkeypatch):
    DataDir(doctor.folder)
    monkeypatch.setattr(checks_host.os, "access", lambda *_: False)
    finding = await doctor.one("data folder")
    assert (finding.state, finding.remedy.startswith("sudo chown")) == (State.FAIL, True)


async def test_a_folder_open_to_others_is_worth_a_look(doctor):
    doctor.folder.mkdir(mode=0o755)
    doctor.folder.chmod(0o755)
    finding = await doctor.one("data folder")
    assert (finding.state, finding.remedy) == (State.WARN, f"chmod 700 {doctor.folder}")


async def test_a_folder_of_another_user_is_worth_a_look(doctor, monkeypatch):
    DataDir(doctor.folder)
    monkeypatch.setattr(checks_host.os, "geteuid", lambda: 4711)
    assert "another user" in (await doctor.one("data folder")).detail


async def test_a_full_disk_is_a_failure(doctor, monkeypatch):
    DataDir(doctor.folder)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 20))
    assert "1024 KiB are left" in (await doctor.one("data folder")).detail


async def test_a_daemon_that_runs_is_seen(doctor):
    data = DataDir(doctor.folder)
    data.lock()
    assert f"running daemon (process {os.getpid()})" in (await doctor.one("data folder")).detail
    data.unlock()


async def test_keys_are_shown_without_their_secrets(doctor):
    data = DataDir(doctor.folder)
    node, onion = data.node_key(None, rand_of(1)), data.onion_key(None, rand_of(2))
    details = [each.detail for each in await doctor.of("keys")]
    assert node.public_key.hex()[:16] in details[0]
    assert onion.address in details[1]
    assert node.secret.hex() not in "".join(details)


async def test_a_key_that_is_none_is_a_failure(doctor):
    DataDir(doctor.folder)
    (doctor.folder / "nodekey").write_text("hello")
    found = await doctor.of("keys")
    assert [each.state for each in found] == [State.FAIL, State.OK]
    assert found[0].remedy.startswith("move the file away")


async def test_a_key_that_was_named_must_be_there(doctor):
    found = await doctor.of("keys", nodekey=doctor.folder / "no")
    assert (found[0].state, found[0].remedy) == (State.FAIL, "make one by: pyrelay key new")


async def test_a_key_open_to_others_is_worth_a_look(doctor):
    DataDir(doctor.folder).node_key(None, rand_of(1))
    (doctor.folder / "nodekey").chmod(0o644)
    assert (await doctor.of("keys"))[0].remedy == f"chmod 600 {doctor.folder}/nodekey"


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_port_that_is_taken_is_a_failure_by_its_flag(doctor, taken_port):
    found = await doctor.of("ports", **{"metrics.port": taken_port, "http": "true", "http.port": taken_port})
    assert [each.state for each in found] == [State.FAIL, State.FAIL, State.OK]
    assert found[0].detail.startswith(f"--metrics.port: can not listen on 127.0.0.1:{taken_port}")
    assert "another port" in found[0].remedy


async def test_a_port_that_our_own_daemon_holds_is_fine(doctor, taken_port):
    data = DataDir(doctor.folder)
    data.lock()
    found = await doctor.of("ports", **{"metrics.port": taken_port})
    assert (found[0].state, "held by the running daemon" in found[0].detail) == (State.OK, True)
    assert (found[1].state, "is missing" in found[1].detail) == (State.WARN, True)
    data.unlock()


async def test_a_free_port_beside_a_running_daemon_is_worth_a_look(doctor, taken_port):
    data = DataDir(doctor.folder)
    data.lock()
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    found = await doctor.of("ports", **{"metrics.port": free})
    assert (found[0].state, "though the daemon runs" in found[0].detail) == (State.WARN, True)
    data.unlock()


async def test_a_file_in_place_of_the_socket_is_a_failure(doctor):
    DataDir(doctor.folder)
    (doctor.folder / "pyrelay.ipc").touch()
    assert "is no socket" in (await doctor.one("ports")).detail


async def test_a_socket_left_from_before_is_fine_and_one_that_answers_is_not(doctor):
    DataDir(doctor.folder)
    path = doctor.folder / "pyrelay.ipc"
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
    assert "another process listens" in (await doctor.one("ports")).detail
    server.close()
    await server.wait_closed()
    if not path.exists():
        leftover = socket.socket(socket.AF_UNIX)
        leftover.bind(str(path))
        leftover.close()
    assert "left from before" in (await doctor.one("ports")).detail


async def test_a_daemon_whose_socket_is_dead_is_a_failure(doctor):
    data = DataDir(doctor.folder)
    data.lock()
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(doctor.folder / "pyrelay.ipc"))
    leftover.close()
    assert "can not be reached" in (await doctor.one("ports")).detail
    data.unlock()
