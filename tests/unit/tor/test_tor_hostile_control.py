"""A control port that lies, stammers or never ends: whatever it says, a TorControlError and no other."""

import asyncio
import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import TorControlError
from relay.primitives.onion import OnionKey
from relay.tor.authentication import ProtocolInfo, answer_challenge, server_proof
from relay.tor.client_auth import OnionAccess, give_access
from relay.tor.control import ControlOptions, TorControl
from relay.tor.control_protocol import ReplyParser
from relay.tor.health import IntroductionWatch
from relay.tor.onion_service import OnionService, OnionServiceOptions
from relay.tor.single_hop import refuse_single_hop
from relay.tor.status import StatusBoard
from tests.aids.control_server import DROP, control_server
from tests.aids.until import until

KEY = OnionKey.from_seed(bytes(range(32)))
NAME = KEY.address.removesuffix(".onion")
COOKIE, NONCE = bytes(range(32)), bytes(range(32, 64))
PROOF = server_proof(COOKIE, NONCE, NONCE).hex().encode()

PIECES = [
    b"250 OK\r\n",
    b"250-",
    b"250+onions/current=\r\n",
    b".\r\n",
    b"\r\n",
    b"\n",
    b"\x00",
    b"\xff\xfe",
    b"650 ",
    b"650 HS_DESC UPLOADED " + NAME.encode() + b"\r\n",
    b"650 HS_DESC\r\n",
    b"650 CIRC 1 BUILT\r\n",
    b"512 no\r\n",
    b"650-STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=",
    b"99999999999999999999",
    b' SUMMARY="',
    b"CLOCK_SKEW SKEW=-",
    b"250-AUTH METHODS=NULL\r\n",
    b'250-AUTH METHODS=SAFECOOKIE COOKIEFILE="/dev/zero"\r\n',
    b"250 ServiceID=",
    b"250 AUTHCHALLENGE SERVERHASH=",
    PROOF,
    b" SERVERNONCE=",
    NONCE.hex().encode(),
    b"250 HiddenServiceDir=\r\n",
]


class Script:
    """A control port that says the next thing at each command, whatever the command is, and then hangs up."""

    def __init__(self, answers):
        self.transport, self.reader = self, asyncio.StreamReader(limit=1 << 20)
        self._answers = list(answers)

    def write(self, _line):
        if self._answers:
            self.reader.feed_data(self._answers.pop(0))
        else:
            self.reader.feed_eof()

    async def drain(self):
        await asyncio.sleep(0)

    def abort(self):
        pass


async def converse(answers, work, deadline=0.02):
    """Do some work with a control port that has its answers ready."""
    script = Script([answer for answer in answers if answer])

    async def open_stream():
        return script.reader, script

    async with TorControl.connect(open_stream, ControlOptions(command_deadline=deadline)) as control:
        await work(control)


async def everything(control):
    board = StatusBoard()
    watch = IntroductionWatch(NAME, board)
    watch.listen(control)
    control.listen("STATUS_CLIENT", board.take_status_event)
    await control.set_events()
    board.take_bootstrap(await control.get_info("status/bootstrap-phase"))
    await refuse_single_hop(control)
    await give_access(control, [OnionAccess(KEY.address, b"\x08" * 32)])


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=30)), max_size=25))
def test_any_conversation_ends_in_success_or_a_control_error(answers):
    with suppress(TorControlError):
        asyncio.run(converse(answers, everything))


@given(st.lists(st.sampled_from(PIECES), max_size=8), st.data())
def test_events_between_replies_disturb_nobody(events, data):
    """Events that are whole, wherever between two replies they come."""
    honest = [b"250-AUTH METHODS=NULL\r\n250 OK\r\n", b"250 OK\r\n", b"250-version=0.4.9\r\n250 OK\r\n"]
    whole = [each for each in events if each.startswith(b"650 ") and each.endswith(b"\r\n")]
    for event in whole:
        place = data.draw(st.integers(0, len(honest) - 1))
        honest[place] = event + honest[place] if data.draw(st.booleans()) else honest[place] + event
    seen = []

    async def work(control):
        seen.append(await control.get_info("version"))

    asyncio.run(converse(honest, work))
    assert seen == ["0.4.9"]


@pytest.mark.parametrize(
    "answer",
    [
        b"250-version=1\r\n650 CIRC 1 BUILT\r\n250 OK\r\n",
        b"250+version=\r\n1\r\n650 CIRC 1\r\n",  # half a reply: the event is data of it
        b"250-version=1\r\n",
        b"250-version=1\r\n250",
        b"650-CIRC\r\n250 OK\r\n",
        b"199 OK\r\n",
        b"300 OK\r\n",
    ],
)
async def test_half_replies_and_events_in_the_middle_of_one_end_the_connection(answer):
    async def work(control):
        await control.get_info("version")

    with pytest.raises(TorControlError):
        await converse([b"250-AUTH METHODS=NULL\r\n250 OK\r\n", b"250 OK\r\n", answer], work)


@pytest.mark.parametrize(
    "forever", [b"x", b"250-x\r\n", b"250+x\r\ny\r\n", b"650-x\r\n", b"250 " + b"y" * 99]
)
def test_what_never_ends_is_cut_off(forever):
    parser, piece = ReplyParser(), forever * (65_536 // len(forever))
    with pytest.raises(TorControlError):
        any(parser.feed(piece) for _ in range(300))


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_wrong_server_hash_never_gets_our_proof(proof, nonce):
    line = b"250 AUTHCHALLENGE SERVERHASH=" + proof.hex().encode() + b" SERVERNONCE=" + nonce.hex().encode()
    (reply,) = ReplyParser().feed(line + b"\r\n")
    with pytest.raises(TorControlError):
        answer_challenge(COOKIE, NONCE, reply)


@given(st.sampled_from([PROOF[:-2], PROOF + b"00", PROOF[:-1] + b"g", b"", b"\xd9\xa4" * 32]))
def test_hash_of_a_wrong_length_is_refused(proof):
    (reply,) = ReplyParser().feed(
        b"250 AUTHCHALLENGE SERVERHASH=" + proof + b" SERVERNONCE=" + NONCE.hex().encode() + b"\r\n"
    )
    with pytest.raises(TorControlError):
        answer_challenge(COOKIE, NONCE, reply)


def test_right_hash_is_answered():
    (reply,) = ReplyParser().feed(
        b"250 AUTHCHALLENGE SERVERHASH=" + PROOF + b" SERVERNONCE=" + NONCE.hex().encode() + b"\r\n"
    )
    assert answer_challenge(COOKIE, NONCE, reply)


@given(st.text(alphabet=st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=200))
def test_any_line_of_events_is_read_or_refused(text):
    board = StatusBoard()
    watch = IntroductionWatch(NAME, board)
    for head in (
        "",
        "STATUS_CLIENT ",
        f"CIRC 1 BUILT PURPOSE=HS_SERVICE_INTRO REND_QUERY={NAME} ",
        "HS_DESC ",
    ):
        line = ("650 " + head + text).encode("latin-1") + b"\r\n"
        for reply in ReplyParser().feed(line):
            try:
                board.take_status_event(reply)
                watch._take_event(reply)
            except TorControlError:
                continue


@given(st.binary(max_size=200).filter(lambda data: b"\n" not in data))
def test_any_protocol_info_is_read_or_refused(data):
    (reply, *_) = ReplyParser().feed(b"250-AUTH " + data + b"\r\n250 OK\r\n")
    with suppress(TorControlError):
        assert isinstance(ProtocolInfo.from_reply(reply), ProtocolInfo)


@pytest.mark.parametrize("flood", [b"650 CIRC 1 BUILT\r\n", b"650 HS_DESC UPLOADED x\r\n"])
async def test_flood_of_events_in_place_of_an_answer_meets_the_deadline(flood):
    """Each is well formed, so only the clock ends it; others have their turn meanwhile."""
    turns = 0

    async def pour(_reader, writer):
        with suppress(OSError):
            while True:
                writer.write(flood * 500)
                await writer.drain()

    async def take_turns():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with asyncio.TaskGroup() as tasks:
        others = tasks.create_task(take_turns())
        server = await asyncio.start_server(
            lambda *streams: tasks.create_task(pour(*streams)), "127.0.0.1", 0
        )

        async def open_stream():
            return await asyncio.open_connection(*server.sockets[0].getsockname())

        with pytest.raises(TorControlError, match="did not answer PROTOCOLINFO"):
            async with TorControl.connect(open_stream, ControlOptions(command_deadline=0.2)):
                pass
        server.close()
        others.cancel()
    assert turns > 1


@pytest.mark.parametrize("seed", range(12))
async def test_service_outlives_a_port_that_lies_for_a_while(tmp_path, seed):
    """Each command gets garbage, then the port is honest: the service is up, whatever came before."""
    chance = random.Random(seed)
    lies = [b"".join(chance.choices(PIECES, k=chance.randrange(1, 6))) for _ in range(6)]

    def lie(_line):
        return lies.pop() if lies else None

    commands = (
        "PROTOCOLINFO",
        "AUTHCHALLENGE",
        "AUTHENTICATE",
        "GETCONF",
        "SETEVENTS",
        "GETINFO",
        "ADD_ONION",
    )
    async with control_server(tmp_path, service_id=NAME, answers=dict.fromkeys(commands, lie)) as server:
        up = asyncio.Event()
        service = OnionService(
            OnionServiceOptions(KEY, 30303, "127.0.0.1:4000", health_interval=0.01, withdraw_deadline=0.05),
            server.open_stream,
            StatusBoard(),
            on_up=lambda _address: up.set() if not lies else None,
            on_down=lambda _reason: up.clear(),
            control=ControlOptions(command_deadline=0.1),
            sleep=lambda _seconds: asyncio.sleep(0.01),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run())
            async with asyncio.timeout(8):
                await up.wait()
            service.stop()
    assert lies == []


NOISE = "\x1b[2J\u202e\x07" * 3000


@pytest.mark.parametrize(
    ("keyword", "answer"),
    [
        ("AUTHENTICATE", f"515 {NOISE}\r\n"),
        ("GETINFO", f"551 {NOISE}\r\n"),
        ("PROTOCOLINFO", f"250-AUTH METHODS={NOISE}\r\n250 OK\r\n"),
        ("PROTOCOLINFO", f'250-AUTH METHODS=SAFECOOKIE COOKIEFILE="/{NOISE}"\r\n250 OK\r\n'),
        ("PROTOCOLINFO", f'250-AUTH METHODS=NULL\r\n250-VERSION Tor="{NOISE}"\r\n250 OK\r\n'),
        ("GETINFO", f'250-status/bootstrap-phase=W BOOTSTRAP PROGRESS=9 SUMMARY="{NOISE}"\r\n250 OK\r\n'),
        ("GETINFO", f'250-status/bootstrap-phase=W BOOTSTRAP PROGRESS=9 WARNING="{NOISE}"\r\n250 OK\r\n'),
    ],
)
async def test_what_a_port_says_to_people_is_short_and_moves_no_terminal(tmp_path, keyword, answer):
    board = StatusBoard()
    seen = []
    board.subscribe(seen.append)
    answers = {keyword: answer.encode()}
    async with control_server(tmp_path, methods="NULL", answers=answers) as server:
        service = OnionService(None, server.open_stream, board, sleep=lambda _seconds: asyncio.sleep(0))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run())
            await until(lambda: any("[2J" in text for text in told(seen)), "it has spoken")
            service.stop()
    assert all(len(text) < 500 and text.isprintable() for text in told(seen))


def told(seen):
    return {text for each in seen for text in (each.version, each.bootstrap_summary, each.problem)}


async def test_port_that_hangs_up_at_every_command_is_tried_again_without_end(tmp_path):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        await asyncio.sleep(0)

    async with control_server(tmp_path, answers={"AUTHENTICATE": DROP}) as server:
        service = OnionService(None, server.open_stream, StatusBoard(), sleep=sleep)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run())
            await server.wait_for("AUTHENTICATE", 12)
            service.stop()
    assert pauses[:3] == [1, 1.5, 2.25]
    assert max(pauses) <= 60
