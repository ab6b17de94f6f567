import asyncio
import signal

import pytest

from relay.primitives.errors import StorageError, TorControlError, UsageError
from relay.tor.process import TorProcess, find_tor, tor_version
from tests.aids.fake_tor import write_fake_tor


async def started(tmp_path, body):
    process = TorProcess(write_fake_tor(tmp_path, body=body), tmp_path / "tor", ["Log notice stdout"])
    await process.start()
    return process


def test_missing_tor_names_the_way_out():
    with pytest.raises(UsageError, match="apt install tor"):
        find_tor("/nowhere/tor")
    with pytest.raises(UsageError, match="no-such-tor"):
        find_tor(name="no-such-tor")


def test_tor_is_found(tmp_path):
    path = write_fake_tor(tmp_path)
    assert find_tor(path) == path
    assert find_tor(name="sh").endswith("/sh")


async def test_version_is_asked(tmp_path):
    assert str(await tor_version(write_fake_tor(tmp_path))) == "0.4.9.11"


@pytest.mark.parametrize("said", ["", "GNU bash 0.4.9.11", "Tor without a number"])
async def test_another_program_is_no_tor(tmp_path, said):
    with pytest.raises(UsageError, match="is no Tor"):
        await tor_version(write_fake_tor(tmp_path, version=said))


async def test_program_that_cannot_start_is_named(tmp_path):
    path = tmp_path / "text"
    path.write_text("no program")
    path.chmod(0o700)
    with pytest.raises(UsageError, match="cannot be started"):
        await tor_version(str(path))
    with pytest.raises(UsageError, match="cannot be started"):
        await TorProcess(str(path), tmp_path / "tor", []).start()


async def test_version_that_never_comes_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("relay.tor.process.VERSION_DEADLINE", 0.05)
    path = tmp_path / "hangs"
    path.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    path.chmod(0o700)
    with pytest.raises(UsageError, match="did not answer"):
        await tor_version(str(path))


async def test_process_ends_by_its_id_on_stop(tmp_path):
    process = await started(tmp_path, "exec tail -f /dev/null")
    assert process.running
    assert process.pid
    await process.stop()
    assert (process.running, process.pid) == (False, None)
    assert await process.wait_exit() == -signal.SIGTERM
    await process.stop()


async def test_stubborn_process_is_killed_after_the_grace(tmp_path):
    process = await started(
        tmp_path, "trap '' TERM; echo ready; tail -f /dev/null & wait; tail -f /dev/null & wait"
    )
    async with asyncio.timeout(5):
        while process.last_log_lines() != ["ready"]:
            await asyncio.sleep(0.01)
    await process.stop(grace=0.05)
    assert await process.wait_exit() == -signal.SIGKILL


async def test_early_end_shows_what_tor_said_last(tmp_path):
    process = await started(
        tmp_path,
        "echo 'Nov 21 01:38:33.000 [warn] Failed to bind one of the listener ports.'; echo x; exit 1",
    )
    status = await process.wait_exit()
    assert str(process.exit_error(status)) == (
        "tor ended with status 1: [warn] Failed to bind one of the listener ports."
    )


async def test_early_end_without_a_word(tmp_path):
    process = await started(tmp_path, "exit 3")
    assert "its log is empty" in str(process.exit_error(await process.wait_exit()))


async def test_locked_folder_is_named(tmp_path):
    said = "[warn] It looks like another Tor process is running with the same data directory. Waiting."
    process = await started(tmp_path, f"echo '{said}'; echo '[err] No, exiting.'; exit 1")
    error = process.exit_error(await process.wait_exit())
    assert isinstance(error, TorControlError)
    assert f"another tor uses {tmp_path / 'tor'}" in str(error)


async def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    process = TorProcess(write_fake_tor(tmp_path), tmp_path / "file" / "tor", [])
    with pytest.raises(StorageError, match="cannot be written"):
        await process.start()


async def test_process_that_never_ran_needs_no_end(tmp_path):
    process = TorProcess("tor", tmp_path / "tor", [])
    await process.stop()
    await process.kill()
    process.retry_downloads()
    assert process.last_log_lines() == []


async def test_reload_is_a_hangup(tmp_path):
    process = await started(tmp_path, "trap 'exit 7' HUP; echo ready; tail -f /dev/null & wait")
    async with asyncio.timeout(5):
        while process.last_log_lines() != ["ready"]:
            await asyncio.sleep(0.01)
    process.retry_downloads()
    assert await process.wait_exit() == 7
