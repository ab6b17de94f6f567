from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from relay.app.checkup import State
from relay.app.datadir import DataDir
from relay.primitives.enode import Enode
from relay.primitives.onion import OnionKey
from tests.aids.control_server import control_server
from tests.aids.peering import key_of, rand_of
from tests.aids.socks_server import Act, Script, SocksServer

ONION = OnionKey.generate(rand_of(9)).address


@pytest.fixture
def nodes(doctor):
    def write(content: object) -> None:
        DataDir(doctor.folder)
        text = content if isinstance(content, str) else json.dumps(content)
        (doctor.folder / "static-nodes.json").write_text(text)

    return write


def enode(number: int, host: str = ONION) -> str:
    return Enode(key_of(number).public_key, host, 30303, 30303).url


async def test_nodes_that_are_valid_are_counted(doctor, nodes):
    nodes([enode(1), enode(2)])
    async with SocksServer() as proxy:
        finding = await doctor.one("static nodes", tor_proxy=proxy.address)
    assert (finding.state, finding.detail) == (State.OK, "2 static nodes, 0 trusted ones")


async def test_no_nodes_are_worth_a_look(doctor, nodes):
    nodes([])
    assert "nobody is dialed" in (await doctor.one("static nodes")).detail


async def test_nodes_that_the_mode_does_not_dial_are_worth_a_look(doctor, nodes):
    nodes([enode(1), enode(2, "10.0.0.1")])
    finding = await doctor.one("static nodes")
    assert finding.state is State.WARN
    assert finding.detail.startswith("1 of 2 static nodes are not dialed: it has only an onion address")


async def test_each_rejected_entry_is_named(doctor, nodes):
    bad_onion = "a" * 55 + "b.onion"
    nodes(
        [
            enode(1),
            f"enode://{'12' * 64}@1.2.3.4:1",
            enode(2).replace(ONION, bad_onion),
            enode(1),
            {"pod": "x"},
        ]
    )
    found = await doctor.of("static nodes")
    assert [each.state for each in found] == [State.FAIL] * 4
    assert [each.detail.split(" (")[0] for each in found] == [
        f"static-nodes.json, entry {index}" for index in (1, 2, 3, 4)
    ]
    assert all(each.remedy for each in found)


async def test_many_rejected_entries_do_not_flood_the_screen(doctor, nodes):
    nodes(["x"] * 1000)
    found = await doctor.of("static nodes")
    assert len(found) == 21
    assert "980 more" in found[-1].detail


@pytest.mark.parametrize("content", ["{", '{"pods": 3}', "5"])
async def test_a_file_that_is_no_list_is_a_failure(doctor, nodes, content):
    nodes(content)
    assert (await doctor.one("static nodes")).state is State.FAIL


async def test_a_file_that_was_named_must_be_there(doctor, tmp_path):
    finding = await doctor.one("static nodes", trusted_nodes=tmp_path / "no.json")
    assert (finding.state, "does not exist" in finding.detail) == (State.FAIL, True)


# -- with a daemon that runs


@asynccontextmanager
async def running_daemon(folder, names):
    """What the doctor sees of a daemon: its lock and its socket, where it tells of peers of these names."""
    data = DataDir(folder)
    data.onion_key(None, rand_of(9))
    data.lock()

    async def serve(reader, writer):
        asked = json.loads(await reader.readline())
        result = [{"name": name} for name in names] if asked["method"] == "admin_peers" else "pyrelay/v1"
        writer.write(json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(serve, folder / "pyrelay.ipc")
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
        data.unlock()


@pytest.mark.parametrize(
    ("names", "state", "words"),
    [
        ([], State.WARN, "no peer is connected"),
        (["pyrelay/v0.1.0", "pyrelay/v0.2.0"], State.WARN, "all 2 peers are pyrelays"),
        (["pyrelay/v0.1.0", "Geth/v1.17.8"], State.OK, "1 of them no pyrelay"),
    ],
)
async def test_a_network_without_anybody_who_has_the_chain_is_worth_a_look(doctor, names, state, words):
    async with running_daemon(doctor.folder, names):
        finding = await doctor.one("peers")
    assert (finding.state, words in finding.detail) == (state, True)
    if "pyrelays" in words:
        assert "--prefer-tor or --clearnet tor" in finding.remedy


async def test_a_running_daemon_answers_on_its_socket(doctor):
    async with running_daemon(doctor.folder, []):
        assert "answers: pyrelay/v1" in (await doctor.one("ports")).detail


@asynccontextmanager
async def tor(folder, **socks):
    async with SocksServer(**socks) as proxy, control_server(folder) as control:
        yield (
            proxy,
            {"tor_proxy": proxy.address, "tor_control": f"127.0.0.1:{control.port}", "only_onion": "true"},
        )


async def test_own_onion_is_reached_through_tor_with_credentials_of_its_own(doctor, tmp_path):
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    route = ("127.0.0.1", listener.sockets[0].getsockname()[1])
    async with listener, tor(tmp_path, routes={(ONION, 30303): route}) as (proxy, flags):
        async with running_daemon(doctor.folder, []):
            finding = await doctor.one("own onion", **flags)
        assert finding.state is State.OK
        assert [(each.host, each.port) for each in proxy.asked] == [(ONION, 30303)]
        assert proxy.asked[0].password.startswith(b"probe-")


@pytest.mark.parametrize(
    ("code", "words"),
    [(0xF0, "it is not published"), (0x05, "--onion-listen"), (0xF2, "try again in a minute")],
)
async def test_own_onion_that_is_not_reached_is_told_with_what_to_compare(doctor, tmp_path, code, words):
    # The first connection is that of the step before, which only asks whether it is Tor.
    scripts = [Script(), Script(Act.REFUSE, code)]
    async with tor(tmp_path, scripts=scripts) as (_, flags), running_daemon(doctor.folder, []):
        finding = await doctor.one("own onion", **flags)
    assert finding.state is State.FAIL
    assert words in finding.remedy


async def test_own_onion_is_not_dialed_without_a_daemon_or_a_service(doctor, tmp_path):
    async with tor(tmp_path) as (proxy, flags):
        assert (await doctor.one("own onion", **flags)).state is State.SKIPPED
        async with running_daemon(doctor.folder, []):
            assert (await doctor.one("own onion", onion_service="off", **flags)).state is State.SKIPPED
            (doctor.folder / "onion_key").unlink()
            assert (await doctor.one("own onion", **flags)).state is State.SKIPPED
        assert proxy.asked == []
