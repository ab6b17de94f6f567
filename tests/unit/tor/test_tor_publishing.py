"""The two ways of publishing, health by events, single-hop mode: against a scripted control port."""

import asyncio
import contextlib

import pytest

from relay.primitives.errors import UsageError
from relay.primitives.onion import OnionKey
from relay.tor.client_auth import AccessKeys, OnionAccess
from relay.tor.control import TorControl
from relay.tor.health import DESCRIPTOR_LIFETIME
from relay.tor.onion_service import OnionService, OnionServiceOptions
from relay.tor.publishing import ServiceFolder
from relay.tor.single_hop import SingleHopTor, refuse_single_hop
from relay.tor.status import StatusBoard
from tests.aids.control_server import control_server
from tests.aids.until import until

KEY = OnionKey.from_seed(bytes(range(32)))
NAME = KEY.address.removesuffix(".onion")
CLIENTS = tuple(OnionAccess(KEY.address, bytes([number]) * 32).client for number in (8, 16))
UPLOADED = f"650 HS_DESC UPLOADED {NAME} UNKNOWN $AB~relay\r\n".encode()
ESTABLISHED = f"PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_ESTABLISHED REND_QUERY={NAME}"


class Lab:
    """A service beside a control port that remembers its configuration."""

    def __init__(self, server, folder, **options):
        self.server, self.now = server, 0.0
        self.board = StatusBoard(lambda: self.now)
        self.told = asyncio.Queue()
        self.service = OnionService(
            OnionServiceOptions(KEY, 30303, "127.0.0.1:4000", folder=folder, health_interval=0.01, **options),
            server.open_stream,
            self.board,
            on_up=lambda _address: self.told.put_nowait("up"),
            on_down=self.told.put_nowait,
            sleep=lambda _seconds: asyncio.sleep(0),
        )

    async def next(self):
        async with asyncio.timeout(5):
            return await self.told.get()

    async def until(self, holds):
        changed = asyncio.Event()
        self.board.subscribe(lambda status: changed.set() if holds(status) else None)
        async with asyncio.timeout(5):
            await changed.wait()


@contextlib.asynccontextmanager
async def lab(tmp_path, *, folder=None, answers=None, **options):
    held = []

    def configure(line):
        held[:] = [str(folder.path)] if line.startswith("SETCONF") else []
        return b"250 OK\r\n" + (UPLOADED if held else b"")

    def configured(line):
        if "SingleHop" in line:
            return None
        return f"250 HiddenServiceDir{'=' + held[0] if held else ''}\r\n".encode()

    settings = {"SETCONF": configure, "RESETCONF": configure, "GETCONF": configured} if folder else {}
    async with control_server(tmp_path, service_id=NAME, answers=settings | (answers or {})) as server:
        found = Lab(server, folder, **options)
        found.held = held
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(found.service.run())
            try:
                yield found
            finally:
                found.service.stop()
                await running


def folder_of(tmp_path, **options):
    return ServiceFolder(tmp_path / "a folder" / "service", **options)


async def test_clients_are_named_to_tor_and_nobody_else_is_let_in(tmp_path):
    async with lab(tmp_path, clients=CLIENTS) as at:
        assert await at.next() == "up"
    (line,) = at.server.matching("ADD_ONION")
    assert "Flags=MaxStreamsCloseCircuit,V3Auth MaxStreams=16" in line
    assert line.endswith("".join(f" ClientAuthV3={client.base32}" for client in CLIENTS))


async def test_own_tor_is_told_what_add_onion_can_not_say(tmp_path):
    folder = folder_of(tmp_path, introduction_points=5)
    async with lab(tmp_path, folder=folder) as at:
        assert await at.next() == "up"
        secret = folder.path / "hs_ed25519_secret_key"
        assert secret.read_bytes() == KEY.to_tor_file()
        assert (secret.stat().st_mode & 0o777, folder.path.stat().st_mode & 0o777) == (0o600, 0o700)
    assert at.server.matching("SETCONF") == [
        f'SETCONF HiddenServiceDir="{folder.path}" HiddenServicePort="30303 127.0.0.1:4000"'
        " HiddenServiceNumIntroductionPoints=5 HiddenServiceMaxStreams=16"
        " HiddenServiceMaxStreamsCloseCircuit=1 HiddenServiceExportCircuitID=haproxy"
        " HiddenServicePoWDefensesEnabled=1"
    ]
    assert not at.server.matching("ADD_ONION")
    assert at.server.matching("RESETCONF") == ["RESETCONF HiddenServiceDir"] * 2  # before it and after it
    assert not secret.exists()


async def test_folder_holds_the_clients_of_now_and_nothing_of_another_key(tmp_path):
    folder = folder_of(tmp_path)
    authorized = folder.path / "authorized_clients"
    authorized.mkdir(parents=True)
    for stale in (authorized / "old.auth", folder.path / "hostname", folder.path / "hs_ed25519_public_key"):
        stale.write_text("of before")
    async with lab(tmp_path, folder=folder, clients=CLIENTS) as at:
        await at.next()
        assert sorted(each.read_text() for each in authorized.iterdir()) == sorted(
            client.auth_line + "\n" for client in CLIENTS
        )
        assert not (folder.path / "hostname").exists()


async def test_own_tor_without_proof_of_work_is_asked_again_without(tmp_path):
    folder = folder_of(tmp_path)

    def old_tor(line):
        return b"552 Unrecognized option\r\n" if "PoW" in line else b"250 OK\r\n" + UPLOADED

    answers = {"SETCONF": old_tor, "GETCONF": f"250 HiddenServiceDir={folder.path}\r\n".encode()}
    async with lab(tmp_path, folder=folder, answers=answers) as at:
        assert await at.next() == "up"
    assert [("PoW" in line) for line in at.server.matching("SETCONF")] == [True, False]


async def test_service_that_left_the_configuration_is_published_again(tmp_path):
    async with lab(tmp_path, folder=folder_of(tmp_path)) as at:
        assert await at.next() == "up"
        at.held.clear()
        assert await at.next() == "tor no longer holds the onion service"
        assert await at.next() == "up"
    assert len(at.server.matching("SETCONF")) == 2


async def test_folder_that_can_not_be_written_is_told_and_tried_again(tmp_path):
    (tmp_path / "file").write_text("")
    async with lab(tmp_path, folder=ServiceFolder(tmp_path / "file" / "service")) as at:
        await at.until(lambda status: "cannot be written" in status.problem)
        (tmp_path / "file").unlink()
        assert await at.next() == "up"


async def test_service_whose_descriptor_has_run_out_is_published_again(tmp_path):
    async with lab(tmp_path) as at:
        assert await at.next() == "up"
        at.now += DESCRIPTOR_LIFETIME
        await at.server.wait_for(
            "GETINFO onions/current", len(at.server.matching("GETINFO onions/current")) + 2
        )
        assert at.board.status.service_up
        at.now += 1
        assert "no directory took the descriptor" in await at.next()
        assert await at.next() == "up"
        assert at.board.upload_age == 0
    assert len(at.server.matching("DEL_ONION")) == 2
    assert len(at.server.matching("ADD_ONION")) == 2


async def test_uploads_and_failures_are_counted_for_our_service_only(tmp_path):
    async with lab(tmp_path) as at:
        await at.next()
        at.now = 7.0
        at.server.emit(
            b"650 HS_DESC FAILED other UNKNOWN $AB REASON=UPLOAD_REJECTED\r\n"
            + f"650 HS_DESC FAILED {NAME} UNKNOWN $AB REASON=UPLOAD_REJECTED\r\n".encode()
            + b"650 HS_DESC\r\n650 HS_DESC UPLOADED\r\n"
            + UPLOADED
        )
        await at.until(lambda status: (status.uploads, status.upload_failures) == (2, 1))
        at.now = 9.5
        assert at.board.upload_age == 2.5


async def test_introduction_circuits_are_counted_while_they_stand(tmp_path):
    async with lab(tmp_path) as at:
        await at.next()
        other = ESTABLISHED.replace(NAME, "x" * 56)
        at.server.emit(
            "650 CIRC\r\n650 CIRC 1\r\n"
            f"650 CIRC 1 BUILT $AA~a,$BB~b {ESTABLISHED.replace('ESTABLISHED', 'CONNECTING')}\r\n"
            f"650 CIRC_MINOR 1 PURPOSE_CHANGED $AA~a {ESTABLISHED} OLD_PURPOSE=HS_SERVICE_INTRO\r\n"
            f"650 CIRC_MINOR 2 PURPOSE_CHANGED $AA~a {ESTABLISHED}\r\n"
            f"650 CIRC_MINOR 3 PURPOSE_CHANGED $AA~a {other}\r\n".encode()
        )
        await at.until(lambda status: status.introductions == 2)
        at.server.emit(f"650 CIRC 1 CLOSED $AA~a {ESTABLISHED} REASON=DESTROYED\r\n".encode())
        await at.until(lambda status: status.introductions == 1)
        at.server.drop()
        await at.until(lambda status: status.introductions == 0)


async def test_service_of_torrc_has_its_uploads_counted(tmp_path):
    board = StatusBoard()
    async with control_server(tmp_path) as server:
        service = OnionService(None, server.open_stream, board, watched=KEY.address)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run())
            await server.wait_for("GETINFO network-liveness")
            counted = asyncio.Event()
            board.subscribe(lambda status: counted.set() if status.uploads else None)
            server.emit(UPLOADED)
            async with asyncio.timeout(5):
                await counted.wait()
            service.stop()
    assert not server.matching("ADD_ONION") + server.matching("DEL_ONION") + server.matching("RESETCONF")


@contextlib.asynccontextmanager
async def visitor(tmp_path):
    """One who has a key to a private onion, and no service."""
    access = OnionAccess(KEY.address, b"\x08" * 32)
    async with control_server(tmp_path) as server:
        service = OnionService(
            None,
            server.open_stream,
            StatusBoard(),
            access=AccessKeys([access]),
            sleep=lambda _seconds: asyncio.sleep(0),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run())
            await server.wait_for("ONION_CLIENT_AUTH_ADD")
            await until(lambda: service._access.given, "tor has taken it")
            yield server, service
            service.stop()


async def test_tor_is_given_our_keys_and_relieved_of_them_at_the_end(tmp_path):
    async with visitor(tmp_path) as (server, _service):
        pass
    assert server.matching("ONION_CLIENT_AUTH_REMOVE") == [f"ONION_CLIENT_AUTH_REMOVE {NAME}"]


async def test_tor_gets_our_keys_again_with_each_connection(tmp_path):
    async with visitor(tmp_path) as (server, _service):
        server.drop()
        await server.wait_for("ONION_CLIENT_AUTH_ADD", 2)


async def test_tor_gets_our_keys_again_after_somebodys_newnym(tmp_path):
    async with visitor(tmp_path) as (server, _service):
        server.emit(b"650 SIGNAL RELOAD\r\n650 SIGNAL NEWNYM\r\n")
        await server.wait_for("ONION_CLIENT_AUTH_ADD", 2)
    assert len(server.matching("ONION_CLIENT_AUTH_ADD")) == 2


SINGLE_HOP = b"250-HiddenServiceSingleHopMode=1\r\n250 HiddenServiceNonAnonymousMode=1\r\n"


async def test_single_hop_mode_is_refused_in_words(tmp_path):
    async with control_server(tmp_path, answers={"GETCONF": SINGLE_HOP}) as server:
        with pytest.raises(SingleHopTor, match=r"HiddenServiceNonAnonymousMode.*take these lines out"):
            async with TorControl.connect(server.open_stream) as control:
                await refuse_single_hop(control)


@pytest.mark.parametrize("answer", [b"250 OK\r\n", b"250-HiddenServiceSingleHopMode=0\r\n250 OK\r\n"])
async def test_tor_with_three_hops_is_fine(tmp_path, answer):
    async with (
        control_server(tmp_path, answers={"GETCONF": answer}) as server,
        TorControl.connect(server.open_stream) as control,
    ):
        await refuse_single_hop(control)


async def test_nothing_is_published_at_a_tor_that_came_back_in_single_hop_mode(tmp_path):
    async with lab(tmp_path) as at:
        assert await at.next() == "up"
        at.server.answers["GETCONF"] = SINGLE_HOP
        at.server.drop()
        await at.next()
        await at.until(lambda status: "single-hop mode" in status.problem)
        assert len(at.server.matching("ADD_ONION")) == 1


@pytest.mark.parametrize("points", [0, 21])
def test_number_of_introduction_points_is_that_of_tor(tmp_path, points):
    with pytest.raises(UsageError):
        ServiceFolder(tmp_path, points)
