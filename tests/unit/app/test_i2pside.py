"""I2P as the daemon has it, on a scripted bridge: the key, the session that comes back, what is told."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from relay.app.datadir import I2P_KEY, DataDir
from relay.app.i2pside import I2PSide, make_i2p
from relay.app.outward import socket_rules, ways_out
from relay.primitives.address import TcpAddress
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import KeyFileError
from relay.primitives.i2p import I2PKey
from relay.primitives.node import Node
from relay.settings import Settings, load_settings
from relay.tor.backoff import Backoff
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory
from tests.aids.peering import key_of
from tests.aids.sam_bridge import Lie, SamServer, make_key
from tests.aids.until import until

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def server() -> AsyncIterator[SamServer]:
    async with SamServer() as found:
        yield found


def settings_of(tmp_path, server: SamServer, **more: str) -> Settings:
    argv = {"datadir": str(tmp_path), "i2p-sam": str(server.address)} | (more or {"only-i2p": "true"})
    return load_settings({name.replace("_", "-"): value for name, value in argv.items()}, {})


def side_of(settings: Settings) -> I2PSide:
    sockets = SocketFactory(socket_rules(settings, None))
    pauses = Backoff(0.01, 1.0, 0.01)
    return I2PSide(settings, sockets, DataDir(settings.datadir), secrets.token_bytes, pauses)


class Told(list):
    """What the identity was told."""

    def up(self, address):
        self.append(("up", address))

    def down(self):
        self.append(("down",))


@asynccontextmanager
async def running(side: I2PSide, made: list[asyncio.Protocol] | None = None):
    told, peers = Told(), [] if made is None else made

    def protocol() -> asyncio.Protocol:
        peers.append(asyncio.Protocol())
        return peers[-1]

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(side.run(protocol, lambda: True, on_up=told.up, on_down=told.down))
        try:
            yield told
        finally:
            task.cancel()


async def test_key_is_made_by_the_router_once_and_kept(tmp_path, server):
    side = side_of(settings_of(tmp_path, server))
    assert side.address is None
    async with running(side) as told:
        await side.wait_up()
    path = tmp_path / I2P_KEY
    assert path.stat().st_mode & 0o777 == 0o600
    key = I2PKey(path.read_bytes())
    assert told == [("up", key.address)]
    again = side_of(settings_of(tmp_path, server))
    assert again.address == key.address
    async with running(again) as told:
        await again.wait_up()
    assert told == [("up", key.address)]
    assert len(server.asked("DEST GENERATE")) == 1


async def test_key_file_of_another_kind_is_named(tmp_path, server):
    (tmp_path / I2P_KEY).write_bytes(b"x" * 96)
    with pytest.raises(KeyFileError, match=r"i2p_key: not an I2P key: expected .*eepPriv\.dat"):
        side_of(settings_of(tmp_path, server))
    with pytest.raises(KeyFileError, match="there is no key"):
        side_of(settings_of(tmp_path, server, only_i2p="true", i2p_key=str(tmp_path / "none")))


async def test_key_file_that_is_given_is_used_and_not_written(tmp_path, server):
    path = tmp_path / "eepPriv.dat"
    path.write_bytes(content := make_key())
    side = side_of(settings_of(tmp_path, server, only_i2p="true", i2p_key=str(path)))
    async with running(side) as told:
        await side.wait_up()
    assert told == [("up", I2PKey(content).address)]
    assert path.read_bytes() == content
    assert not (tmp_path / I2P_KEY).exists()


async def test_session_comes_back_after_the_router_and_each_change_is_told_once(tmp_path, server):
    side = side_of(settings_of(tmp_path, server))
    with capture_logs() as logs:
        async with running(side) as told:
            await side.wait_up()
            assert side.readiness()[0].ready
            await server.stop()
            await until(lambda: len(told) == 2, "it is told")
            assert not side.readiness()[0].ready
            await until(lambda: "no SAM bridge answers" in side.readiness()[0].detail, "why is told")
            await server.start()
            await until(lambda: len(told) == 3, "it is back")
    assert [each[0] for each in told] == ["up", "down", "up"]
    assert told[0] == told[2]
    causes = [each["cause"] for each in logs if each["event"] == "waiting for the i2p router"]
    assert len(causes) == len(set(causes)) >= 2  # not one at each try


async def test_bridge_that_lies_from_the_start_is_told_and_tried_again(tmp_path, server):
    server.lies["SESSION"] = [b"SESSION STATUS RESULT=DUPLICATED_DEST\n", Lie.CLOSE]
    side = side_of(settings_of(tmp_path, server))
    with capture_logs() as logs:
        async with running(side) as told:
            await until(lambda: len(server.asked("SESSION CREATE")) >= 2, "it tries again")
            server.lies.clear()
            await side.wait_up()
    assert [each[0] for each in told] == ["up"]
    assert any("second relay" in str(each.get("cause")) for each in logs)


async def test_next_to_tor_nothing_waits_for_the_router(tmp_path, server):
    settings = settings_of(tmp_path, server, tor_proxy="127.0.0.1:9050", only_onion="true")
    side = side_of(settings)
    await side.wait_up()
    assert side.readiness() == []


async def test_rules_of_only_i2p_allow_the_bridge_and_nothing_else(tmp_path, server):
    settings = settings_of(tmp_path, server)
    rules = socket_rules(settings, None)
    assert (rules.direct, rules.resolve, rules.allowed) == (False, False, frozenset({server.address}))
    with_tor = settings_of(tmp_path, server, tor_proxy="127.0.0.1:9050", only_onion="true")
    assert {server.address, TcpAddress("127.0.0.1", 9050)} <= socket_rules(with_tor, None).allowed


async def test_peers_are_dialed_through_the_side(tmp_path, server):
    one, two = (side_of(settings_of(tmp_path / name, server)) for name in ("one", "two"))
    made: list[asyncio.Protocol] = []
    async with running(one), running(two, made):
        await one.wait_up()
        await two.wait_up()
        await until(lambda: two.listener and two.listener.counts.waiting, "an accept waits")
        settings = settings_of(tmp_path / "one", server)
        sockets = SocketFactory(socket_rules(settings, None))
        ways = ways_out(Mode.ONLY_I2P, sockets, None, tuple, one.dialer)
        node = Node(key_of(1).public_key, (Endpoint(Network.I2P, two.address, 0),))
        dialed = await ways.nodes.dial_node(ways.nodes.plan(node), asyncio.Protocol)
        await until(lambda: made, "it has come in")
        assert dialed.way == "i2p"
        dialed.transport.abort()
    assert ways.socks is ways.lists is ways.rpc is ways.private is None


async def test_without_a_bridge_there_is_no_i2p(tmp_path):
    settings = load_settings({"datadir": str(tmp_path)}, {})
    assert make_i2p(settings, SocketFactory(socket_rules(settings, None)), DataDir(tmp_path)) is None
