import asyncio
import os
from pathlib import Path

import pytest

from relay.primitives.errors import StorageError, TorControlError, UsageError
from relay.tor.bridges import Bridge, Transport
from relay.tor.control import TorControl
from relay.tor.launched import LaunchedTor, LaunchOptions
from tests.aids.fake_tor import write_fake_tor


async def open_unix(address):
    return await asyncio.open_unix_connection(address.path)


def launched(tmp_path, folder=None, **kwargs):
    binary = write_fake_tor(
        tmp_path, body=kwargs.pop("body", None), version=kwargs.pop("version", "Tor version 0.4.9.11.")
    )
    return LaunchedTor(binary, folder or tmp_path / "tor", open_unix, **kwargs)


async def test_launched_tor_is_owned_and_stopped_by_cancellation(tmp_path):
    tor = launched(tmp_path, extra=["Extra 1"])
    assert str(await tor.prepare()) == "0.4.9.11"
    up = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tor.run(up.set))
        async with asyncio.timeout(8):
            await up.wait()
        assert tor.process.running
        assert tor.directory.stat().st_mode & 0o777 == 0o700
        assert "Extra 1" in (tor.directory / "torrc").read_text()
        running.cancel()
    assert not tor.process.running


async def test_launched_tor_that_dies_is_started_again_at_the_same_addresses(tmp_path):
    sleeps = []

    async def sleep(seconds):
        sleeps.append(seconds)
        await asyncio.sleep(min(seconds, 0.05))

    tor, ups = launched(tmp_path, sleep=sleep), asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tor.run(lambda: ups.put_nowait(tor.process.pid)))
        async with asyncio.timeout(9):
            first = await ups.get()
            await tor.process.kill()
            assert await ups.get() != first
            async with TorControl.connect(tor.open_control) as control:
                assert await control.get_info("network-liveness") == "up"
        running.cancel()
    assert 1.0 in sleeps


async def test_first_start_that_fails_is_an_error_with_tors_words(tmp_path):
    tor = launched(tmp_path, body="echo '[err] Reading config failed'; exit 1")
    with pytest.raises(TorControlError, match="Reading config failed"):
        await tor.run()


async def test_control_port_that_never_comes_up_is_an_error(tmp_path):
    tor = launched(tmp_path, body="exec tail -f /dev/null", start_deadline=0.1)
    with pytest.raises(TorControlError, match=r"did not come up in 0\.1 s"):
        await tor.run()
    assert not tor.process.running


async def test_too_old_tor_is_refused_before_it_starts(tmp_path):
    with pytest.raises(UsageError, match="too old"):
        await launched(tmp_path, version="Tor version 0.3.5.8.").prepare()


async def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        await launched(tmp_path, tmp_path / "file" / "tor").run()


async def test_sockets_of_a_deep_folder_move_to_a_short_one_and_are_removed(tmp_path):
    tor = launched(tmp_path, tmp_path / ("deep" * 30), body="exit 1")
    folder = Path(tor.control.path).parent
    assert len(os.fsencode(tor.control.path)) < 100
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(TorControlError):
        await tor.run()
    assert not folder.exists()


async def test_bridges_and_vanguards_are_in_the_torrc_of_a_launched_tor(tmp_path):
    program = tmp_path / "obfs4proxy"
    program.touch(mode=0o700)
    bridge = Bridge.parse("obfs4 192.0.2.7:443 " + "AB" * 20 + " cert=x iat-mode=0")
    options = LaunchOptions((bridge,), (Transport(("obfs4",), program),), vanguards=True)
    tor = launched(tmp_path, options=options)
    await tor.prepare()
    async with asyncio.TaskGroup() as tasks:
        up = asyncio.Event()
        running = tasks.create_task(tor.run(up.set))
        async with asyncio.timeout(8):
            await up.wait()
        lines = (tor.directory / "torrc").read_text().splitlines()
        running.cancel()
    assert ["UseBridges 1", f"ClientTransportPlugin obfs4 exec {program}", bridge.line] == [
        line for line in lines if line.startswith(("UseBridges", "Bridge", "ClientTransport"))
    ]
    assert "VanguardsLiteEnabled 1" in lines
    assert not any(line.startswith("HiddenService") for line in lines)  # they come by SETCONF


async def test_missing_program_of_a_transport_is_told_before_the_start(tmp_path):
    options = LaunchOptions((Bridge.parse("obfs4 192.0.2.7:443"),), (Transport(("obfs4",), tmp_path / "no"),))
    with pytest.raises(UsageError, match="there is no program"):
        await launched(tmp_path, options=options).prepare()


async def test_vanguards_need_a_tor_that_knows_them(tmp_path):
    tor = launched(tmp_path, version="Tor version 0.4.6.9.", options=LaunchOptions(vanguards=False))
    with pytest.raises(UsageError, match=r"--tor-vanguards needs tor 0\.4\.7\.1"):
        await tor.prepare()
