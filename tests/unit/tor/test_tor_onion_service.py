import asyncio
import contextlib

import pytest

from relay.primitives.errors import UsageError
from relay.primitives.onion import OnionKey
from relay.tor.control import ControlOptions
from relay.tor.onion_service import ExternalOnion, OnionService, OnionServiceOptions
from relay.tor.status import StatusBoard
from tests.aids.control_server import DROP, SILENCE, control_server

KEY = OnionKey.from_seed(bytes(range(32)))
SERVICE_ID = KEY.address.removesuffix(".onion")
UPLOADED = f"650 HS_DESC UPLOADED {SERVICE_ID} UNKNOWN $AB~relay\r\n".encode()


class Watched:
    """A running service with what it told and how long it would have slept."""

    def __init__(self, server, options=None, *, watch_only=False, deadline=10.0):
        self.board, self.told, self.sleeps = StatusBoard(), asyncio.Queue(), []
        if not watch_only:
            options = options or OnionServiceOptions(KEY, 30303, "127.0.0.1:4000")
        self.service = OnionService(
            options,
            server.open_stream,
            self.board,
            on_up=lambda address: self.told.put_nowait(("up", address)),
            on_down=lambda reason: self.told.put_nowait(("down", reason)),
            control=ControlOptions(command_deadline=deadline),
            sleep=self._sleep,
        )

    async def _sleep(self, seconds):
        self.sleeps.append(seconds)
        await asyncio.sleep(0)

    async def next(self):
        async with asyncio.timeout(5):
            return await self.told.get()

    async def until(self, holds):
        changed = asyncio.Event()
        self.board.subscribe(lambda status: changed.set() if holds(status) else None)
        async with asyncio.timeout(5):
            await changed.wait()


@contextlib.asynccontextmanager
async def running(server, *args, **kwargs):
    watched = Watched(server, *args, **kwargs)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watched.service.run())
        try:
            yield watched
        finally:
            watched.service.stop()
            async with asyncio.timeout(5):
                await task


@contextlib.asynccontextmanager
async def served(tmp_path, **settings):
    async with control_server(tmp_path, service_id=SERVICE_ID, **settings) as server:
        yield server


async def test_service_is_up_once_a_directory_holds_its_descriptor(tmp_path):
    async with served(tmp_path, uploaded=False) as server, running(server) as watched:
        await server.wait_for("ADD_ONION")
        assert not watched.board.status.service_up
        server.emit(
            b"650 HS_DESC UPLOADED other UNKNOWN $AB\r\n650 HS_DESC UPLOAD " + SERVICE_ID.encode() + b" x\r\n"
        )
        server.emit(UPLOADED + UPLOADED)
        assert await watched.next() == ("up", KEY.address)
        await watched.until(lambda status: status.uploads == 2)
        status = watched.board.status
        assert (status.version, status.network_live, status.control_connected) == ("0.4.9.11", True, True)
    assert watched.told.qsize() == 1  # told up once; the last is down


async def test_service_asks_for_defences_and_never_detaches(tmp_path):
    async with served(tmp_path) as server, running(server) as watched:
        await watched.next()
    (line,) = server.matching("ADD_ONION")
    assert line == (
        f"ADD_ONION {KEY.add_onion_blob()} Flags=MaxStreamsCloseCircuit MaxStreams=16"
        " PoWDefensesEnabled=1 Port=30303,127.0.0.1:4000"
    )


async def test_service_does_without_proof_of_work_on_512(tmp_path):
    def old_tor(line):
        return b"512 Unknown argument\r\n" if "PoW" in line else None

    async with served(tmp_path, answers={"ADD_ONION": old_tor}) as server, running(server) as watched:
        assert (await watched.next())[0] == "up"
    assert [("PoW" in line) for line in server.matching("ADD_ONION")] == [True, False]


async def test_service_without_limits_says_so_to_tor(tmp_path):
    options = OnionServiceOptions(KEY, 1, "unix:/run/p2p", pow_defenses=False, max_streams=0)
    async with served(tmp_path) as server, running(server, options) as watched:
        await watched.next()
    assert server.matching("ADD_ONION") == [f"ADD_ONION {KEY.add_onion_blob()} Port=1,unix:/run/p2p"]


async def test_other_refusal_is_retried_with_backoff_and_shown(tmp_path):
    refusals = [b"551 Failed\r\n"] * 3

    def later(_line):
        return refusals.pop() if refusals else None

    async with served(tmp_path, answers={"ADD_ONION": later}) as server, running(server) as watched:
        await watched.until(lambda status: "551 Failed" in status.problem)
        assert (await watched.next())[0] == "up"
    assert watched.sleeps == [1, 1.5, 2.25]


async def test_collision_is_waited_for(tmp_path):
    collisions = [b"550 Onion address collision\r\n"] * 3

    def later(_line):
        return collisions.pop() if collisions else None

    async with served(tmp_path, answers={"ADD_ONION": later}) as server, running(server) as watched:
        assert (await watched.next())[0] == "up"
        assert watched.board.status.problem == ""
    assert watched.sleeps == [1, 1.5, 2.25]
    assert server.connections == 1


async def test_loss_during_a_collision_reconnects(tmp_path):
    async with served(tmp_path) as server:
        first = [b"550 Onion address collision\r\n"]

        def collide_once(_line):
            return first.pop() if first else None

        server.answers["ADD_ONION"] = collide_once
        watched = Watched(server)

        async def cut(_seconds):
            server.drop()
            await asyncio.sleep(0.01)

        watched.service._sleep = cut
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watched.service.run())
            assert (await watched.next())[0] == "up"
            watched.service.stop()
        assert server.connections == 2


async def test_another_address_than_our_keys_is_refused(tmp_path):
    async with control_server(tmp_path, service_id="x" * 56) as server, running(server) as watched:
        await watched.until(lambda status: "another onion address" in status.problem)
        assert watched.told.empty()


async def test_service_waits_for_the_bootstrap(tmp_path):
    async with served(tmp_path, percent=5) as server, running(server) as watched:
        await watched.until(lambda status: status.bootstrap_percent == 5)
        assert not server.matching("ADD_ONION")
        server.percent = 100
        server.emit(b'650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=50 SUMMARY="Half"\r\n')
        server.emit(b'650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=100 SUMMARY="Done"\r\n')
        assert (await watched.next())[0] == "up"


async def test_tor_that_dies_takes_the_service_down_and_it_returns_with_the_same_address(tmp_path):
    async with served(tmp_path) as server, running(server) as watched:
        assert await watched.next() == ("up", KEY.address)
        server.drop()
        assert (await watched.next())[0] == "down"
        assert await watched.next() == ("up", KEY.address)
    assert len(server.matching("ADD_ONION")) == 2
    assert watched.sleeps == [1]


async def test_pauses_grow_while_the_port_is_dead(tmp_path):
    async with served(tmp_path) as server:
        refused = 0

        async def open_stream():
            nonlocal refused
            refused += 1
            if refused <= 4:
                raise ConnectionRefusedError("refused")
            return await server.open_stream()

        watched = Watched(server)
        watched.service._open_stream = open_stream
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watched.service.run())
            await watched.next()
            watched.service.stop()
    assert watched.sleeps == [1, 1.5, 2.25, 3.375]


async def test_service_that_tor_lost_is_added_again_on_the_same_connection(tmp_path):
    options = OnionServiceOptions(KEY, 30303, "127.0.0.1:4000", health_interval=0.01)
    async with served(tmp_path) as server, running(server, options) as watched:
        await watched.next()
        await server.wait_for("GETINFO onions/current")
        assert len(server.matching("ADD_ONION")) == 1
        server.services.clear()
        assert await watched.next() == ("down", "tor no longer holds the onion service")
        assert (await watched.next())[0] == "up"
    assert server.connections == 1


async def test_551_for_no_service_counts_as_none(tmp_path):
    options = OnionServiceOptions(KEY, 30303, "127.0.0.1:4000", health_interval=0.01)
    answers = {"GETINFO onions/current": b"551 No onion services of the specified type.\r\n"}
    async with served(tmp_path, answers=answers) as server, running(server, options) as watched:
        assert (await watched.next())[0] == "up"
        assert (await watched.next())[0] == "down"


async def test_silent_tor_is_found_out_by_the_health_timer(tmp_path):
    options = OnionServiceOptions(KEY, 30303, "127.0.0.1:4000", health_interval=0.01, withdraw_deadline=0.01)
    async with served(tmp_path) as server, running(server, options, deadline=0.2) as watched:
        await watched.next()
        server.answers["GETINFO onions/current"] = SILENCE
        state, reason = await watched.next()
        assert state == "down"
        assert "did not answer GETINFO" in reason


async def test_service_is_deleted_on_stop(tmp_path):
    async with served(tmp_path) as server:
        async with running(server) as watched:
            await watched.next()
        assert server.matching("DEL_ONION") == [f"DEL_ONION {SERVICE_ID}"]
        assert await watched.next() == ("down", "withdrawn")
        assert not watched.board.status.service_up


async def test_service_is_deleted_on_cancellation(tmp_path):
    async with served(tmp_path) as server:
        watched = Watched(server)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(watched.service.run())
            await watched.next()
            task.cancel()
        assert server.matching("DEL_ONION")


@pytest.mark.parametrize("answer", [SILENCE, DROP, b"552 Unknown\r\n"])
async def test_stop_does_not_wait_for_a_tor_that_does_not_answer(tmp_path, answer):
    options = OnionServiceOptions(KEY, 30303, "127.0.0.1:4000", withdraw_deadline=0.05)
    async with served(tmp_path, answers={"DEL_ONION": answer}) as server, running(server, options) as watched:
        await watched.next()


async def test_without_a_service_only_tor_is_watched(tmp_path):
    async with served(tmp_path) as server, running(server, watch_only=True) as watched:
        await watched.until(lambda status: status.bootstrap_percent == 100)
        server.emit(UPLOADED + b"650 NETWORK_LIVENESS DOWN\r\n")
        await watched.until(lambda status: not status.network_live)
        assert watched.told.empty()
    assert not server.matching("ADD_ONION") + server.matching("DEL_ONION")


def test_external_service_is_assumed_up():
    board, told = StatusBoard(), []
    ExternalOnion(KEY.address, board, told.append).announce()
    assert board.status.service_up
    assert told == [KEY.address]


async def test_external_service_stays_up_when_the_control_port_dies(tmp_path):
    async with served(tmp_path) as server, running(server, watch_only=True) as watched:
        ExternalOnion(KEY.address, watched.board, lambda _: None).announce()
        await server.wait_for("GETINFO network-liveness")
        server.answers["PROTOCOLINFO"] = DROP
        server.drop()
        await watched.until(lambda status: not status.control_connected)
        assert watched.board.status.service_up
        assert watched.told.empty()
    assert watched.told.empty()


@pytest.mark.parametrize("target", ["relay.example:1", "example", "unix:relative", "unix:/with blank"])
def test_target_that_tor_would_resolve_or_misread_is_refused(target):
    with pytest.raises(UsageError):
        OnionServiceOptions(KEY, 30303, target)


@pytest.mark.parametrize("port", [0, 65536])
def test_virtual_port_is_checked(port):
    with pytest.raises(UsageError):
        OnionServiceOptions(KEY, port, "127.0.0.1:1")


async def test_localhost_is_told_to_tor_as_an_address(tmp_path):
    options = OnionServiceOptions(KEY, 30303, "localhost:4000")
    async with served(tmp_path) as server, running(server, options) as watched:
        await watched.next()
    assert server.matching("ADD_ONION")[0].endswith("Port=30303,127.0.0.1:4000")
