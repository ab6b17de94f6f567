"""Admission: limits, trust, throttle, the gate before the handshakes, slots, the end of the daemon."""

from __future__ import annotations

import asyncio
import socket

import pytest

from relay.peering.admission import InboundThrottle
from relay.peering.options import PeeringOptions
from relay.peering.peers import PeerSet
from relay.peering.session import PeerSession, Phase
from relay.primitives.endpoint import Endpoint, Network
from relay.protocols.devp2p.messages import DisconnectReason
from relay.transports.listener import Label
from tests.aids.peering import (
    End,
    Link,
    ManualLoop,
    MemoryTransport,
    accept_raw,
    connect,
    key_of,
    make_end,
    settle,
)


def many(end: End, count: int, *, start: int = 100, **how: object) -> list[tuple[End, Link]]:
    found = []
    for number in range(start, start + count):
        dialing = make_end(key_of(number), end.loop)
        found.append((dialing, connect(dialing, end, **how)))  # type: ignore[arg-type]
    return found


class TestLimits:
    def test_geth_s_shares_hold_by_default(self) -> None:
        assert PeeringOptions().max_dialed == 16
        assert PeeringOptions().max_inbound == 34
        assert PeeringOptions(max_peers=0).max_dialed == 0
        assert PeeringOptions(max_peers=2, dial_ratio=0).max_dialed == 1

    def test_inbound_peers_leave_room_for_dialed_ones(self) -> None:
        end = make_end(key_of(1), options=PeeringOptions(max_peers=3))
        links = [link for _, link in many(end, 4)]
        settle([end.loop], links)
        assert end.peers.inbound == len(end.peers) == 2
        assert end.tally.categories() == ["too many peers"] * 2

    def test_refused_peer_is_told_before_hello(self) -> None:
        end = make_end(key_of(1), options=PeeringOptions(max_peers=1))
        dialing, link = many(end, 1)[0]
        settle([end.loop], [link])
        assert link.dialer.hello is None
        assert dialing.tally.refusals[0].by_remote
        assert dialing.tally.refusals[0].reason == DisconnectReason.TOO_MANY_PEERS

    def test_full_set_refuses_dialed_peers_too(self) -> None:
        loop = ManualLoop()
        end = make_end(key_of(1), loop, options=PeeringOptions(max_peers=1))
        others = [make_end(key_of(number), loop) for number in (2, 3)]
        links = [connect(end, other) for other in others]
        settle([loop], links)
        assert len(end.peers) == end.peers.dialed == 1
        assert end.tally.categories() == ["too many peers"]

    def test_the_last_place_is_given_once(self) -> None:
        """Both were admitted while there was room for one."""
        end = make_end(key_of(1), options=PeeringOptions(max_peers=2))
        found = many(end, 2)
        end.loop.drain()
        for _, link in found:
            link.near.deliver()
        end.loop.drain()
        assert [link.listener.phase for _, link in found] == [Phase.HELLO] * 2
        settle([end.loop], [link for _, link in found])
        assert len(end.peers) == 1
        assert end.tally.categories() == ["too many peers"]

    def test_trusted_peers_pass_every_limit(self) -> None:
        end = make_end(key_of(1), options=PeeringOptions(max_peers=1))
        end.peers.trust(key_of(100).public_key)
        end.peers.trust(key_of(101).public_key)
        found = many(end, 3)
        settle([end.loop], [link for _, link in found])
        assert [session.trusted for session in end.peers.sessions()] == [True, True]
        end.peers.distrust(key_of(100).public_key)
        assert [session.trusted for session in end.peers.sessions()] == [False, True]
        end.peers.trust(key_of(100).public_key)
        assert [session.trusted for session in end.peers.sessions()] == [True, True]

    def test_thousand_inbound_peers_join(self) -> None:
        end = make_end(key_of(1), options=PeeringOptions(max_peers=1600))
        links = [link for _, link in many(end, 1000)]
        settle([end.loop], links)
        assert len(end.peers) == 1000
        assert [session.slot for session in end.peers.sessions()] == list(range(1000))


class TestSlots:
    def test_lowest_free_slot_is_used_again_after_left(self) -> None:
        end = make_end(key_of(1))
        found = many(end, 4)
        links = [link for _, link in found]
        settle([end.loop], links)
        for link in (links[2], links[0]):
            link.listener.disconnect()
        assert len(end.peers) == 4, "until left has been told"
        settle([end.loop], links)
        more = many(end, 2, start=200)
        settle([end.loop], [link for _, link in more])
        assert sorted(session.slot for session in end.peers.sessions()) == [0, 1, 2, 3]
        assert more[0][1].listener.slot == 0

    def test_disconnect_by_key_reaches_every_phase(self) -> None:
        end = make_end(key_of(1))
        (_, link), (_, pending) = many(end, 2)
        settle([end.loop], [link])
        pending.near.deliver()
        end.loop.drain()
        assert pending.listener.phase is Phase.HELLO
        assert end.peers.knows(key_of(101).public_key)
        for number in (100, 101):
            assert end.peers.disconnect(key_of(number).public_key)
        settle([end.loop], [link, pending])
        assert not end.peers.disconnect(key_of(100).public_key)
        assert not end.peers.knows(key_of(101).public_key)
        assert end.peers.get(key_of(100).public_key) is None


class TestThrottle:
    def test_internet_address_may_connect_every_thirty_seconds(self) -> None:
        end = make_end(key_of(1))
        found = [*many(end, 1, address="8.8.8.8"), *many(end, 1, start=200, address="8.8.8.8")]
        settle([end.loop], [link for _, link in found])
        assert len(end.peers) == 1
        assert end.tally.categories() == ["throttled"]
        end.loop.time += 30
        again = many(end, 1, start=300, address="8.8.8.8")
        settle([end.loop], [link for _, link in again])
        assert len(end.peers) == 2
        assert again[0][1].listener.endpoint == Endpoint(Network.IPV4, "8.8.8.8", 40000)

    @pytest.mark.parametrize(
        ("address", "label"),
        [("127.0.0.1", Label.CLEARNET), ("192.168.1.7", Label.CLEARNET), ("8.8.8.8", Label.ONION)],
    )
    def test_local_and_onion_peers_may_connect_at_will(self, address: str, label: Label) -> None:
        end = make_end(key_of(1))
        found = many(end, 5, address=address, label=label)
        settle([end.loop], [link for _, link in found])
        assert len(end.peers) == 5

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("relay.peering.admission.MAX_THROTTLED", 10)
        throttle = InboundThrottle(30)
        for number in range(20):
            assert throttle.admits(Endpoint(Network.IPV4, f"8.8.4.{number}", 1), 0.0)
        assert len(throttle._until) == 10
        assert throttle.admits(Endpoint(Network.IPV4, "8.8.4.0", 1), 0.0), "forgotten"
        assert not throttle.admits(Endpoint(Network.IPV4, "8.8.4.19", 1), 0.0)

    def test_ipv6_peers_are_labelled(self) -> None:
        end = make_end(key_of(1))
        found = many(end, 1, address="fe80::1%eth0")
        settle([end.loop], [link for _, link in found])
        assert end.peers.labels[Network.IPV6] == 1


class TestGate:
    def test_handshakes_are_computed_a_few_at_a_time(self) -> None:
        end = make_end(key_of(1), options=PeeringOptions(max_peers=300, max_pending=300))
        links = [link for _, link in many(end, 40)]
        for link in links:
            link.near.protocol._peers._flush()  # type: ignore[attr-defined]
            link.near.deliver()
        turns = []
        while end.loop.turn():
            turns.append(sum(link.listener.phase is Phase.HELLO for link in links))
        assert turns[:5] == [8, 16, 24, 32, 40]

    def test_slice_ends_with_its_time(self) -> None:
        loop = ManualLoop()

        def slow_now() -> float:
            loop.time += 0.004
            return loop.time

        end = make_end(key_of(1), loop, now=slow_now)
        links = [link for _, link in many(end, 10)]
        loop.drain()
        for link in links:
            link.near.deliver()
        loop.turn()
        done = sum(link.listener.phase is Phase.HELLO for link in links)
        assert 0 < done < 5
        loop.drain()
        assert all(link.listener.phase is Phase.HELLO for link in links)

    def test_at_most_so_many_handshakes_are_under_way(self) -> None:
        end = make_end(key_of(1), options=PeeringOptions(max_pending=3))
        links = [link for _, link in many(end, 8)]
        end.loop.drain()
        for link in links:
            link.near.deliver()
        end.loop.drain()
        assert end.peers.gate.active == 3
        assert end.peers.gate.waiting == 5
        settle([end.loop], links)
        assert len(end.peers) == 8
        assert end.peers.gate.active == end.peers.gate.waiting == 0

    def test_slowloris_never_holds_a_turn(self) -> None:
        end = make_end(key_of(1), options=PeeringOptions(max_pending=2))
        for _ in range(100):
            accept_raw(end).protocol.data_received(b"\x01")
        links = [link for _, link in many(end, 5)]
        settle([end.loop], links)
        assert len(end.peers) == 5

    def test_ten_thousand_connections_are_bounded_and_the_overflow_closed_at_once(self) -> None:
        end = make_end(key_of(1))
        raw = [accept_raw(end) for _ in range(10_000)]
        end.loop.drain()
        assert end.peers.connections == end.peers.gate.waiting == 1024
        assert end.peers.gate.turned_away == 10_000 - 1024
        assert sum(each.lost for each in raw) == 10_000 - 1024
        assert not end.peers.has_room()
        assert set(end.tally.categories()) == {"no place to wait"}

    def test_slow_ones_give_way_to_newcomers(self) -> None:
        end = make_end(key_of(1), options=PeeringOptions(max_waiting=4))
        slow = [accept_raw(end) for _ in range(4)]
        end.loop.time += 1
        assert end.peers.has_room()
        link = many(end, 1)[0][1]
        settle([end.loop], [link])
        assert link.listener.phase is Phase.JOINED
        assert [each.lost for each in slow] == [True, False, False, False]
        assert end.peers.gate.gave_way == 1

    def test_waiting_for_a_turn_has_a_deadline(self) -> None:
        end = make_end(key_of(1), options=PeeringOptions(max_pending=0))
        link = many(end, 1)[0][1]
        end.loop.drain()
        link.near.deliver()
        assert link.listener.phase is Phase.READY
        end.loop.time += 5
        end.peers.sweep()
        settle([end.loop], [link])
        assert end.tally.categories() == ["timeout"]
        assert end.peers.gate.waiting == 0

    def test_one_that_is_gone_takes_no_turn(self) -> None:
        end = make_end(key_of(1))
        first, second = [link for _, link in many(end, 2)]
        end.loop.drain()
        first.near.deliver()
        second.near.deliver()
        first.listener.abort("gone")
        settle([end.loop], [first, second])
        assert second.listener.phase is Phase.JOINED
        assert first.listener.phase is Phase.CLOSED
        assert end.bugs == []


class TestRunning:
    def test_sweep_repeats_and_reports_its_faults(self) -> None:
        end = make_end(key_of(1))
        end.peers.start()
        transport = accept_raw(end)
        for _ in range(6):
            end.loop.advance(1.0)
        end.loop.drain()
        assert transport.lost

        def fail(now: float) -> None:
            raise ZeroDivisionError

        broken = accept_raw(end)
        end.peers._live.add(type("Broken", (), {"check": staticmethod(fail)})())  # type: ignore[arg-type]
        end.loop.advance(1.0)
        assert [type(bug) for bug in end.bugs] == [ZeroDivisionError]
        assert len(end.loop.later) == 1, "and goes on"
        assert not broken.lost

    async def test_close_tells_everybody_and_takes_nobody_in(self) -> None:
        end = make_end(key_of(1))
        end.peers.start()
        dialing, link = many(end, 1)[0]
        settle([end.loop], [link])
        raw = accept_raw(end)
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(end.peers.close(5.0))
            await asyncio.sleep(0)
            assert not closing.done()
            settle([end.loop], [link, link_of(raw)])
        assert dialing.tally.departures[0].reason == DisconnectReason.CLIENT_QUITTING
        late = accept_raw(end)
        end.loop.drain()
        assert late.lost
        assert end.tally.categories()[-1] == "we are stopping"
        assert not end.peers.has_room()

    async def test_close_cuts_those_that_stay(self) -> None:
        end = make_end(key_of(1))
        _, link = many(end, 1)[0]
        settle([end.loop], [link])
        await end.peers.close(0.0)
        end.loop.drain()
        assert link.far.lost

    async def test_close_of_an_empty_set_returns(self) -> None:
        await make_end(key_of(1)).peers.close(5.0)


def link_of(transport: MemoryTransport) -> Link:
    link = object.__new__(Link)
    link.near, link.far = transport, transport.far
    return link


async def test_two_nodes_talk_over_real_sockets() -> None:
    loop = asyncio.get_running_loop()
    near = make_end(key_of(1), timers=loop, now=loop.time)
    far = make_end(key_of(2), timers=loop, now=loop.time)
    arrived: asyncio.Future[bytes] = loop.create_future()
    lost: asyncio.Future[int] = loop.create_future()
    far.eth.on_message = lambda _, __, payload: arrived.set_result(payload)
    near.eth.left = lambda _, reason: lost.set_result(reason)  # type: ignore[method-assign]
    ours, theirs = socket.socketpair()
    outcome = loop.create_future()

    def dial() -> PeerSession:
        session = near.peers.outbound(far.key.public_key, via_tor=False, static=True)
        session.outcome = outcome
        return session

    async with asyncio.timeout(10):
        _, session = await loop.create_connection(dial, sock=ours)
        await loop.create_connection(far.peers.inbound_factory(Label.ONION), sock=theirs)
        assert await outcome is None
        session.send(2, b"x" * 300_000)
        assert await arrived == b"x" * 300_000
        await far.peers.close(5.0)
        assert await lost == DisconnectReason.CLIENT_QUITTING
        await near.peers.close(5.0)
    assert isinstance(near.peers, PeerSet)
    assert near.bugs == far.bugs == []
