"""One connection: its phases, its messages, its deadlines, its end."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace

import pytest

from relay.peering.options import PeeringOptions
from relay.peering.session import MAX_STASH, PeerSession, Phase, printable
from relay.primitives.endpoint import Network
from relay.primitives.errors import ProtocolBreach
from relay.protocols.devp2p import snappy
from relay.protocols.devp2p.capabilities import Capability
from relay.protocols.devp2p.events import Message
from relay.protocols.devp2p.messages import DisconnectReason
from relay.transports.listener import Label
from tests.aids.peering import (
    End,
    Link,
    ManualLoop,
    MemoryTransport,
    accept_raw,
    connect,
    couple,
    key_of,
    make_end,
    settle,
)


def two(**options: object) -> tuple[ManualLoop, End, End]:
    loop = ManualLoop()
    chosen = PeeringOptions(**options)  # type: ignore[arg-type]
    return loop, make_end(key_of(1), loop, options=chosen), make_end(key_of(2), loop, options=chosen)


def joined(**options: object) -> tuple[ManualLoop, End, End, Link]:
    loop, near, far = two(**options)
    link = connect(near, far)
    settle([loop], [link])
    assert link.dialer.phase is Phase.JOINED
    assert link.listener.phase is Phase.JOINED
    return loop, near, far, link


def reason_of(session: PeerSession) -> tuple[int, bool]:
    assert session.departure is not None
    return session.departure.reason, session.departure.by_remote


def sweep_for(loop: ManualLoop, seconds: float, ends: list[End], links: list[Link]) -> None:
    for _ in range(int(seconds)):
        loop.time += 1
        for end in ends:
            end.peers.sweep()
        settle([loop], links)


class TestJoining:
    def test_both_sides_join_with_the_highest_shared_version(self) -> None:
        loop = ManualLoop()
        near = make_end(key_of(1), loop, versions=(68, 69, 70))
        far = make_end(key_of(2), loop, versions=(69, 70, 71))
        link = connect(near, far)
        settle([loop], [link])
        for session, other in ((link.dialer, far), (link.listener, near)):
            assert session.phase is Phase.JOINED
            assert session.eth is not None
            assert session.eth.version == 70
            assert session.public_key == other.key.public_key
            assert session.hello is not None
            assert session.hello.client == "pyrelay/test"
            assert session.status is not None
            assert session.status.network_id == 1
            assert session.slot == 0
            assert session.id == other.key.public_key.hex()[:16]
        assert near.eth.names() == far.eth.names() == ["joined"]
        assert far.tally.seconds == [0.0]

    def test_peer_of_another_network_is_told_that_it_is_useless(self) -> None:
        loop = ManualLoop()
        near, far = make_end(key_of(1), loop), make_end(key_of(2), loop, network_id=5)
        link = connect(near, far)
        settle([loop], [link])
        assert {link.dialer.phase, link.listener.phase} == {Phase.CLOSED}
        assert near.eth.seen == far.eth.seen == []
        assert {reason_of(link.dialer)[0], reason_of(link.listener)[0]} == {DisconnectReason.USELESS_PEER}

    def test_peer_without_a_shared_version_is_useless(self) -> None:
        loop = ManualLoop()
        near = make_end(key_of(1), loop, versions=(69,))
        far = make_end(key_of(2), loop, versions=(70,))
        link = connect(near, far)
        settle([loop], [link])
        assert near.tally.categories() == far.tally.categories() == ["useless peer"]

    def test_sharing_another_capability_only_is_useless(self) -> None:
        loop = ManualLoop()
        near = make_end(key_of(1), loop, versions=(69,))
        far = make_end(key_of(2), loop, versions=(70,))
        for end in (near, far):
            offered = (*end.peers.hello.capabilities, Capability("dht", 1, 4))
            end.peers.hello = replace(end.peers.hello, capabilities=offered)
        link = connect(near, far)
        settle([loop], [link])
        assert near.tally.categories() == ["useless peer"]
        assert link.dialer.phase is Phase.CLOSED

    def test_node_that_dials_itself_notices(self) -> None:
        loop = ManualLoop()
        end = make_end(key_of(1), loop)
        link = connect(end, end)
        settle([loop], [link])
        assert "self connect" in end.tally.categories()
        assert end.eth.seen == []

    def test_answer_of_another_key_than_dialed_fails(self) -> None:
        loop, near, far = two()
        session = near.peers.outbound(key_of(3).public_key, via_tor=False, static=False)
        left = MemoryTransport(loop, session)
        right = MemoryTransport(loop, far.peers.inbound_factory(Label.CLEARNET)(), peername=("127.0.0.1", 1))
        couple(left, right)
        settle([loop], [Link(left, right)])
        assert far.tally.categories() == ["bad handshake"]
        assert session.phase is Phase.CLOSED

    def test_first_eth_message_must_be_status(self) -> None:
        loop, near, far = two()
        link = connect(near, far)
        loop.drain()
        link.near.deliver()
        loop.drain()
        link.far.deliver()  # ack, Hello
        link.dialer._cork.clear()  # our Hello and Status never leave...
        loop.drain()
        assert link.dialer.phase is Phase.STATUS
        with pytest.raises(ProtocolBreach):
            link.dialer.early_message(2, b"")

    def test_public_keys_that_are_no_points_end_the_dial(self) -> None:
        loop = ManualLoop()
        end = make_end(key_of(1), loop)
        session = end.peers.outbound(b"\xff" * 64, via_tor=False, static=False)  # type: ignore[arg-type]
        couple(MemoryTransport(loop, session), MemoryTransport(loop, asyncio.Protocol()))
        loop.drain()
        assert end.tally.categories() == ["no key"]


class TestHostileHandshakes:
    @pytest.mark.parametrize(
        "data",
        [
            b"\x00\x00",
            b"\x01\x90" + b"\x04" * 400,
            b"GET / HTTP/1.1\r\n",
            b"\x08\x01",
            b"\x01\x90" + bytes(401),
        ],
    )
    def test_garbage_ends_the_connection_without_an_answer(self, data: bytes) -> None:
        end = make_end(key_of(1))
        transport = accept_raw(end)
        transport.protocol.data_received(data)
        end.loop.drain()
        assert end.tally.categories() == ["bad handshake"]
        assert transport.lost
        assert transport.get_write_buffer_size() == 0
        assert end.peers.connections == 0
        assert end.bugs == []

    def test_garbage_in_place_of_the_ack_ends_the_dial(self) -> None:
        loop, near, far = two()
        link = connect(near, far)
        loop.drain()
        link.dialer.data_received(b"\x01\x90" + bytes(400))
        loop.drain()
        assert near.tally.categories() == ["bad handshake"]

    @pytest.mark.parametrize(("label", "limit"), [(Label.CLEARNET, 5), (Label.ONION, 30)])
    def test_byte_by_byte_handshake_hits_its_deadline(self, label: Label, limit: int) -> None:
        end = make_end(key_of(1))
        transport = accept_raw(end, label=label)
        for byte in b"\x01\x90" + bytes(limit - 3):
            transport.protocol.data_received(bytes((byte,)))
            end.loop.time += 1
            end.peers.sweep()
        assert end.peers.connections == 1
        end.loop.time += 1
        end.peers.sweep()
        end.loop.drain()
        assert end.tally.categories() == ["timeout"]
        assert end.peers.connections == 0

    @pytest.mark.parametrize("steps", [1, 2])
    def test_each_later_phase_has_a_deadline_of_its_own(self, steps: int) -> None:
        loop, near, far = two()
        link = connect(near, far)
        loop.drain()
        for step in range(steps):
            loop.time += 2.4
            near.peers.sweep()
            far.peers.sweep()
            (link.near if step % 2 == 0 else link.far).deliver()
            loop.drain()
        session = link.listener if steps == 1 else link.dialer
        assert session.phase is (Phase.HELLO if steps == 1 else Phase.STATUS)
        loop.time += 4.9
        session.check(loop.time)
        assert not session.closing
        loop.time += 0.1
        session.check(loop.time)
        assert session.closing
        settle([loop], [link])
        assert reason_of(session) == (DisconnectReason.TIMEOUT, False)

    def test_connection_lost_in_the_handshake_is_counted(self) -> None:
        loop, near, far = two()
        link = connect(near, far)
        loop.drain()
        link.near.break_with(ConnectionResetError("reset by peer"))
        loop.drain()
        assert near.tally.categories() == ["connection lost"]
        assert near.tally.refusals[0].text == "reset by peer"


class TestMessages:
    def test_messages_arrive_in_order_and_are_counted(self) -> None:
        loop, near, far, link = joined()
        before = link.dialer.messages_out
        link.dialer.send(2, b"one")
        link.dialer.send(8, b"two")
        assert link.dialer.queued_bytes > 0
        settle([loop], [link])
        assert far.eth.messages() == [(2, b"one"), (8, b"two")]
        assert link.dialer.messages_out == before + 2
        assert link.dialer.bytes_out == link.listener.bytes_in
        assert near.peers.egress == far.peers.ingress
        assert link.dialer.queued_bytes == 0

    def test_what_one_iteration_sends_leaves_in_one_write(self) -> None:
        loop, _, _, link = joined()
        for number in range(5):
            link.dialer.send(2, bytes([number]))
        loop.drain()
        assert len(link.near.outbox) == 1

    def test_packed_messages_are_sent_as_they_are(self) -> None:
        loop, _, far, link = joined()
        link.dialer.send_packed(2, snappy.compress(b"shared"))
        settle([loop], [link])
        assert far.eth.messages() == [(2, b"shared")]

    def test_messages_of_one_read_are_delivered_though_reading_was_paused(self) -> None:
        loop, _, far, link = joined()
        far.eth.on_message = lambda session, *_: session.pause_reading()
        link.dialer.send(2, b"one")
        link.dialer.send(2, b"two")
        settle([loop], [link])
        link.dialer.send(2, b"three")
        settle([loop], [link])
        assert [payload for _, payload in far.eth.messages()] == [b"one", b"two"]
        assert link.listener.reading_paused
        link.listener.pause_reading()
        link.listener.resume_reading()
        link.listener.resume_reading()
        settle([loop], [link])
        assert len(far.eth.messages()) == 3

    def test_breach_found_by_the_handler_ends_the_peer_with_its_reason(self) -> None:
        loop, near, far, link = joined()

        def refuse(session: PeerSession, code: int, payload: bytes) -> None:
            raise ProtocolBreach("a rule")

        far.eth.on_message = refuse
        link.dialer.send(2, b"one")
        link.dialer.send(2, b"two")
        settle([loop], [link])
        assert len(far.eth.messages()) == 1, "nothing more of that read is delivered"
        assert reason_of(link.listener) == (DisconnectReason.PROTOCOL_BREACH, False)
        assert reason_of(link.dialer) == (DisconnectReason.PROTOCOL_BREACH, True)
        assert far.eth.names() == ["joined", "message", "left"]
        assert near.eth.seen[-1][2] == DisconnectReason.PROTOCOL_BREACH
        assert len(far.peers) == len(near.peers) == 0

    def test_bug_in_the_handler_is_reported_and_cuts_the_connection(self) -> None:
        loop, _, far, link = joined()

        def fail(session: PeerSession, code: int, payload: bytes) -> None:
            raise ZeroDivisionError

        far.eth.on_message = fail
        link.dialer.send(2, b"one")
        settle([loop], [link])
        assert [type(bug) for bug in far.bugs] == [ZeroDivisionError]
        assert link.listener.phase is Phase.CLOSED
        assert far.eth.names() == ["joined", "message", "left"]

    def test_left_comes_after_the_call_that_disconnected(self) -> None:
        loop, _, far, link = joined()
        order: list[object] = []

        def hang_up(session: PeerSession, code: int, payload: bytes) -> None:
            session.disconnect()
            session.disconnect()
            session.send(2, b"too late")
            order.append(far.eth.names()[-1])

        far.eth.on_message = hang_up
        link.dialer.send(2, b"one")
        settle([loop], [link])
        assert order == ["message"]
        assert far.eth.names()[-1] == "left"
        assert not link.listener.writable

    def test_garbage_after_joining_is_a_breach(self) -> None:
        loop, _, far, link = joined()
        link.listener.data_received(bytes(64))
        settle([loop], [link])
        assert far.eth.names() == ["joined", "left"]
        assert far.bugs == []


class ForeignHandler:
    def __init__(self) -> None:
        self.seen: list[tuple[int, bytes]] = []

    def message(self, session: PeerSession, code: int, payload: bytes) -> None:
        self.seen.append((code, payload))


class TestOtherCapabilities:
    def two_with_dht(self) -> tuple[ManualLoop, End, End, ForeignHandler]:
        loop, handler = ManualLoop(), ForeignHandler()
        ends = [make_end(key_of(number), loop, handlers={"dht": handler}) for number in (1, 2)]
        for end in ends:
            offered = (*end.peers.hello.capabilities, Capability("dht", 1, 4))
            end.peers.hello = replace(end.peers.hello, capabilities=offered)
        return loop, ends[0], ends[1], handler

    def test_its_messages_go_to_its_handler(self) -> None:
        loop, near, far, handler = self.two_with_dht()
        link = connect(near, far)
        settle([loop], [link])
        assert link.dialer._connection is not None
        link.dialer._put(link.dialer._connection.send(16 + 1, b"query"))
        settle([loop], [link])
        assert handler.seen == [(1, b"query")]
        assert far.eth.messages() == []

    def test_eth_and_it_are_spoken_side_by_side_whichever_comes_first_by_name(self) -> None:
        loop, handler = ManualLoop(), ForeignHandler()
        names = ("dht", "pyrelay")
        ends = [make_end(key_of(number), loop, handlers=dict.fromkeys(names, handler)) for number in (1, 2)]
        for end in ends:
            foreign = (Capability(name, 1, 4) for name in names)
            end.peers.hello = replace(end.peers.hello, capabilities=(*end.peers.hello.capabilities, *foreign))
        link = connect(*ends)
        settle([loop], [link])
        assert [link.dialer.speaks(name) for name in ("eth", *names, "snap")] == [True, True, True, False]
        link.dialer.send_to("pyrelay", 3, b"last")
        link.dialer.send_to("dht", 0, b"first")
        link.dialer.send(0x11, b"eth")
        settle([loop], [link])
        assert handler.seen == [(3, b"last"), (0, b"first")]
        assert ends[1].eth.messages() == [(0x11, b"eth")]

    def test_its_messages_wait_for_eth_within_a_bound(self) -> None:
        loop, near, far, handler = self.two_with_dht()
        link = connect(near, far)
        loop.drain()
        link.near.deliver()
        loop.drain()
        link.far.deliver()
        assert link.dialer.phase is Phase.STATUS
        assert link.dialer._connection is not None
        shared = link.dialer._connection.shared[0]
        assert shared.name == "dht"
        for _ in range(MAX_STASH):
            link.dialer._take(Message(shared, 1, b"early"))
        assert handler.seen == []
        with pytest.raises(ProtocolBreach, match="too many"):
            link.dialer._take(Message(shared, 1, b"early"))
        settle([loop], [link])
        assert handler.seen == [(1, b"early")] * MAX_STASH


class TestKeepingAlive:
    def test_idle_peers_keep_each_other(self) -> None:
        loop, near, far, link = joined()
        sweep_for(loop, 200, [near, far], [link])
        assert link.dialer.phase is Phase.JOINED
        assert link.listener.phase is Phase.JOINED

    def test_ping_is_sent_every_fifteen_seconds_though_much_passes(self) -> None:
        loop, near, _, link = joined()
        before = link.dialer.messages_out
        for second in range(1, 61):
            link.dialer.send(2, b"gossip")
            sweep_for(loop, 1, [near], [link])
            assert link.dialer.messages_out == before + second + second // 15

    def test_peer_that_only_listens_is_asked_for_a_sign_of_life(self) -> None:
        loop, near, _, link = joined()
        for _ in range(100):
            link.dialer.send(2, b"gossip")
            sweep_for(loop, 1, [near], [link])
        assert link.dialer.phase is Phase.JOINED

    @pytest.mark.parametrize(("via_tor", "limit"), [(False, 30), (True, 60)])
    def test_silent_peer_is_dropped(self, via_tor: bool, limit: int) -> None:
        loop, near, _, link = joined()
        link.dialer.via_tor = via_tor
        sweep_for(loop, 1, [near], [link])
        link.far.protocol = asyncio.Protocol()  # answers nothing any more
        sweep_for(loop, limit - 1, [near], [link])
        assert link.dialer.phase is Phase.JOINED
        sweep_for(loop, 1, [near], [link])
        assert reason_of(link.dialer) == (DisconnectReason.TIMEOUT, False)

    def test_peer_that_we_do_not_read_is_not_silent(self) -> None:
        loop, near, _, link = joined()
        link.dialer.pause_reading()
        sweep_for(loop, 100, [near], [link])
        assert link.dialer.phase is Phase.JOINED


class TestWriting:
    def test_slow_reader_becomes_unwritable_and_recovers(self) -> None:
        loop, _, _, link = joined(busy_bytes=1000, overflow_bytes=5000)
        link.dialer.send_packed(2, bytes(1200))
        loop.drain()
        assert not link.dialer.writable
        assert link.dialer.phase is Phase.JOINED
        link.near.outbox.clear()
        link.near.outbox.append(b"x")
        link.near.deliver()
        assert link.dialer.writable

    def test_reader_that_falls_far_behind_is_cut(self) -> None:
        loop, near, _, link = joined(busy_bytes=1000, overflow_bytes=5000)
        link.near.far.pause_reading()
        for _ in range(6):
            link.dialer.send_packed(2, bytes(1000))
            loop.drain()
        settle([loop], [link])
        assert near.tally.departures[0].category == "slow reader"
        assert near.eth.names() == ["joined", "left"]

    def test_reader_that_takes_nothing_for_twenty_seconds_is_cut(self) -> None:
        loop, near, _, link = joined()
        link.listener.pause_reading()
        link.dialer.send(2, b"stuck")
        loop.drain()
        for _ in range(20):
            link.dialer.bytes_in += 1  # it does send
            sweep_for(loop, 1, [near], [link])
        assert link.dialer.phase is Phase.JOINED
        sweep_for(loop, 1, [near], [link])
        assert near.tally.departures[0].category == "write stalled"

    def test_slow_but_steady_reader_stays(self) -> None:
        loop, near, _, link = joined()
        link.listener.pause_reading()
        for _ in range(100):
            link.dialer.send(2, b"more")
            loop.drain()
            link.dialer.bytes_in += 1
            if len(link.near.outbox) > 2:
                link.near.outbox.popleft()
            sweep_for(loop, 1, [near], [])
        assert link.dialer.phase is Phase.JOINED


class TestLeaving:
    def test_peer_may_read_why_and_the_connection_ends_when_it_closes(self) -> None:
        loop, near, far, link = joined()
        link.dialer.disconnect(DisconnectReason.TOO_MANY_PEERS, "full")
        assert link.near.eof_written
        assert not link.near.closing
        settle([loop], [link])
        assert reason_of(link.listener) == (DisconnectReason.TOO_MANY_PEERS, True)
        assert link.dialer.phase is link.listener.phase is Phase.CLOSED
        assert near.peers.connections == far.peers.connections == 0

    def test_peer_that_resets_while_we_hang_up_is_no_bug_of_ours(self) -> None:
        loop, near, _, link = joined()

        def not_connected() -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

        link.near.write_eof = not_connected  # type: ignore[method-assign]
        link.dialer.disconnect()
        settle([loop], [link])
        assert link.dialer.phase is Phase.CLOSED
        assert near.bugs == []

    def test_peer_that_does_not_close_is_cut_after_two_seconds(self) -> None:
        loop, near, _, link = joined()
        link.dialer.disconnect()
        link.dialer.data_received(b"more of it")
        loop.time += 1.9
        near.peers.sweep()
        assert not link.near.lost
        loop.time += 0.1
        near.peers.sweep()
        loop.drain()
        assert link.near.lost
        assert near.eth.names() == ["joined", "left"]

    def test_connection_that_breaks_leaves_with_a_network_error(self) -> None:
        loop, near, _, link = joined()
        link.near.break_with(OSError("no route"))
        loop.drain()
        assert near.eth.seen[-1] == ("left", link.dialer, DisconnectReason.NETWORK_ERROR)
        assert near.tally.departures[0].text == "no route"

    def test_pausing_after_the_end_does_nothing(self) -> None:
        loop, _, _, link = joined()
        link.dialer.pause_reading()
        link.dialer.disconnect()
        link.dialer.resume_reading()
        link.dialer.pause_reading()
        assert not link.dialer.reading_paused
        settle([loop], [link])
        link.dialer.resume_writing()
        assert not link.dialer.writable


def test_onion_peers_have_no_address_and_slow_deadlines() -> None:
    loop, near, far = two()
    link = connect(near, far, label=Label.ONION)
    settle([loop], [link])
    assert link.listener.label is Network.ONION
    assert link.listener.endpoint is None
    assert link.listener.via_tor
    assert far.peers.labels[Network.ONION] == 1


def test_text_of_peers_is_made_fit_for_a_terminal() -> None:
    assert printable("Geth/v1\x1b[31m\n") == "Geth/v1?[31m?"
    assert len(printable("x" * 500)) == 64
