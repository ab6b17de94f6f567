import asyncio
import os

import pytest

from relay.primitives.errors import ConnectFailed, TorControlError
from relay.tor.control import MAX_PENDING, CommandRefused, ControlOptions, TorControl
from tests.aids.control_server import DROP, SILENCE, control_server

QUICK = ControlOptions(command_deadline=0.05)


async def connect_once(server, options=None):
    async with TorControl.connect(server.open_stream, options) as control:
        return control


async def test_controller_authenticates_by_safe_cookie_with_blanks_in_the_path(tmp_path):
    async with control_server(tmp_path) as server, TorControl.connect(server.open_stream) as control:
        assert control.info.tor_version == "0.4.9.11"
        assert await control.get_info("network-liveness") == "up"
    assert [line.split(" ")[0] for line in server.commands[:3]] == [
        "PROTOCOLINFO",
        "AUTHCHALLENGE",
        "AUTHENTICATE",
    ]


async def test_controller_reads_answers_split_into_single_bytes(tmp_path):
    async with control_server(tmp_path, chunk=1) as server, TorControl.connect(server.open_stream) as control:
        assert await control.get_info("network-liveness") == "up"


async def test_cookie_itself_is_never_sent(tmp_path):
    async with control_server(tmp_path, methods="COOKIE") as server:
        with pytest.raises(TorControlError, match="no known authentication"):
            await connect_once(server)
    assert not server.matching("AUTH")


async def test_wrong_server_hash_is_named_and_nothing_is_proved_to_it(tmp_path):
    async with control_server(tmp_path) as server:
        server.cookie_path.write_bytes(b"x" * 32)
        with pytest.raises(TorControlError, match="wrong server hash"):
            await connect_once(server)
    assert not server.matching("AUTHENTICATE")


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
async def test_cookie_of_another_size_is_refused(tmp_path, content):
    async with control_server(tmp_path) as server:
        server.cookie_path.write_bytes(content)
        with pytest.raises(TorControlError, match="does not hold 32 bytes"):
            await connect_once(server)


async def test_unreadable_cookie_names_the_group(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    async with control_server(tmp_path) as server:
        monkeypatch.setattr("relay.tor.control._open_at_once", refuse)  # root reads everything
        with pytest.raises(TorControlError, match=r"adduser \$USER debian-tor"):
            await connect_once(server)


async def test_pipe_in_place_of_the_cookie_holds_nobody_up(tmp_path):
    async with control_server(tmp_path) as server:
        server.cookie_path.unlink()
        os.mkfifo(server.cookie_path)
        with pytest.raises(TorControlError, match="is no regular file"):
            await connect_once(server)
    assert not server.matching("AUTH")


async def test_missing_cookie_file_is_named(tmp_path):
    async with control_server(tmp_path) as server:
        server.cookie_path.unlink()
        with pytest.raises(TorControlError, match="control auth cookie cannot be read"):
            await connect_once(server)


async def test_password_is_used_where_the_cookie_cannot_be_read(tmp_path):
    async with control_server(tmp_path, methods="SAFECOOKIE,HASHEDPASSWORD", password="geheim") as server:
        server.cookie_path.unlink()
        await connect_once(server, ControlOptions(password="geheim"))
        with pytest.raises(CommandRefused, match="515"):
            await connect_once(server, ControlOptions(password="falsch"))


async def test_password_that_was_not_given_is_asked_for(tmp_path):
    async with control_server(tmp_path, methods="HASHEDPASSWORD") as server:
        with pytest.raises(TorControlError, match="--tor-password-file"):
            await connect_once(server)


async def test_null_authentication(tmp_path):
    async with (
        control_server(tmp_path, methods="NULL") as server,
        TorControl.connect(server.open_stream) as control,
    ):
        assert f"127.0.0.1:{server.port} asks for no authentication" in (control.open_door or "")
    assert server.matching("AUTHENTICATE") == ["AUTHENTICATE"]


async def test_port_with_a_cookie_is_no_open_door(tmp_path):
    async with control_server(tmp_path) as server, TorControl.connect(server.open_stream) as control:
        assert control.open_door is None


async def test_cookie_without_a_path_is_refused(tmp_path):
    async with control_server(tmp_path) as server:
        server.answers["PROTOCOLINFO"] = b"250-AUTH METHODS=SAFECOOKIE\r\n250 OK\r\n"
        with pytest.raises(TorControlError, match="names no file"):
            await connect_once(server)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (SILENCE, "did not answer PROTOCOLINFO"),
        (DROP, "closed the control connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no reply of Tor's control protocol"),
        (b"\x05\x00" * 60_000, "line of over"),
        (b"250-x\r\n" * 2_000, "lines"),
        (b"512 Wrong\r\n", "512 Wrong"),
        (b"250 OK\r\n250 OK\r\n", "nobody asked for|not Tor"),
    ],
)
async def test_port_that_is_no_control_port_ends_in_a_control_error(tmp_path, answer, words):
    async with control_server(tmp_path) as server:
        server.answers["PROTOCOLINFO"] = answer
        with pytest.raises(TorControlError, match=words):
            await connect_once(server, QUICK if answer is SILENCE else None)


@pytest.mark.parametrize("error", [ConnectionRefusedError("refused"), ConnectFailed("refused")])
async def test_refused_connection_is_a_control_error(error):
    async def refuse():
        raise error

    with pytest.raises(TorControlError, match="refused"):
        async with TorControl.connect(refuse):
            pass


async def test_connection_that_never_opens_meets_the_deadline():
    async def never():
        await asyncio.Event().wait()

    with pytest.raises(TorControlError, match="accepted no connection"):
        async with TorControl.connect(never, QUICK):
            pass


async def test_silence_later_closes_the_connection(tmp_path):
    async with control_server(tmp_path) as server:
        server.answers["GETINFO"] = SILENCE
        async with TorControl.connect(server.open_stream, ControlOptions(command_deadline=0.2)) as control:
            with pytest.raises(TorControlError, match="did not answer GETINFO"):
                await control.get_info("version")
            assert control.closed
            with pytest.raises(TorControlError, match="did not answer GETINFO"):
                await control.command("GETINFO", "version")


async def test_cancelled_command_leaves_the_connection_usable(tmp_path):
    async with control_server(tmp_path) as server:
        server.answers["SLOW"] = SILENCE
        async with TorControl.connect(server.open_stream) as control:
            async with asyncio.TaskGroup() as tasks:
                slow = tasks.create_task(control.command("SLOW"))
                await server.wait_for("SLOW")
                slow.cancel()
            server.emit(b"250 late\r\n")
            assert await control.get_info("network-liveness") == "up"


async def test_pending_commands_are_bounded(tmp_path):
    async with control_server(tmp_path) as server:
        server.answers["SLOW"] = SILENCE
        async with TorControl.connect(server.open_stream) as control, asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(control.command("SLOW")) for _ in range(MAX_PENDING)]
            await server.wait_for("SLOW", MAX_PENDING)
            with pytest.raises(TorControlError, match="wait for tor's answer"):
                await control.command("GETINFO", "version")
            for task in waiting:
                task.cancel()


async def test_events_reach_their_listeners(tmp_path):
    async with control_server(tmp_path) as server, TorControl.connect(server.open_stream) as control:
        came = asyncio.Queue()
        control.listen("HS_DESC", came.put_nowait)
        await control.set_events()
        server.emit(b"650 OTHER thing\r\n650 HS_DESC UPLOADED abc\r\n")
        async with asyncio.timeout(5):
            assert (await came.get()).text == "HS_DESC UPLOADED abc"
    assert "SETEVENTS HS_DESC" in server.commands


async def test_loss_is_told_and_fails_what_waits(tmp_path):
    async with control_server(tmp_path) as server:
        server.answers["GETINFO"] = DROP
        async with TorControl.connect(server.open_stream) as control:
            told = asyncio.Event()
            control.on_closed(told.set)
            with pytest.raises(TorControlError, match="closed the control connection"):
                await control.get_info("version")
            assert told.is_set()
            assert await control.wait_closed() is control.failure


async def test_info_without_a_value_is_refused(tmp_path):
    async with control_server(tmp_path) as server, TorControl.connect(server.open_stream) as control:
        server.answers["GETINFO"] = b"250 OK\r\n"
        with pytest.raises(TorControlError, match="without a value"):
            await control.get_info("version")


async def test_error_of_the_block_comes_out_unwrapped(tmp_path):
    async with control_server(tmp_path) as server:
        with pytest.raises(ConnectFailed):
            async with TorControl.connect(server.open_stream):
                raise ConnectFailed("of the block")
