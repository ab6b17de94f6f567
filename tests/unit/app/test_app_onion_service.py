"""The daemon's onion service beside a scripted Tor: private ones, circuits of visitors, single-hop mode."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import pytest

from relay.app.datadir import DataDir
from relay.app.onion_gate import onion_gate
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import UsageError
from relay.primitives.onion import OnionKey
from relay.tor.client_auth import OnionAccess
from tests.aids.control_server import control_server
from tests.aids.peering import rand_of
from tests.aids.running import running
from tests.aids.socks_server import SocksServer
from tests.aids.streams import Recorder, make_pair
from tests.aids.until import until

KEY = OnionKey.generate(rand_of(15))
SERVICE = KEY.address.removesuffix(".onion")
ACCESS = OnionAccess.generate(KEY.address, rand_of(16))
LINE = b"PROXY TCP6 fc00:dead:beef:4dad::12ab:34cd ::1 65535 42\r\n"


@asynccontextmanager
async def tor(folder, **changes):
    data = DataDir(folder / "relay")
    (data.path / "onion_key").write_bytes(KEY.to_tor_file())
    async with SocksServer() as proxy, control_server(folder, service_id=SERVICE, **changes) as control:
        base = {"tor-proxy": proxy.address, "tor-control": f"127.0.0.1:{control.port}", "only-onion": "true"}
        yield control, base


async def test_a_private_relay_names_its_clients_to_tor_and_its_address_to_nobody(settings_of, tmp_path):
    clients = tmp_path / "clients"
    clients.write_text(ACCESS.client.auth_line + "\n")
    async with (
        tor(tmp_path) as (control, base),
        running(settings_of(**base, **{"onion-auth-clients": clients})) as relay,
    ):
        (added,) = control.matching("ADD_ONION")
        assert added.endswith(f"ClientAuthV3={ACCESS.client.base32}")
        info = await relay.rpc("admin_nodeInfo")
        assert NodeRecord.from_text(info["enr"]).onion3 is None
        assert f"@{KEY.address}:" in info["enode"]  # for the operator, who tells it to friends


async def test_limits_of_the_service_are_those_of_the_settings(settings_of, tmp_path):
    async with (
        tor(tmp_path) as (control, base),
        running(settings_of(**base, **{"onion-pow": "off", "onion-max-streams": "3"})),
    ):
        (added,) = control.matching("ADD_ONION")
    assert "MaxStreams=3" in added
    assert "PoW" not in added


async def test_our_keys_are_at_tor_before_anything_is_dialed(settings_of, tmp_path):
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text(ACCESS.auth_private_line)
    async with (
        tor(tmp_path) as (control, base),
        running(settings_of(**base, **{"onion-auth-keys": keys, "onion-service": "off"})) as relay,
    ):
        given = control.commands.index(control.matching("ONION_CLIENT_AUTH_ADD")[0])
        assert given < len(control.commands)
        assert relay.steps.index("tor") < relay.steps.index("static nodes")
        assert not any(ACCESS.auth_private_line.rpartition(":")[2] in str(each) for each in relay.logs)


@pytest.mark.parametrize("had_it", [False, True])
async def test_tor_keeps_none_of_our_keys_but_those_that_it_had(settings_of, tmp_path, had_it):
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text(ACCESS.auth_private_line)
    held = {SERVICE} if had_it else set()

    def add(line):  # as tor does, whichever connection it was that gave the key
        replaced = SERVICE in held
        held.add(SERVICE)
        return b"251 Client for onion existed and replaced\r\n" if replaced else b"250 OK\r\n"

    def remove(line):
        held.discard(line.split()[1])
        return b"250 OK\r\n"

    answers = {"ONION_CLIENT_AUTH_ADD": add, "ONION_CLIENT_AUTH_REMOVE": remove}
    async with tor(tmp_path, answers=answers) as (control, base):
        async with running(settings_of(**base, **{"onion-auth-keys": keys, "onion-service": "off"})):
            await control.wait_for("ONION_CLIENT_AUTH_ADD", 2)  # at the start, and by what watches Tor
            assert held
        assert bool(held) is had_it


async def test_a_tor_in_single_hop_mode_ends_the_start(settings_of, tmp_path):
    answers = {"GETCONF": b"250-HiddenServiceSingleHopMode=1\r\n250 HiddenServiceNonAnonymousMode=1\r\n"}
    async with tor(tmp_path, answers=answers) as (control, base):
        with pytest.raises(UsageError, match="single-hop mode"):
            async with running(settings_of(**base)):
                pass
        assert not control.matching("ADD_ONION")


async def test_wrong_files_of_keys_end_the_start_with_their_line(settings_of, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("# one\nnonsense\n")
    async with tor(tmp_path) as (_control, base):
        for flag in ("onion-auth-clients", "onion-auth-keys"):
            with pytest.raises(UsageError, match=f"--{flag} .*line 2"):
                async with running(settings_of(**base, **{flag: wrong})):
                    pass


async def test_an_external_service_that_tells_circuits_hears_nobody_without_the_line(settings_of, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = {
        "onion-address": KEY.address, "onion-listen": f"127.0.0.1:{port}", "onion-circuit-ids": "on",
    }  # fmt: skip
    async with tor(tmp_path) as (_control, base), running(settings_of(**base, **more)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x01\xb3" + bytes(40))
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.transport.abort()


async def test_gate_without_circuits_and_discovery_is_none():
    assert onion_gate((Recorder, lambda: True), None, shows_circuits=False) is None


@pytest.mark.parametrize("start", [LINE + LINE, LINE + b"P", b"\x01\xb3", LINE[:-2] + b"\n"])
async def test_gate_takes_one_line_of_tor_and_no_second(start):
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    gate = onion_gate((make, lambda: True), None, shows_circuits=True)
    assert gate is not None
    pair = await make_pair(Recorder, gate.protocol)
    pair.left.write(start + bytes(120))
    await pair.left.wait_lost()
    assert (made, gate.stats.unknown) == ([], 1)
    gate.close()
    await pair.close()


async def test_gate_hands_a_peer_on_behind_the_line():
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    gate = onion_gate((make, lambda: True), None, shows_circuits=True, waiting=1)
    assert gate is not None
    pair = await make_pair(Recorder, gate.protocol)
    assert not gate.has_room()
    pair.left.write(LINE + b"\x01\xb3rest")
    await until(lambda: bool(made) and bool(made[0].received), "it was handed on")
    assert bytes(made[0].received) == b"\x01\xb3rest"
    gate.close()
    await pair.close()


async def test_doctor_names_single_hop_mode_and_a_missing_program_of_a_transport(doctor, tmp_path):
    answers = {"GETCONF": b"250-HiddenServiceSingleHopMode=1\r\n250 HiddenServiceNonAnonymousMode=1\r\n"}
    async with tor(tmp_path, answers=answers) as (control, base):
        finding = await doctor.one(
            "tor control", tor_proxy=base["tor-proxy"], tor_control=f"127.0.0.1:{control.port}"
        )
        assert "single-hop mode" in finding.detail
    finding = await doctor.one(
        "tor program", tor_launch="true", tor_bridge="obfs4 192.0.2.7:443", tor_transport="obfs4=/nowhere/o"
    )
    assert "there is no program /nowhere/o" in finding.detail
