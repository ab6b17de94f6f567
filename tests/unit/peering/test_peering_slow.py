"""Slow peers: what each kind can hold of memory and of places, and for how long at most.

| kind | holds | until |
| --- | --- | --- |
| first packet byte by byte | a place to wait of 1024, 2 KiB | 5 s (onion: 30 s), or a newcomer after 1 s |
| a later phase of the handshake | one of 50 handshakes under way | 5 s each (onion: 30 s each) |
| sends nothing, or a byte a minute | a place as a peer | 30 s (onion: 60 s) without a byte |
| reads nothing | a place, what waits for it | 20 s in which nothing of it was taken |
| reads a little now and then | a place, 16 MiB and one write | what waits reaches 16 MiB |
| lives, and is of no use | a place | somebody comes who finds no other, after 120 s |
"""

from __future__ import annotations

import pytest

from relay.peering.options import PeeringOptions
from relay.peering.session import PeerSession, Phase
from relay.protocols.rlpx.handshake import MAX_PACKET, PREFIX
from relay.transports.listener import Label
from tests.aids.peering import End, Link, MemoryTransport, accept_raw, connect, key_of, make_end, settle

OPTIONS = PeeringOptions()
LIMITS = [(Label.CLEARNET, OPTIONS.handshake_timeout), (Label.ONION, OPTIONS.handshake_timeout_tor)]
LARGEST = b"\x08\x00"
"""Says that the largest first packet follows."""


def session_of(transport: MemoryTransport) -> PeerSession:
    assert isinstance(transport.protocol, PeerSession)
    return transport.protocol


def feed(transport: MemoryTransport, data: bytes) -> None:
    if not transport.lost and not session_of(transport).closing:
        session_of(transport).data_received(data)


def buffered(end: End) -> int:
    return sum(len(session._early or b"") for session in end.peers._live)


def pass_seconds(end: End, seconds: int, links: list[Link] | None = None) -> None:
    for _ in range(seconds):
        end.loop.time += 1
        end.peers.sweep()
        end.loop.drain()
        if links is not None:
            settle([end.loop], links)


class TestSlowHandshakes:
    @pytest.mark.parametrize(("label", "limit"), LIMITS)
    def test_fifteen_hundred_hold_two_mebibytes_and_are_gone_at_the_deadline(
        self, label: Label, limit: float
    ) -> None:
        assert PREFIX + MAX_PACKET == 2050
        end = make_end(key_of(1))
        raw = [accept_raw(end, label=label) for _ in range(1500)]
        end.loop.drain()
        assert end.peers.connections == OPTIONS.max_waiting == 1024
        for transport in raw:
            feed(transport, LARGEST + bytes(MAX_PACKET - 1))
        assert buffered(end) <= OPTIONS.max_waiting * (PREFIX + MAX_PACKET)
        pass_seconds(end, int(limit) + 1)
        assert end.peers.connections == buffered(end) == 0
        assert end.peers.gate.waiting == end.peers.gate.active == 0

    @pytest.mark.parametrize(("label", "limit"), LIMITS)
    def test_a_byte_a_minute_lasts_no_longer_than_none(self, label: Label, limit: float) -> None:
        end = make_end(key_of(1))
        raw = accept_raw(end, label=label)
        feed(raw, b"\x01")
        pass_seconds(end, int(limit) - 1)
        assert end.peers.connections == 1
        pass_seconds(end, 2)
        assert raw.lost

    def test_newcomers_pass_a_room_that_is_filled_again_and_again(self) -> None:
        end = make_end(key_of(1), options=PeeringOptions(max_peers=60, max_waiting=64))
        links: list[Link] = []
        for number in range(10):
            for _ in range(100):
                feed(accept_raw(end, label=Label.ONION), b"\x01")
            pass_seconds(end, 1)
            dialing = make_end(key_of(100 + number), end.loop)
            links.append(connect(dialing, end, label=Label.ONION))
            settle([end.loop], links[-1:])
            assert links[-1].listener.phase is Phase.JOINED
            assert end.peers.gate.waiting <= 64
        assert end.bugs == []

    def test_those_who_stop_after_rlpx_free_their_turns(self) -> None:
        end = make_end(key_of(1))
        links = [
            connect(make_end(key_of(100 + number), end.loop), end, label=Label.ONION) for number in range(60)
        ]
        end.loop.drain()
        for link in links:
            link.near.deliver()
        end.loop.drain()
        assert end.peers.gate.active == OPTIONS.max_pending == 50
        pass_seconds(end, int(OPTIONS.handshake_timeout_tor) + 1)
        friend = connect(make_end(key_of(500), end.loop), end, label=Label.ONION)
        settle([end.loop], [friend])
        assert friend.listener.phase is Phase.JOINED


class Joined:
    """A node with one peer that came in, which is slow from now on."""

    def __init__(self, label: Label = Label.ONION, **options: float) -> None:
        self.end = make_end(key_of(1), options=PeeringOptions(**options))  # type: ignore[arg-type]
        self.link = connect(make_end(key_of(100), self.end.loop), self.end, label=label)
        settle([self.end.loop], [self.link])
        self.session = self.link.listener
        assert self.session.phase is Phase.JOINED

    @property
    def waiting(self) -> int:
        assert self.session.transport is not None
        return self.session.transport.get_write_buffer_size()

    def seconds_left(self, most: int, send: bytes = b"", *, every: int = 1) -> int:
        """Let time pass, with a message to the peer every so often, until it is gone."""
        for second in range(most):
            if self.session.closing:
                return second
            if send and second % every == 0:
                self.session.send_packed(2, send)
            self.end.loop.time += 1
            self.end.peers.sweep()
            self.end.loop.drain()
        return most


class TestSlowPeers:
    @pytest.mark.parametrize(
        ("label", "limit"),
        [(Label.CLEARNET, OPTIONS.read_timeout), (Label.ONION, OPTIONS.read_timeout_tor)],
    )
    def test_one_that_sends_a_byte_a_minute_is_dropped(self, label: Label, limit: float) -> None:
        slow = Joined(label)
        assert slow.seconds_left(99) <= limit + 2
        settle([slow.end.loop], [slow.link])
        assert len(slow.end.peers) == 0
        assert slow.end.tally.departures[0].category in {"timeout", "write stalled"}

    def test_one_that_never_reads_is_cut_after_twenty_seconds(self) -> None:
        slow = Joined()
        slow.seconds_left(5)
        left = slow.seconds_left(100, bytes(100_000))
        assert left <= OPTIONS.write_timeout + 2
        assert slow.waiting <= 22 * 100_100
        settle([slow.end.loop], [slow.link])
        assert slow.end.tally.departures[0].category == "write stalled"
        assert len(slow.end.peers) == 0

    def test_what_waits_for_a_drinker_of_drops_is_bounded(self) -> None:
        slow = Joined(busy_bytes=4 << 16, overflow_bytes=16 << 16)  # a sixty-fourth of the real ones
        largest = 0
        for _ in range(10_000):
            if slow.session.closing:
                break
            slow.session.bytes_in += 1  # it sends something all the time
            slow.session.send_packed(2, bytes(2000))
            slow.end.loop.drain()
            outbox = slow.link.far.outbox
            if not slow.session.closing:
                outbox[0] = outbox[0][10:]  # ten bytes of what waits are taken
                if not outbox[0]:
                    outbox.popleft()
            largest = max(largest, slow.waiting)
            if slow.waiting > 4 << 16:
                assert not slow.session.writable, "gossip passes it by"
            slow.end.loop.time += 0.5
            slow.end.peers.sweep()
        assert slow.session.closing
        assert largest <= (16 << 16) + 2100
        settle([slow.end.loop], [slow.link])
        assert slow.end.tally.departures[0].category == "slow reader"

    def test_one_that_lives_and_is_of_no_use_makes_room_when_it_is_needed(self) -> None:
        slow = Joined(max_peers=2, dial_ratio=2)
        slow.end.loop.time += 60
        assert not self.knock(slow.end, 200)
        slow.end.loop.time += 60
        assert self.knock(slow.end, 201)
        assert slow.end.peers.get(key_of(100).public_key) is None

    @staticmethod
    def knock(end: End, number: int) -> bool:
        link = connect(make_end(key_of(number), end.loop), end, label=Label.ONION)
        settle([end.loop], [link])
        return end.peers.get(key_of(number).public_key) is not None
