"""The pool of discovery streams: dialed once, kept, bounded; hostile ends cost nobody but themselves."""

import asyncio
import secrets
from dataclasses import replace

import pytest

from relay.discovery.buckets import Rate
from relay.discovery.driver import NoAnswer
from relay.discovery.onion_dial import NoTurn, onion_dial
from relay.discovery.onion_stream import Drop, End, StreamId, StreamOptions
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import ConnectTimeout, DialRefused, ProxyFailed, Retry
from relay.protocols.discv5 import ONION, Failure, Reason, SessionEstablished
from relay.protocols.discv5.streams import PREFACE, encode_frame
from relay.transports.pacing import DialPacer, Pace
from tests.aids.discv5 import onion_record
from tests.aids.onion_streams import stream_world
from tests.aids.streams import Recorder, make_pair
from tests.aids.until import until

QUICK = StreamOptions(sweep=0.01, backlog=0.01)
STILL = replace(
    ONION, refresh_lookups=0, fast_interval=1e9, slow_interval=1e9, refresh_interval=1e9, young_interval=0.0
)


async def attacker(world, node):
    """A raw connection to a node's listener."""
    pair = await make_pair(Recorder, world.doors[node.endpoint.host])
    world.other_ends.append(pair.left_transport)
    return pair.left


def session_packets(node, other, count=1):
    """What a node would send to another first: noise that asks for a challenge."""
    return [node.core._codec.seal_unreadable(other.core.node_id)[0] for _ in range(count)]


async def test_line_of_eight_finds_itself_from_enodes_alone():
    async with stream_world() as world:
        options = replace(ONION, eager_interval=0.1, candidate_interval=0.01)
        nodes = [world.add(number, options=options) for number in range(8)]
        for number, node in enumerate(nodes[:-1]):
            node.core.add_bootnode(nodes[number + 1].enode)
        for node in nodes:
            node.driver.start()
        await until(
            lambda: all(node.knows() == set(range(8)) - {node.number} for node in nodes),
            lambda: str([sorted(node.knows()) for node in nodes]),
            deadline=8.0,
        )
        # Each dialed each other once, however many packets went.
        assert all(node.streams.stats.dialed == node.streams.stats.dials == 7 for node in nodes)
        assert all(not node.streams.stats.dropped for node in nodes)


async def test_packets_wait_for_one_dial_and_the_stream_is_kept():
    async with stream_world() as world:
        a, b = world.add(1, options=STILL), world.add(2, options=STILL)
        world.latency = 0.01
        contact = a.core.contact(b.record)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(a.driver.ping(contact))
        await a.driver.findnode(contact, (256,))
        assert world.dialed == [b.endpoint]
        assert a.streams.stats.dialed == b.streams.stats.accepted == 1
        (session,) = b.said(SessionEstablished)
        assert session.contact.address == StreamId(1)


async def test_stream_that_came_in_answers_and_is_never_dialed():
    async with stream_world() as world:
        a, b = world.add(1, options=STILL), world.add(2, options=STILL)
        await a.driver.ping(a.core.contact(b.record))
        (session,) = b.said(SessionEstablished)
        assert await b.driver.ping(session.contact)
        assert world.dialed == [b.endpoint]
        assert len(b.core.table) == 0
        for stream in list(a.streams._open.values()):
            stream.abort()
        await until(lambda: not b.streams.stats.accepted, "the end is seen")
        with pytest.raises(NoAnswer) as caught:
            await b.driver.ping(session.contact)
        assert caught.value.failure is Failure.LOST
        assert b.streams.stats.dropped[Drop.GONE] == 1
        assert world.dialed == [b.endpoint]


async def test_sessions_die_with_their_stream():
    async with stream_world() as world:
        a, b = world.add(1, options=STILL), world.add(2, options=STILL)
        await a.driver.ping(a.core.contact(b.record))
        assert len(a.core._codec.sessions) == len(b.core._codec.sessions) == 1
        for stream in list(b.streams._open.values()):
            stream.abort()
        await until(lambda: not a.streams.stats.dialed, "the end is seen")
        assert len(a.core._codec.sessions) == len(b.core._codec.sessions) == 0
        assert a.streams.stats.ended[End.REMOTE] == 1
        await a.driver.ping(a.core.contact(b.record))
        assert b.said(SessionEstablished)[-1].contact.address == StreamId(2)


async def test_failed_dial_is_told_and_not_repeated_at_once():
    async with stream_world() as world:
        a = world.add(1, options=STILL)
        contact = a.core.contact(onion_record(9))
        for _ in range(3):
            with pytest.raises(NoAnswer) as caught:
                await a.driver.ping(contact)
            assert caught.value.failure is Failure.UNREACHABLE
        assert len(world.dialed) == 1
        assert a.streams.stats.dials_failed == 1
        assert a.streams.stats.dropped[Drop.BARRED] == 2


async def test_dial_that_took_too_long_may_be_tried_again_at_once():
    async with stream_world() as world:
        a, b = world.add(1, options=STILL), world.add(2, options=STILL)
        world.refusals[b.endpoint.host] = ConnectTimeout("no connection within 15 s")
        with pytest.raises(NoAnswer) as caught:
            await a.driver.ping(a.core.contact(b.record))
        assert caught.value.failure is Failure.TIMEOUT
        del world.refusals[b.endpoint.host]
        await a.driver.ping(a.core.contact(b.record))


async def test_bar_is_for_the_onion_whatever_the_port():
    async with stream_world() as world:
        a = world.add(1, options=STILL)
        contact = a.core.contact(onion_record(9))
        for port in range(1, 20):
            a.streams.send(bytes(63), replace(contact.address, port=port))
            await until(lambda: not a.streams._dialing and not a.streams._reports, "it has failed")
        assert len(world.dialed) == 1


@pytest.mark.parametrize("error", [ProxyFailed("no proxy answers"), NoTurn("too many")])
async def test_fault_of_our_own_does_not_count_against_a_node(error):
    async with stream_world() as world:
        a, b = world.add(1, options=STILL), world.add(2, options=STILL)
        await a.driver.ping(a.core.contact(b.record))
        assert len(a.core.table) == 1
        for stream in list(a.streams._open.values()):
            stream.abort()
        await until(lambda: not a.streams.stats.dialed, "the stream ends")
        world.refusals[b.endpoint.host] = error
        with pytest.raises(NoAnswer) as caught:
            await a.driver.ping(a.core.contact(b.record))
        assert caught.value.failure is Failure.BUSY
        assert len(a.core.table) == 1
        del world.refusals[b.endpoint.host]
        await a.driver.ping(a.core.contact(b.record))


async def test_number_of_dials_and_of_waiting_packets_is_bounded():
    async with stream_world() as world:
        a = world.add(1, options=STILL, pool=StreamOptions(dialing=2, waiting=3))
        world.latency = 30.0
        for number in range(10, 14):
            for _ in range(5):
                a.streams.send(bytes(63), a.core.contact(onion_record(number)).address)
        await asyncio.sleep(0)
        assert a.streams.stats.dialing == 2
        assert a.streams.stats.dropped == {Drop.WAITING: 4, Drop.NO_ROOM: 2, Drop.GONE: 8}


async def test_dialed_streams_are_bounded_and_the_idle_one_goes():
    async with stream_world() as world:
        a = world.add(1, options=STILL, pool=StreamOptions(dialed=2, spare=0.0))
        others = [world.add(number, options=STILL) for number in range(2, 6)]
        for other in others:
            await a.driver.ping(a.core.contact(other.record))
        assert a.streams.stats.dialed == 2
        assert a.streams.stats.ended == {End.ROOM: 2}
        assert set(a.streams._open) == {other.endpoint for other in others[2:]}


async def test_busy_streams_do_not_make_room():
    async with stream_world() as world:
        a = world.add(1, options=STILL, pool=StreamOptions(dialed=1))
        first, second = world.add(2, options=STILL), world.add(3, options=STILL)
        await a.driver.ping(a.core.contact(first.record))
        with pytest.raises(NoAnswer) as caught:
            await a.driver.ping(a.core.contact(second.record))
        assert caught.value.failure is Failure.BUSY
        assert set(a.streams._open) == {first.endpoint}


async def test_idle_streams_are_closed():
    async with stream_world() as world:
        pool = replace(QUICK, idle=0.05, idle_accepted=0.1)
        a, b = world.add(1, options=STILL, pool=pool), world.add(2, options=STILL, pool=pool)
        await a.driver.ping(a.core.contact(b.record))
        await until(lambda: not b.streams.stats.accepted, "it is closed")
        assert a.streams.stats.ended == {End.IDLE: 1}
        assert b.streams.stats.ended == {End.REMOTE: 1}
        assert len(a.core.table) == 1


async def test_streams_that_are_left_end_when_nothing_is_said_and_others_stay():
    async with stream_world() as world:
        pool = replace(QUICK, idle_left=0.05)
        a, b = world.add(1, options=STILL, pool=pool), world.add(2, options=STILL, pool=pool)
        c = world.add(3, options=STILL)
        await a.driver.ping(a.core.contact(b.record))
        await c.driver.ping(c.core.contact(a.record))
        a.streams.leave()
        await until(lambda: not a.streams.stats.dialed, "ours is closed")
        assert a.streams.stats.ended == {End.IDLE: 1}
        assert a.streams.stats.accepted == 1, "who came in is not ours to leave"
        await a.driver.ping(a.core.contact(b.record))
        assert a.streams.stats.dials == 2
        assert {each.is_dialed for each in a.streams._open.values()} == {True, False}


async def test_half_open_streams_end_after_their_time():
    async with stream_world() as world:
        victim = world.add(1, pool=replace(QUICK, proof=0.05))
        stranger = world.add(2)
        silent, challenged = await attacker(world, victim), await attacker(world, victim)
        silent.write(PREFACE)
        challenged.write(PREFACE + encode_frame(session_packets(stranger, victim)[0]))
        for each in (silent, challenged):
            await each.wait_lost()
        assert len(challenged.received) == 2 + 63
        assert victim.streams.stats.ended == {End.UNPROVED: 2}


async def test_accepted_streams_are_bounded_and_those_without_proof_go_first():
    async with stream_world() as world:
        b = world.add(2, options=STILL, pool=StreamOptions(accepted=2, spare=0.0))
        a = world.add(1, options=STILL)
        await a.driver.ping(a.core.contact(b.record))
        half_open = await attacker(world, b)
        half_open.write(PREFACE)
        await until(lambda: b.streams.stats.accepted == 2, "both are there")
        third = await attacker(world, b)
        third.write(PREFACE)
        await half_open.wait_lost()
        assert b.streams.stats.ended == {End.ROOM: 1}
        assert await a.driver.ping(a.core.contact(b.record))
        assert len(world.dialed) == 1


async def test_streams_beyond_the_bound_are_closed_while_none_is_idle():
    async with stream_world() as world:
        b = world.add(2, pool=StreamOptions(accepted=1))
        first, second = await attacker(world, b), await attacker(world, b)
        first.write(PREFACE)
        await until(lambda: b.streams.stats.accepted == 1, "one is there")
        assert not b.streams.has_room()
        second.write(PREFACE)
        await second.wait_lost()
        assert b.gate.stats.full == 1
        protocol = b.streams.protocol()
        pair = await make_pair(Recorder, lambda: protocol)
        await pair.left.wait_lost()
        assert b.streams.stats.ended == {End.FULL: 1}


async def test_one_circuit_has_few_streams():
    async with stream_world() as world:
        b = world.add(2, pool=StreamOptions(accepted_per_circuit=2))
        pairs = [await make_pair(Recorder, lambda: b.streams.protocol(7)) for _ in range(3)]
        await pairs[2].left.wait_lost()
        assert b.streams.stats.accepted == 2
        other = await make_pair(Recorder, lambda: b.streams.protocol(8))
        assert b.streams.stats.accepted == 3
        pairs[0].left_transport.abort()
        await until(lambda: b.streams.stats.accepted == 2, "one has ended")
        pairs.append(await make_pair(Recorder, lambda: b.streams.protocol(7)))
        assert b.streams.stats.accepted == 3
        for pair in (*pairs, other):
            await pair.close()
        assert not b.streams._circuits


@pytest.mark.parametrize(
    "sent",
    [
        b"discvX",
        b"dark matter",
        PREFACE + b"\x00\x3e" + bytes(62),
        PREFACE + b"\xff\xff",
        PREFACE + encode_frame(bytes(63)),
        PREFACE + encode_frame(bytes(1280)),
        PREFACE + PREFACE,
    ],
)
async def test_what_is_no_discovery_is_closed_at_once(sent):
    async with stream_world() as world:
        b = world.add(2)
        hostile = await attacker(world, b)
        hostile.write(sent)
        await hostile.wait_lost()
        assert not hostile.received
        assert b.streams.stats.ended == {End.MALFORMED: 1}
        assert b.streams.stats.accepted == 0


async def test_dialed_service_of_another_kind_is_not_called_again_soon():
    class Web(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with stream_world() as world:
        a = world.add(1, options=STILL)
        contact = a.core.contact(onion_record(9))
        world.doors[contact.address.host] = Web
        for _ in range(3):
            with pytest.raises(NoAnswer):
                await a.driver.ping(contact)
        assert len(world.dialed) == 1
        assert a.streams.stats.ended == {End.MALFORMED: 1}


async def test_liar_does_not_cost_us_a_stream_that_was_proved():
    async with stream_world() as world:
        a, b = world.add(1, options=STILL), world.add(2, options=STILL)
        await a.driver.ping(a.core.contact(b.record))
        a.core.ping(a.core.contact(onion_record(9, onion=2)), asyncio.get_running_loop().time())
        a.driver.flush()
        await until(lambda: b.driver.refused[Reason.NOT_DISCV5], "the packet for another id arrives")
        assert await a.driver.ping(a.core.contact(b.record))
        assert len(world.dialed) == 1
        assert not b.streams.stats.ended


async def test_liar_does_not_bar_its_victim():
    async with stream_world() as world:
        a, b = world.add(1, options=STILL), world.add(2, options=STILL)
        with pytest.raises(NoAnswer) as caught:
            await a.driver.ping(a.core.contact(onion_record(9, onion=2)))
        assert caught.value.failure is Failure.LOST
        assert b.streams.stats.ended == {End.MALFORMED: 1}
        assert await a.driver.ping(a.core.contact(b.record))


async def test_flood_on_a_stream_waits_and_disturbs_nobody():
    async with stream_world() as world:
        pool = replace(QUICK, rate=Rate(0.5, 20.0), turn=4)
        b = world.add(2, options=STILL, pool=pool)
        a, c = world.add(1, options=STILL), world.add(3, options=STILL)
        flooder = await attacker(world, b)
        flooder.write(PREFACE + b"".join(map(encode_frame, session_packets(c, b, 500))))
        await until(lambda: b.streams.stats.delayed, "its burst is read")
        for _ in range(10):
            assert await a.driver.ping(a.core.contact(b.record))
        ((_, stream),) = [each for each in b.streams._open.items() if each[0] == StreamId(1)]
        assert stream.delayed
        assert len(stream._reader) <= 16_384
        assert b.streams.stats.packets_in < 60


async def test_flood_within_the_burst_is_read_to_its_end():
    async with stream_world() as world:
        b = world.add(2, options=STILL, pool=replace(QUICK, turn=2))
        c = world.add(3, options=STILL)
        flooder = await attacker(world, b)
        flooder.write(PREFACE + b"".join(map(encode_frame, session_packets(c, b, 50))))
        # One challenge, sent again for each, since its answer may be under way.
        await flooder.wait_for_bytes(50 * 65)
        assert b.streams.stats.packets_in == 50
        await until(lambda: not b.streams._backlog, "it is read as usual again")
        flooder.write(encode_frame(session_packets(c, b)[0]))
        await flooder.wait_for_bytes(51 * 65)


async def test_slow_reader_is_closed():
    async with stream_world() as world:
        b = world.add(2, options=STILL, pool=replace(QUICK, unsent=2000))
        c = world.add(3, options=STILL)
        pair = await make_pair(Recorder, world.doors[b.endpoint.host], buffer_size=4096)
        pair.left_transport.pause_reading()
        pair.left.write(PREFACE + b"".join(map(encode_frame, session_packets(c, b, 400))))
        await until(lambda: b.streams.stats.ended, "it is closed")
        assert b.streams.stats.ended == {End.SLOW: 1}
        await pair.close()


async def test_stream_recorded_and_replayed_on_another_one_gives_nothing():
    async with stream_world() as world:
        a, b = world.add(1, options=STILL), world.add(2, options=STILL)
        recorded = bytearray()
        make = world.doors[b.endpoint.host]

        class Tap(asyncio.Protocol):
            """Sits between both and copies what the caller sends."""

            def connection_made(self, transport):
                self.transport = transport
                self.ready = asyncio.get_running_loop().create_future()
                world.tasks.create_task(self.join())

            async def join(self):
                outer = self

                class Back(asyncio.Protocol):
                    def data_received(self, data):
                        outer.transport.write(data)

                pair = await make_pair(Back, make)
                world.other_ends.append(pair.left_transport)
                self.ready.set_result(pair.left_transport)

            def data_received(self, data):
                recorded.extend(data)
                world.tasks.create_task(self.forward(data))

            async def forward(self, data):
                (await self.ready).write(data)

        world.doors[b.endpoint.host] = Tap
        await a.driver.ping(a.core.contact(b.record))
        await a.driver.ping(a.core.contact(b.record))
        world.doors[b.endpoint.host] = make
        received = b.core.traffic.received.copy()
        replay = await attacker(world, b)
        replay.write(bytes(recorded))
        await replay.wait_for_bytes(65)
        await until(lambda: b.streams.stats.packets_in >= 6, "all is read")
        assert b.core.traffic.received == received
        assert len(b.said(SessionEstablished)) == 1


async def test_closing_ends_streams_and_dials_without_a_word():
    async with stream_world() as world:
        a, b = world.add(1, options=STILL), world.add(2, options=STILL)
        await a.driver.ping(a.core.contact(b.record))
        world.latency = 30.0
        a.streams.send(bytes(63), a.core.contact(onion_record(9)).address)
        a.streams.close()
        await until(lambda: not b.streams.stats.accepted, "the other side sees it")
        await until(lambda: not a.streams._dialing, "the dial is cancelled")
        a.streams.send(bytes(63), b.endpoint)
        assert a.streams.stats.dialed == 0
        assert not a.streams.has_room()


# -- onion_dial ------------------------------------------------------------------------------------------

ONION_ENDPOINT = Endpoint(Network.ONION, "x.onion", 1)


class FakeDialer:
    def __init__(self, seconds=0.0, error=None):
        self.seconds, self.error = seconds, error

    async def dial(self, to, factory):
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        return "transport", factory()


def dial_by(dialer, *, waiting=10):
    loop = asyncio.get_running_loop()
    pacer = DialPacer(Pace(1000.0, 0.0, 1, waiting), secrets.token_bytes, loop.time)
    return onion_dial(dialer, pacer, loop)


async def test_dial_measures_its_time_and_waits_no_longer_than_that_tells():
    dial = dial_by(FakeDialer())
    assert dial.times.timeout == 60.0
    for _ in range(8):
        assert await dial(ONION_ENDPOINT, lambda: "protocol") == ("transport", "protocol")
    assert dial.times.timeout == 15.0
    dial = dial_by(FakeDialer(seconds=5.0))
    dial.times.timeout = 0.01
    with pytest.raises(ConnectTimeout):
        await dial(ONION_ENDPOINT, lambda: None)


async def test_dial_without_a_turn_says_nothing_about_the_node():
    dial = dial_by(FakeDialer(), waiting=0)
    with pytest.raises(NoTurn):
        await dial(ONION_ENDPOINT, lambda: None)


async def test_dial_hands_on_what_the_proxy_says_and_refuses_everything_but_onions():
    dial = dial_by(FakeDialer(error=ProxyFailed("gone", code=0xF0, retry=Retry.LONG)))
    with pytest.raises(ProxyFailed):
        await dial(ONION_ENDPOINT, lambda: None)
    with pytest.raises(DialRefused):
        await dial(Endpoint(Network.IPV4, "9.9.9.9", 9), lambda: None)
