"""Discovery inside the daemon, on loopback: by UDP and by a list in the DNS."""

from __future__ import annotations

import sqlite3

import pytest

from relay.primitives.enr import NodeRecord
from relay.primitives.errors import LocalError
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.running import Running, running
from tests.aids.until import until

SECONDS = 20.0


async def peers_of(relay: Running) -> set[str]:
    return {each["enode"][8:136] for each in await relay.rpc("admin_peers")}


async def until_peer(relay: Running, other: Running) -> None:
    wanted = (await other.rpc("admin_nodeInfo"))["enode"][8:136]

    async def there() -> bool:
        return wanted in await peers_of(relay)

    await until(there, "the other is found and joins", SECONDS)


@pytest.mark.parametrize("sources", ["v4", "v5", "v4,v5"])
async def test_two_daemons_find_each_other_by_udp_and_again_without_a_bootnode(
    settings_of, tmp_path, sources
):
    def flags(name: str, **more: str):
        return settings_of(datadir=tmp_path / name, discovery=sources, **more)

    async with running(flags("first", bootnodes="")) as first:
        info = await first.rpc("admin_nodeInfo")
        record = NodeRecord.from_text(info["enr"])
        assert (record.ip, record.udp, record.tcp) == ("127.0.0.1", *[info["ports"]["discovery"]] * 2)
        assert info["ip"] == "127.0.0.1"
        async with running(flags("second", bootnodes=info["enr"])) as second:
            await until_peer(second, first)
            shown = (await second.rpc("admin_nodeInfo"))["discovery"]
            assert shown.keys() == set(sources.split(","))
            assert all(each["table"] == 1 for each in shown.values())
            assert all(each["sent"] and each["received"] for each in shown.values())
            joined = first.events("peer joined") + second.events("peer joined")
            assert all(each["inbound"] or each["why"] for each in joined)
            _, page = await second.page("/debug/metrics")
            assert 'pyrelay_discovery_table{protocol="v' in page
            assert 'pyrelay_candidates_taken_total{source="v' in page
            kinds = {
                ("v4", "in", "ping"),
                ("v4", "out", "pong"),
                ("v5", "out", "handshake"),
                ("v5", "in", "nodes"),
            }
            for protocol, direction, kind in kinds:
                line = f'packets_total{{direction="{direction}",kind="{kind}",protocol="{protocol}"}}'
                assert (f"pyrelay_discovery_{line}" in page) == (protocol in shown)
        (tmp_path / "second" / "peers.json").unlink()  # the database alone shall do
        async with running(flags("second", bootnodes="")) as second:
            await until_peer(second, first)


async def test_a_corrupt_database_is_set_aside_and_the_daemon_lives_on(settings_of):
    settings = settings_of(discovery="v5", bootnodes="")
    settings.datadir.mkdir(mode=0o700)
    (settings.datadir / "nodes.sqlite").write_bytes(b"no database" * 1000)
    async with running(settings) as relay:
        (event,) = relay.events("node database is corrupt, a new one is begun")
        assert "corrupt-" in event["set_aside"]
        assert (await relay.rpc("admin_nodeInfo"))["discovery"]["v5"]["table"] == 0
    sqlite3.connect(settings.datadir / "nodes.sqlite").execute(
        "SELECT count(*) FROM nodes"
    ).connection.close()


async def test_a_taken_udp_port_is_named_with_its_flag(settings_of):
    sockets = SocketFactory(SocketRules.anywhere())
    held = sockets.bind_udp("127.0.0.1", 0)
    try:
        settings = settings_of(discovery="v5", bootnodes="", port=held.getsockname()[1])
        with pytest.raises(LocalError, match="--discovery"):
            async with running(settings) as relay:
                await relay.task
    finally:
        held.close()


async def test_discovery_that_is_off_opens_nothing(settings_of):
    async with running(settings_of(discovery="off")) as relay:
        info = await relay.rpc("admin_nodeInfo")
        assert (info["ports"]["discovery"], info["discovery"]) == (0, {})
        assert "udp" not in NodeRecord.from_text(info["enr"]).pairs


async def test_an_address_that_the_user_gives_is_shown(settings_of):
    async with running(settings_of(discovery="v5", bootnodes="", nat="extip:20.1.2.3")) as relay:

        async def shown() -> bool:
            return NodeRecord.from_text((await relay.rpc("admin_nodeInfo"))["enr"]).ip == "20.1.2.3"

        await until(shown, "extip in the record")


async def test_bootnodes_that_no_source_can_enter_by_are_told_of(settings_of, tmp_path):
    async with running(settings_of(datadir=tmp_path / "first", discovery="v5")) as first:
        record = (await first.rpc("admin_nodeInfo"))["enr"]
    async with running(settings_of(datadir=tmp_path / "second", discovery="dns", bootnodes=record)) as second:
        await until(
            lambda: second.events("no source of nodes can enter by these bootnodes"), "a warning", SECONDS
        )
