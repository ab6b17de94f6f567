"""Daemons over I2P, on a scripted bridge that joins them."""

from __future__ import annotations

import asyncio

import pytest

from relay.app.datadir import I2P_KEY
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import KeyFileError
from relay.primitives.i2p import I2PKey
from relay.settings.identities import Side
from tests.aids.running import Running, running
from tests.aids.sam_bridge import SamServer
from tests.aids.until import until

pytestmark = pytest.mark.asyncio


async def peers_of(relay: Running) -> set[str]:
    return {each["enode"][8:136] for each in await relay.rpc("admin_peers")}


async def id_of(relay: Running) -> str:
    return str((await relay.rpc("admin_nodeInfo"))["enode"][8:136])


async def until_peers(relay: Running, *others: Running) -> None:
    wanted = {await id_of(each) for each in others}

    async def there() -> bool:
        return await peers_of(relay) == wanted

    await until(there, "all are peers", 30)


async def test_two_relays_on_i2p_alone_are_peers_by_url(settings_of, tmp_path):
    async with SamServer() as server:

        def flags(name: str, **more: str):
            return settings_of(datadir=tmp_path / name, only_i2p="true", i2p_sam=str(server.address), **more)

        async with running(flags("first")) as first, running(flags("second")) as second:
            info = await second.rpc("admin_nodeInfo")
            record = NodeRecord.from_text(info["enr"])
            assert set(record.pairs) == {"eth", "i2p", "id", "secp256k1"}
            key = I2PKey((tmp_path / "second" / I2P_KEY).read_bytes())
            assert (record.i2p, info["enode"]) == (
                key.address,
                f"enode://{record.public_key.hex()}@{key.address}:0",
            )
            assert await second.rpc("net_listening") is True
            assert await first.rpc("admin_addPeer", info["enode"]) is True
            await until_peers(first, second)
            await until_peers(second, first)
            (peer,) = await first.rpc("admin_peers")
            assert peer["network"]["remoteAddress"].startswith(str(key.address))
            _, page = await first.page("/debug/metrics")
            assert 'pyrelay_peers{direction="outbound",network="i2p"} 1' in page
            _, page = await second.page("/debug/metrics")
            assert 'pyrelay_peers{direction="inbound",network="i2p"} 1' in page
            assert "onion service" not in second.steps
            # No listener of devp2p, no proxy: the bridge is all there is.
            assert second.events("listening") == []
        assert all(
            each.split()[0] in ("HELLO", "DEST", "SESSION", "NAMING", "STREAM") for each in server.said
        )


async def test_relays_find_each_other_by_discovery_over_i2p(settings_of, tmp_path):
    async with SamServer() as server:

        def flags(name: str, **more: str):
            return settings_of(
                datadir=tmp_path / name, only_i2p="true", i2p_sam=str(server.address), discovery="i2p", **more
            )

        async with running(flags("hub")) as hub:
            entry = (await hub.rpc("admin_nodeInfo"))["enode"]
            async with (
                running(flags("one", bootnodes=entry)) as one,
                running(flags("two", bootnodes=entry)) as two,
            ):
                await until_peers(one, hub, two)
                await until_peers(two, hub, one)
                shown = (await one.rpc("admin_nodeInfo"))["discovery"]
                assert shown["i2p"]["table"] == 2
                assert shown.keys() == {"i2p"}


async def test_record_shows_the_address_only_while_the_router_is_there(settings_of, tmp_path):
    async with (
        SamServer() as server,
        running(settings_of(only_i2p="true", i2p_sam=str(server.address))) as relay,
    ):
        seen = await relay_record(relay)
        assert (await relay.page("/readyz"))[0] == 200
        await server.stop()
        await relay.event("waiting for the i2p router")
        gone = await relay_record(relay)
        assert (gone.i2p, gone.seq) == (None, seen.seq + 1)
        assert (await relay.page("/readyz"))[0] == 503
        await server.start()
        await relay.event("i2p session up", 2)
        back = await relay_record(relay)
        assert (back.i2p, back.seq) == (seen.i2p, gone.seq + 1)


async def relay_record(relay: Running) -> NodeRecord:
    return NodeRecord.from_text((await relay.rpc("admin_nodeInfo"))["enr"])


async def test_router_that_is_not_there_keeps_the_start_waiting(settings_of):
    async with SamServer() as server:
        place = str(server.address)
    async with running(settings_of(only_i2p="true", i2p_sam=place), ready=False) as relay:
        await relay.event("waiting for the i2p router")
        assert (await relay.page("/readyz"))[0] == 503
        assert relay.events("ready") == []


async def test_next_to_tor_the_hidden_identity_has_it_and_the_other_one_not(settings_of, tmp_path):
    async with SamServer() as server, SamServer() as nobody:
        tor = {"tor_proxy": str(nobody.address), "onion_service": "off"}
        async with running(settings_of(i2p_sam=str(server.address), **tor)) as relay:
            await relay.event("i2p session up")
            identities = {each.side: each for each in relay.daemon.identities}
            hidden, seen = identities[Side.ONION], identities[Side.CLEARNET]
            assert hidden.record.record.i2p == relay.daemon.i2p.address
            assert "i2p" not in seen.record.record.pairs
            assert "i2p" not in seen.record.onion_record.pairs
            node = f"enode://{hidden.key.public_key.hex()}@{hidden.i2p}:0"
            assert relay.daemon.main is hidden
            assert (await relay.rpc("admin_nodeInfo"))["enode"] == node


async def test_broken_key_is_told_before_anything_is_opened(settings_of, tmp_path):
    (tmp_path / "relay").mkdir()
    (tmp_path / "relay" / I2P_KEY).write_bytes(b"no key")
    async with SamServer() as server:
        with pytest.raises(KeyFileError, match="not an I2P key"):
            async with running(settings_of(only_i2p="true", i2p_sam=str(server.address))):
                await asyncio.sleep(0)
        assert server.said == []
