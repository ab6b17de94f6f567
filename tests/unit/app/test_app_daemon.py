from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from relay.app import daemon as daemon_module
from relay.app.daemon import CLIENT, Daemon
from relay.app.datadir import DataDir
from relay.primitives.enode import Enode
from relay.primitives.errors import KeyFileError, LocalError, StorageError, UsageError
from relay.protocols.devp2p.messages import DisconnectReason
from tests.aids.chain import OwnChain
from tests.aids.peering import key_of
from tests.aids.running import running
from tests.aids.scripted_peer import ScriptedPeer
from tests.aids.until import until


@pytest.fixture
def chain(tmp_path):
    return OwnChain(tmp_path)


async def joined(relay, chain) -> ScriptedPeer:
    enode = (await relay.rpc("admin_nodeInfo"))["enode"]
    peer = await ScriptedPeer.dial(enode, chain.config)
    await peer.join()
    return peer


# -- start


async def test_a_start_takes_its_steps_in_the_promised_order_each_with_its_duration(settings_of):
    async with running(settings_of()) as relay:
        begun = ["settings", "keys", "metrics", "rpc", "listeners"]
        assert relay.steps == [*begun, "record", "static nodes", "discovery"]
        assert all(each["seconds"] >= 0 for each in relay.events("start-up step done"))
        assert relay.logs[-1]["event"] == "ready"
        status, text = await relay.page("/readyz")
        assert (status, text.splitlines()[0]) == (200, "ready")
        assert (await relay.page("/healthz"))[0] == 200
        assert 'step="listeners"' in (await relay.page("/debug/metrics"))[1]


async def test_the_record_shows_the_port_that_the_listener_really_has(settings_of):
    async with running(settings_of()) as relay:
        port = relay.port("listening")
        info = await relay.rpc("admin_nodeInfo")
        assert info["ports"]["listener"] == port
        assert info["enode"].endswith(f"@127.0.0.1:{port}?discport=0")
        assert info["name"] == CLIENT == "pyrelay/v0.1.0"


async def test_json_rpc_over_http_is_there_when_asked_for(settings_of):
    settings = settings_of(http="true", **{"http.port": "0"})
    async with running(settings) as relay:
        assert await relay.post("web3_clientVersion") == CLIENT
        assert await relay.post("net_peerCount") == "0x0"
        assert stat.S_IMODE(settings.ipc_path.stat().st_mode) == 0o600


async def test_a_restart_keeps_the_identity_and_the_record(settings_of):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = []
    for _ in range(2):
        async with running(settings_of(port=port)) as relay:
            info = await relay.rpc("admin_nodeInfo")
            found.append((info["enode"], info["enr"], relay.daemon.onion))
    assert found[0] == found[1]
    async with running(settings_of(port=0)) as relay:
        assert (await relay.rpc("admin_nodeInfo"))["enr"] != found[0][1]
    assert json.loads((relay.settings.datadir / "record.json").read_text())["seq"] == 2


@pytest.mark.parametrize(
    ("flag", "more"),
    [("port", {}), ("metrics.port", {}), ("http.port", {"http": "true"})],
)
async def test_a_port_that_is_taken_ends_the_start_by_the_flag_s_name(settings_of, flag, more):
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = settings_of(**{flag: server.getsockname()[1]}, **more)
        async with asyncio.timeout(5):
            with pytest.raises(LocalError, match=f"--{flag}: can not listen on 127.0.0.1") as failure:
                await Daemon(settings).run()
    assert failure.value.exit_code == 1
    DataDir(settings.datadir).lock()  # given back


async def test_a_socket_that_somebody_serves_ends_the_start(settings_of, tmp_path):
    path = tmp_path / "taken.ipc"
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
    async with server:
        with pytest.raises(LocalError, match=r"--ipcpath: .*another process listens there"):
            await Daemon(settings_of(ipcpath=path)).run()


async def test_a_folder_in_use_ends_the_start(settings_of):
    async with running(settings_of()):
        with pytest.raises(StorageError, match="in use by another pyrelay"):
            Daemon(settings_of())


async def test_a_key_file_that_is_none_ends_the_start_and_frees_the_folder(settings_of, tmp_path):
    (tmp_path / "key").write_text("no key")
    with pytest.raises(KeyFileError, match="not a node key"):
        Daemon(settings_of(nodekey=tmp_path / "key"))
    async with running(settings_of()):
        pass


async def test_a_network_that_is_none_ends_the_start(settings_of):
    with pytest.raises(UsageError, match="no such network"):
        Daemon(settings_of(network="holesky"))


# -- peers


async def test_a_peer_joins_and_is_told_that_we_quit(settings_of, chain):
    async with running(settings_of(network=chain.genesis)) as relay:
        peer = await joined(relay, chain)
        assert await relay.metric("p2p_peers") == 1
        (info,) = await relay.rpc("admin_peers")
        assert info["name"] == "scripted/v1"
        os.kill(os.getpid(), signal.SIGTERM)
        assert await peer.ended() == DisconnectReason.CLIENT_QUITTING
        await relay.task
        await peer.close()
    assert relay.events("stopping")
    assert relay.logs[-1]["event"] == "stopped"


async def test_a_peer_that_does_not_listen_does_not_delay_the_end(settings_of, chain):
    async with running(settings_of(network=chain.genesis)) as relay:
        peer = await joined(relay, chain)
        peer._pump.cancel()
        await relay.stop()  # does not end without the time limit of goodbyes: this peer reads nothing more
        await peer.close()


async def test_peers_can_be_added_trusted_and_removed(settings_of):
    url = Enode(key_of(1).public_key, "127.0.0.1", 9, 9).url
    async with running(settings_of()) as relay:
        assert await relay.rpc("admin_addPeer", url) is True
        assert await relay.metric('pyrelay_static_nodes{state="loaded"}') == 1
        assert await relay.rpc("admin_addTrustedPeer", url) is True
        assert await relay.rpc("admin_removeTrustedPeer", url) is True
        assert await relay.rpc("admin_removePeer", url) is True
        assert await relay.rpc("txpool_status") == {"pending": "0x0", "queued": "0x0"}


async def test_hangup_reads_the_node_files_again(settings_of):
    settings = settings_of()
    async with running(settings) as relay:
        assert relay.events("static nodes read")[-1]["loaded"] == 0
        nodes = [Enode(key_of(1).public_key, "127.0.0.1", 9, 9).url, f"enode://{'12' * 64}@1.2.3.4:5"]
        (settings.datadir / "static-nodes.json").write_text(json.dumps(nodes))
        (settings.datadir / "trusted-nodes.json").write_text(json.dumps(nodes[:1]))
        os.kill(os.getpid(), signal.SIGHUP)
        await relay.event("reloading node files")
        read = relay.events("static nodes read")
        assert {"loaded": 1, "rejected": 1}.items() <= read[1].items()
        assert relay.events("static node rejected")[0]["index"] == 1
        assert await relay.metric('pyrelay_static_nodes{state="rejected"}') == 1


async def test_a_node_file_that_does_not_parse_leaves_the_earlier_one_in_force(settings_of):
    settings = settings_of()
    DataDir(settings.datadir)
    path = settings.datadir / "static-nodes.json"
    path.write_text(json.dumps([Enode(key_of(1).public_key, "127.0.0.1", 9, 9).url]))
    async with running(settings) as relay:
        path.write_text("[")
        os.kill(os.getpid(), signal.SIGHUP)
        assert (await relay.event("node file not loaded"))["kept"] == 1
        assert await relay.metric('pyrelay_static_nodes{state="loaded"}') == 1


# -- faults of our own


async def test_a_bug_in_a_callback_stops_the_daemon_loudly(settings_of, chain):
    async with running(settings_of(network=chain.genesis), ready=False) as relay:
        await relay.event("ready")
        peer = await joined(relay, chain)
        asyncio.get_running_loop().call_soon(lambda: {}["a bug"])
        with pytest.raises(LocalError, match="stopped by a bug in pyrelay"):
            await relay.task
        assert await peer.ended() == DisconnectReason.CLIENT_QUITTING
        await peer.close()
    (entry,) = relay.events("a bug stops this daemon")
    assert isinstance(entry["exc_info"], KeyError)
    assert relay.events("stopped") == []


async def test_a_bug_in_a_task_stops_the_daemon_loudly(settings_of, chain, monkeypatch):
    broken = asyncio.Event()

    async def watch(_):
        await broken.wait()
        raise ZeroDivisionError

    monkeypatch.setattr(daemon_module.NodeFiles, "watch", watch)
    async with running(settings_of(network=chain.genesis), ready=False) as relay:
        await relay.event("ready")
        peer = await joined(relay, chain)
        broken.set()
        with pytest.raises(LocalError, match="stopped by a bug"):
            await relay.task
        assert await peer.ended() == DisconnectReason.CLIENT_QUITTING
        await peer.close()
    assert relay.events("a bug stops this daemon")


async def test_what_asyncio_itself_complains_of_is_no_bug_of_ours(settings_of, monkeypatch):
    told = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "default_exception_handler", told.append)
    async with running(settings_of()):
        loop.call_exception_handler({"message": "socket.accept() out of system resource"})
    assert len(told) == 1


async def test_a_full_disk_does_not_keep_the_daemon_from_its_end(settings_of, monkeypatch):
    async with running(settings_of()) as relay:

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("relay.app.datadir.os.write", full)
        await relay.stop()
        monkeypatch.undo()
    (entry,) = relay.events("peers not saved")
    assert "the disk is full" in entry["cause"]


async def test_a_full_disk_ends_the_start_when_there_is_no_key_yet(settings_of, monkeypatch):
    real = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) > 32:  # the key; the lock's number fits
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content)

    monkeypatch.setattr("relay.app.datadir.os.write", full)
    with pytest.raises(StorageError, match="the disk is full"):
        Daemon(settings_of())


async def test_state_is_saved_now_and_then(settings_of, monkeypatch):
    monkeypatch.setattr(daemon_module, "SAVE_SECONDS", 0.01)
    settings = settings_of()
    async with running(settings) as relay:
        path: Path = settings.datadir / "peers.json"
        await until(path.exists, "peers are saved")
        assert not relay.task.done()
