"""The daemon beside a scripted Tor: it waits and tries again, and never falls back."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from contextlib import asynccontextmanager

import pytest

from relay.app import torside
from relay.app.datadir import DataDir
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import UsageError
from relay.primitives.onion import OnionKey
from relay.tor import backoff, onion_service
from tests.aids.control_server import DROP, SILENCE, control_server
from tests.aids.peering import key_of, rand_of
from tests.aids.running import running
from tests.aids.socks_server import SocksServer
from tests.aids.until import until

KEY = OnionKey.generate(rand_of(5))
OTHER = OnionKey.generate(rand_of(6)).address
SERVICE = KEY.address.removesuffix(".onion")


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch):
    def quick() -> backoff.Backoff:
        return backoff.Backoff(0.02, 1.0)

    monkeypatch.setattr(torside, "Backoff", quick)
    monkeypatch.setattr(onion_service, "Backoff", quick)


@pytest.fixture
def identity(tmp_path):
    """A data folder whose onion key the scripted control port knows."""
    data = DataDir(tmp_path / "relay")
    (data.path / "onion_key").write_bytes(KEY.to_tor_file())
    return data.path


@asynccontextmanager
async def tor(folder, **changes):
    async with SocksServer() as proxy, control_server(folder, service_id=SERVICE, **changes) as control:
        yield proxy, control


def flags(proxy, control, **more):
    return {
        "tor-proxy": proxy.address,
        "tor-control": f"127.0.0.1:{control.port}",
        "only-onion": "true",
    } | more


async def record_of(relay) -> NodeRecord:
    return NodeRecord.from_text((await relay.rpc("admin_nodeInfo"))["enr"])


async def test_a_hidden_relay_publishes_its_service_before_it_is_ready(settings_of, identity, tmp_path):
    async with tor(tmp_path) as (proxy, control):
        async with running(settings_of(**flags(proxy, control))) as relay:
            waited = ["tor", "listeners", "onion service", "record", "static nodes", "discovery"]
            assert relay.steps == ["settings", "keys", "metrics", "rpc", *waited]
            (added,) = control.matching("ADD_ONION")
            assert f"Port=30303,127.0.0.1:{relay.port('listening')}" in added
            record = await record_of(relay)
            assert (record.onion3, record.tcp, record.ip, record.seq) == (KEY.address, 30303, None, 1)
            info = await relay.rpc("admin_nodeInfo")
            assert info["enode"].endswith(f"@{KEY.address}:30303?discport=0")
            assert await relay.metric("pyrelay_onion_service_up") == 1
            assert await relay.metric("pyrelay_tor_bootstrap_percent") == 100
            assert [each["listener"] for each in relay.events("listening")] == ["onion"]
        assert control.matching("DEL_ONION") == [f"DEL_ONION {SERVICE}"]


async def test_a_hidden_relay_has_no_port_open_but_on_loopback(settings_of, identity, tmp_path):
    async with (
        tor(tmp_path) as (proxy, control),
        running(settings_of(**flags(proxy, control, **{"listen-address": "0.0.0.0"}))) as relay,
    ):
        addresses = [each["address"] for name in ("serving", "listening") for each in relay.events(name)]
        assert all(each.startswith(("127.0.0.1:", "unix:")) for each in addresses)


async def test_pages_answer_while_tor_is_waited_for(settings_of, identity, tmp_path):
    async with (
        tor(tmp_path, percent=45) as (proxy, control),
        running(settings_of(**flags(proxy, control)), ready=False) as relay,
    ):
        await control.wait_for("GETINFO status/bootstrap-phase")
        await until(lambda: relay.steps[-1:] == ["listeners"], "listeners")
        assert (await relay.page("/healthz"))[0] == 200
        status, text = await relay.page("/readyz")
        assert (status, "tor: missing (bootstrapped 45% At 45)" in text) == (503, True)
        assert "onion-service: missing" in text
        assert await relay.metric("pyrelay_tor_bootstrap_percent") == 45
        control.percent = 100
        control.emit(b'650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"\r\n')
        await relay.event("ready")
        assert (await relay.page("/readyz"))[0] == 200


@pytest.mark.parametrize("answer", [DROP, SILENCE, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 200_000])
async def test_a_control_port_that_is_none_is_waited_for(
    settings_of, identity, tmp_path, answer, monkeypatch
):
    real = torside.ControlOptions
    monkeypatch.setattr(torside, "ControlOptions", lambda password: real(0.1, password))
    async with tor(tmp_path, answers={"PROTOCOLINFO": answer}) as (proxy, control):
        async with running(settings_of(**flags(proxy, control)), ready=False) as relay:
            await relay.event("waiting for tor's control port", count=2)
            assert relay.steps[-1] == "rpc"
            assert (await relay.page("/readyz"))[0] == 503
            control.answers.clear()
            await relay.event("ready")
        assert proxy.asked == []


async def test_a_control_port_that_is_open_to_everybody_is_used_with_a_warning(
    settings_of, identity, tmp_path
):
    async with (
        tor(tmp_path, methods="NULL") as (proxy, control),
        running(settings_of(**flags(proxy, control))) as relay,
    ):
        warned = [each["event"] for each in relay.logs if each["log_level"] == "warning"]
    (told,) = [each for each in warned if "asks for no authentication" in each]
    assert "every program on this host" in told


async def test_a_control_port_that_comes_later_is_found(settings_of, identity, tmp_path):
    async with tor(tmp_path) as (proxy, control):
        with socket.create_server(("127.0.0.1", 0)) as server:
            dead = server.getsockname()[1]
        settings = settings_of(**flags(proxy, control, **{"tor-control": f"127.0.0.1:{dead}"}))
        async with running(settings, ready=False) as relay:
            await relay.event("waiting for tor's control port")

            async def pipe(reader, writer):
                await control.serve(reader, writer)

            late = await asyncio.start_server(pipe, "127.0.0.1", dead)
            await relay.event("ready")
            late.close()
    assert "connection refused" in relay.events("waiting for tor's control port")[0]["cause"]


async def test_a_daemon_that_waits_for_tor_stops_at_once(settings_of, identity, tmp_path):
    async with (
        tor(tmp_path, answers={"PROTOCOLINFO": SILENCE}) as (proxy, control),
        running(settings_of(**flags(proxy, control)), ready=False) as relay,
    ):
        await control.wait_for("PROTOCOLINFO")
        async with asyncio.timeout(1):
            await relay.stop()
    assert relay.logs[-1]["event"] == "stopped"


async def test_a_tor_that_dies_takes_the_onion_out_of_the_record_until_it_is_back(
    settings_of, identity, tmp_path
):
    async with tor(tmp_path) as (proxy, control), running(settings_of(**flags(proxy, control))) as relay:
        control.answers["PROTOCOLINFO"] = DROP
        control.drop()
        await relay.event("onion service down")
        assert (await record_of(relay)).onion3 is None
        assert (await relay.page("/readyz"))[0] == 503
        assert await relay.metric("pyrelay_onion_service_up") == 0
        assert not relay.task.done()
        control.answers.clear()
        await relay.event("onion service published", count=2)
        record = await record_of(relay)
        assert (record.onion3, record.seq) == (KEY.address, 3)
        await until(lambda: control.services == [SERVICE], "the same address again")


async def test_a_dead_proxy_is_tried_again_and_nothing_else(settings_of, identity, tmp_path):
    node = Enode(key_of(1).public_key, OTHER, 30303, 0).url
    (identity / "static-nodes.json").write_text(json.dumps([node]))
    async with tor(tmp_path) as (proxy, control):
        await proxy.stop()
        async with running(settings_of(**flags(proxy, control))) as relay:
            await until(lambda: dials(relay), "a dial that fails")
            await proxy.start()
            relay.daemon.main.scheduler.network_back()
            asked = await proxy.wait_asked(1)
            assert (asked[0].host, asked[0].port) == (OTHER, 30303)
            assert relay.daemon._sockets.rules.direct is False


async def dials(relay) -> bool:
    return await relay.metric("p2p_dials") >= 1


async def test_its_own_onion_is_never_dialed(settings_of, identity, tmp_path):
    nodes = [Enode(key_of(1).public_key, KEY.address, 30303, 0).url]
    (identity / "static-nodes.json").write_text(json.dumps(nodes))
    async with tor(tmp_path) as (proxy, control), running(settings_of(**flags(proxy, control))) as relay:
        await until(lambda: dials(relay), "a dial that is refused")
        assert proxy.connections == 0


@pytest.mark.parametrize("more", [{"only-onion": "false"}, {"onion-service": "off"}])
async def test_without_a_control_port_a_relay_that_can_do_without_runs_outbound_only(
    settings_of, identity, tmp_path, more
):
    async with (
        tor(tmp_path, answers={"PROTOCOLINFO": DROP}) as (proxy, control),
        running(settings_of(**flags(proxy, control, **more))) as relay,
    ):
        (warning,) = [each for each in relay.logs if each["event"].startswith("no control port of Tor")]
        assert warning["log_level"] == "warning"
        assert (await relay.page("/readyz"))[0] == 200


async def test_an_onion_served_by_torrc_is_shown_and_outlives_the_control_port(
    settings_of, identity, tmp_path
):
    more = {"onion-address": OTHER, "onion-listen": f"unix:{tmp_path}/delivered"}
    async with (
        tor(tmp_path) as (proxy, control),
        running(settings_of(**flags(proxy, control, **more))) as relay,
    ):
        assert control.matching("ADD_ONION") == []
        assert (await record_of(relay)).onion3 == OTHER == relay.daemon.onion
        assert stat.S_IMODE((tmp_path / "delivered").stat().st_mode) == 0o666  # Tor is another user
        control.answers["PROTOCOLINFO"] = DROP
        control.drop()
        await relay.event("tor control lost")
        assert (await record_of(relay)).onion3 == OTHER
        assert await relay.metric("pyrelay_onion_service_up") == 1


async def test_the_target_may_be_another_host_s_view_of_the_listener(settings_of, identity, tmp_path):
    async with tor(tmp_path) as (proxy, control):
        settings = settings_of(
            **flags(proxy, control, **{"onion-target": "10.1.2.3:4444", "onion-port": "7"})
        )
        async with running(settings):
            assert "Port=7,10.1.2.3:4444" in control.matching("ADD_ONION")[0]


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"\xff", "not UTF-8"), (None, "No such file")]
)
async def test_a_password_file_that_is_none_ends_the_start(settings_of, tmp_path, content, words):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    async with tor(tmp_path) as (proxy, control):
        with pytest.raises(UsageError, match=words):
            async with running(settings_of(**flags(proxy, control, **{"tor-password-file": path}))):
                pass


async def test_the_modes_with_clearnet_show_both_listeners(settings_of, identity, tmp_path):
    async with tor(tmp_path) as (proxy, control):
        more = {"only-onion": "false", "prefer-tor": "true"}
        async with running(settings_of(**flags(proxy, control, **more))) as relay:
            assert sorted(each["listener"] for each in relay.events("listening")) == ["clearnet", "onion"]
            await until(lambda: relay.events("onion service up"), "published")
            assert not any("one node key" in each["event"] for each in relay.logs)


async def test_clearnet_over_tor_listens_on_the_onion_alone(settings_of, identity, tmp_path):
    async with tor(tmp_path) as (proxy, control):
        more = {"only-onion": "false", "clearnet": "tor"}
        async with running(settings_of(**flags(proxy, control, **more))) as relay:
            assert [each["listener"] for each in relay.events("listening")] == ["onion"]


async def test_a_tor_to_launch_that_is_missing_ends_the_start(settings_of, monkeypatch):
    def missing() -> str:
        raise UsageError("no program 'tor' found")

    monkeypatch.setattr(torside, "find_tor", missing)
    with pytest.raises(UsageError, match="no program 'tor' found"):
        async with running(settings_of(**{"tor-launch": "true"})):
            pass


async def test_a_tor_to_launch_that_is_none_ends_the_start(settings_of, monkeypatch):
    monkeypatch.setattr(torside, "find_tor", lambda: "/bin/true")
    with pytest.raises(UsageError, match="is no Tor"):
        async with running(settings_of(**{"tor-launch": "true"})):
            pass


def test_the_control_port_is_looked_for_in_debian_s_place_and_beside_the_proxy(settings_of):
    def looked_for(**flags: str) -> list[str]:
        return [str(each) for each in torside.control_addresses(settings_of(**flags))]

    assert looked_for(tor_proxy="127.0.0.1:9050") == ["unix:/run/tor/control", "127.0.0.1:9051"]
    assert looked_for(tor_proxy="unix:/run/tor/socks") == ["unix:/run/tor/control"]
    given = {"tor_proxy": "127.0.0.1:9050", "tor_control": "127.0.0.1:7"}
    assert looked_for(**given) == ["127.0.0.1:7"]


async def test_the_ports_of_a_tor_that_the_daemon_launched_are_found(tmp_path):
    assert torside.launched_addresses(tmp_path) == (None, ())
    (tmp_path / "sockets").mkdir()
    server = await asyncio.start_unix_server(lambda *_: None, tmp_path / "sockets" / "control")
    async with server:
        proxy, control = torside.launched_addresses(tmp_path)
    assert (str(proxy), [str(each) for each in control]) == (
        f"unix:{tmp_path}/sockets/socks",
        [f"unix:{tmp_path}/sockets/control"],
    )
