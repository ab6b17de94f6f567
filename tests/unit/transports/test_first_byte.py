"""One port, several protocols: nothing lost, nobody waits for ever."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import DecodeError
from relay.transports.first_byte import FirstByteOptions, Gate, Route, parse_circuit_line
from tests.aids.streams import Recorder, make_pair
from tests.aids.until import until

LINE = b"PROXY TCP6 fc00:dead:beef:4dad::12ab:34cd ::1 65535 42\r\n"


class BufferedRecorder(asyncio.BufferedProtocol):
    """Reads three bytes at a time."""

    def __init__(self):
        self.received = bytearray()
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        self.buffer = bytearray(3)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.received += self.buffer[:nbytes]

    def connection_lost(self, exc):
        self.lost.set()


class Place:
    """A gate with a plain and a buffered protocol, and connections to it."""

    def __init__(self, **options):
        self.made = []
        self.circuits = []
        self.room = True
        routes = [
            Route(range(9), self._make(Recorder), lambda: self.room),
            Route(range(0x64, 0x65), self._make(BufferedRecorder)),
        ]
        self.gate = Gate(routes, clock=asyncio.get_running_loop(), options=FirstByteOptions(**options))
        self.pairs = []

    def _make(self, kind):
        def make(circuit):
            self.circuits.append(circuit)
            self.made.append(kind())
            return self.made[-1]

        return make

    async def connect(self):
        pair = await make_pair(Recorder, self.gate.protocol)
        self.pairs.append(pair)
        return pair.left


@asynccontextmanager
async def place(**options):
    found = Place(**options)
    try:
        yield found
    finally:
        found.gate.close()
        for pair in found.pairs:
            await pair.close()


@pytest.mark.parametrize("first", [b"\x00", b"\x08", b"d"])
async def test_first_byte_chooses_and_nothing_is_lost(first):
    async with place() as at:
        caller = await at.connect()
        sent = first + bytes(range(256)) * 200
        caller.write(sent[:1])
        await until(lambda: at.made, "a protocol is chosen")
        caller.write(sent[1:])
        await until(lambda: bytes(at.made[0].received) == sent, "all bytes arrive")
        assert type(at.made[0]) is (BufferedRecorder if first == b"d" else Recorder)
        assert at.circuits == [None]
        assert at.gate.stats.waiting == 0
        caller.transport.abort()
        async with asyncio.timeout(5):
            await at.made[0].lost.wait()


async def test_all_in_one_piece_is_handed_on_whole():
    async with place() as at:
        caller = await at.connect()
        sent = b"d" + bytes(20_000)
        caller.write(sent)
        await until(lambda: at.made and bytes(at.made[0].received) == sent, "all bytes arrive")


@pytest.mark.parametrize("first", [b"\x09", b"G", b"\x16", b"P", b"\xff"])
async def test_other_protocols_are_closed(first):
    async with place() as at:
        caller = await at.connect()
        caller.write(first + b"ET / HTTP/1.1\r\n")
        await caller.wait_lost()
        assert not at.made
        assert at.gate.stats.unknown == 1
        assert at.gate.stats.waiting == 0


async def test_silence_is_closed_after_its_time():
    async with place(patience=0.02) as at:
        callers = [await at.connect() for _ in range(3)]
        for caller in callers:
            await caller.wait_lost()
        assert at.gate.stats.silent == 3
        late = await at.connect()
        await late.wait_lost()
        assert at.gate.stats.silent == 4


async def test_silence_makes_room_for_others_when_all_places_are_taken():
    async with place(waiting=2, spare=0.0) as at:
        oldest, second, third = [await at.connect() for _ in range(3)]
        await oldest.wait_lost()
        assert (at.gate.stats.waiting, at.gate.stats.full) == (2, 1)
        assert at.gate.has_room()
        for each in (second, third):
            each.write(b"\x01")
        await until(lambda: len(at.made) == 2, "the others are handed on")


async def test_number_of_waiting_connections_is_bounded():
    async with place(waiting=2) as at:
        first, _, third = [await at.connect() for _ in range(3)]
        await third.wait_lost()
        assert (at.gate.stats.waiting, at.gate.stats.full) == (2, 1)
        assert not at.gate.has_room()
        first.write(b"\x01")
        await until(at.gate.has_room, "a place is free")
        await at.connect()
        assert at.gate.stats.waiting == 2


async def test_protocol_without_room_closes_only_its_own():
    async with place() as at:
        at.room = False
        refused, taken = await at.connect(), await at.connect()
        refused.write(b"\x01")
        taken.write(b"d")
        await refused.wait_lost()
        await until(lambda: at.made, "the other one is taken")
        assert at.gate.stats.full == 1
        assert at.gate.stats.chosen == [0, 1]


async def test_hanging_up_before_a_byte_leaves_nothing():
    async with place() as at:
        caller = await at.connect()
        caller.transport.close()
        await until(lambda: not at.gate.stats.waiting, "it is forgotten")
        assert not at.made


async def test_closed_gate_hangs_up_on_those_who_wait():
    async with place() as at:
        caller = await at.connect()
        at.gate.close()
        await caller.wait_lost()


@pytest.mark.parametrize("cut", [1, 20, len(LINE) - 1, len(LINE), len(LINE) + 1])
async def test_circuit_is_read_from_the_line_of_tor(cut):
    async with place(circuit_line=True) as at:
        caller = await at.connect()
        sent = LINE + b"discv5"
        caller.write(sent[:cut])
        await until(lambda: at.gate.stats.waiting == 1 or at.made, "it waits")
        caller.write(sent[cut:])
        await until(lambda: at.made and bytes(at.made[0].received) == b"discv5", "the rest arrives")
        assert at.circuits == [0x12AB34CD]


@pytest.mark.parametrize(
    "start",
    [b"discv5\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", b"P" * 200, LINE.replace(b"dead", b"beef")],
)
async def test_missing_line_of_tor_is_closed(start):
    async with place(circuit_line=True) as at:
        caller = await at.connect()
        caller.write(start)
        await caller.wait_lost()
        assert not at.made
        assert at.gate.stats.unknown == 1


@given(st.binary(max_size=200))
def test_hostile_lines_end_in_a_decode_error(line):
    try:
        circuit = parse_circuit_line(line)
    except DecodeError:
        return
    assert 0 <= circuit < 1 << 32
