"""Two nodes on a wire: handshake, requests, answers, time-outs. And one that breaks the rules."""

from dataclasses import replace

import pytest

from relay.protocols.discv5 import (
    MAX_TALK,
    UDP,
    EndpointVote,
    Failure,
    LookupDone,
    NodeDropped,
    NodeSeen,
    NodeVerified,
    Ponged,
    Reason,
    Refused,
    RequestDone,
    RequestFailed,
    SessionEstablished,
    TalkRequest,
)
from relay.protocols.discv5 import packet as wire_form
from relay.protocols.discv5.crypto import HeaderMask
from relay.protocols.discv5.distance import log_distance
from relay.protocols.discv5.messages import Kind, Nodes, Pong, TalkResp
from relay.protocols.discv5.packet import Flag
from relay.protocols.discv5.session import MAX_MESSAGES
from tests.aids.discv5 import Wire, ip_of, make_node, node_key, onion_record, udp, udp_record

# Nothing happens by itself, so that what is on the wire is what a test asked for.
STILL = replace(UDP, refresh_lookups=0, fast_interval=1e9, slow_interval=1e9, refresh_interval=1e9)


class Two:
    """Alice and Bob."""

    def __init__(self, options=STILL, **changes):
        self.a = make_node(1, replace(options, **changes))
        self.b = make_node(2, replace(options, **changes))
        self.wire = Wire(self.a, self.b)
        self.to_b = self.a.core.contact(self.b.record)
        self.to_a = self.b.core.contact(self.a.record)

    def ping(self):
        request = self.a.core.ping(self.to_b, self.wire.now)
        self.wire.deliver()
        return request

    def kinds(self):
        return [flag_of(to, data, self) for _, to, data in self.wire.log]

    def inject(self, plaintext, *, into=None):
        """Let Bob send a message of our making over his session with Alice."""
        session = self.b.core._codec.sessions.get((self.a.core.node_id, self.a.address))
        data, _ = self.b.core._codec.seal(session, plaintext)
        return self.a.core.receive_packet(data, into or self.b.address, self.wire.now)


def flag_of(to, data, two):
    owner = two.a if to == two.a.address else two.b
    return Flag(wire_form.parse(data, HeaderMask(owner.core.node_id)).flag).name


def test_first_request_makes_a_handshake():
    two = Two()
    request = two.ping()

    assert two.kinds() == ["MESSAGE", "WHOAREYOU", "HANDSHAKE", "MESSAGE"]
    assert two.a.said(RequestDone) == [
        RequestDone(request, two.to_b, Ponged(1, bytes(map(int, ip_of(1).split("."))), 30303))
    ]
    assert [event.incoming for event in two.a.said(SessionEstablished)] == [False]
    assert [event.incoming for event in two.b.said(SessionEstablished)] == [True]
    assert two.b.said(SessionEstablished)[0].contact.address == two.a.address
    assert two.a.said(EndpointVote)[0].voter == two.b.address
    assert two.b.said(NodeSeen)[0].contact.record == two.a.record


def test_second_request_uses_the_session():
    two = Two()
    two.ping()
    two.wire.log.clear()
    two.ping()
    assert two.kinds() == ["MESSAGE", "MESSAGE"]
    assert len(two.a.said(RequestDone)) == 2


def test_the_answering_side_can_ask_over_the_same_session():
    two = Two()
    two.ping()
    two.wire.log.clear()
    two.b.core.ping(two.to_a, two.wire.now)
    two.wire.deliver()
    assert two.kinds() == ["MESSAGE", "MESSAGE"]


def test_both_begin_at_once_and_both_are_answered():
    two = Two()
    two.a.core.ping(two.to_b, two.wire.now)
    two.b.core.ping(two.to_a, two.wire.now)
    two.wire.deliver()
    assert len(two.a.said(RequestDone)) == len(two.b.said(RequestDone)) == 1
    two.a.core.ping(two.to_b, two.wire.now)
    two.b.core.ping(two.to_a, two.wire.now)
    two.wire.deliver()
    assert len(two.a.said(RequestDone)) == len(two.b.said(RequestDone)) == 2


def test_second_unreadable_packet_gets_the_same_challenge():
    two = Two()
    first, _ = two.a.core._codec.seal_unreadable(two.b.core.node_id)
    second, _ = two.a.core._codec.seal_unreadable(two.b.core.node_id)
    two.b.core.receive_packet(first, two.a.address, two.wire.now)
    two.b.core.receive_packet(second, two.a.address, two.wire.now + 0.9)
    (one, _), (other, _) = two.b.core.take_packets()
    assert one == other


def test_a_challenge_lives_one_second():
    two = Two()
    for late in (0.0, 1.0):
        packet, _ = two.a.core._codec.seal_unreadable(two.b.core.node_id)
        two.b.core.receive_packet(packet, two.a.address, two.wire.now + late)
    (one, _), (other, _) = two.b.core.take_packets()
    assert one != other


def test_a_restarted_peer_makes_a_new_session():
    two = Two()
    two.ping()
    two.b.core.close_address(two.a.address, two.wire.now)
    two.wire.log.clear()
    two.ping()
    assert two.kinds() == ["MESSAGE", "WHOAREYOU", "HANDSHAKE", "MESSAGE"]
    assert len(two.a.said(RequestDone)) == 2


def test_a_session_is_bound_to_its_address():
    two = Two()
    two.ping()
    two.a.core.ping(two.to_b, two.wire.now)
    ((data, _),) = two.a.core.take_packets()
    two.b.core.receive_packet(data, udp("9.8.7.6"), two.wire.now)
    ((answer, to),) = two.b.core.take_packets()
    assert to == udp("9.8.7.6")
    assert flag_of(two.a.address, answer, two) == "WHOAREYOU"


def test_a_session_ends_before_its_nonces_repeat():
    two = Two()
    two.ping()
    two.a.core._codec.sessions.get((two.b.core.node_id, two.b.address)).sent = MAX_MESSAGES
    two.wire.log.clear()
    two.ping()
    assert "HANDSHAKE" in two.kinds()


def test_record_is_left_out_where_it_is_known():
    two = Two()
    two.b.core.add_node(two.a.record, two.wire.now)
    two.ping()
    handshake = next(data for _, to, data in two.wire.log if flag_of(to, data, two) == "HANDSHAKE")
    auth = wire_form.parse_handshake(wire_form.parse(handshake, HeaderMask(two.b.core.node_id)).auth)
    assert auth.record == b""
    assert len(two.a.said(RequestDone)) == 1


def test_a_changed_record_is_sent_and_taken():
    two = Two()
    two.b.core.add_node(two.a.record, two.wire.now)
    two.a.record = udp_record(1, seq=2)
    two.ping()
    assert two.b.core.table.entries[two.a.core.node_id].contact.record.seq == 2


def test_an_older_record_in_a_handshake_does_not_count():
    two = Two()
    newer, older = udp_record(1, seq=9), udp_record(1, seq=2)
    two.b.core.add_node(newer, two.wire.now)
    two.a.record = older
    original = two.a.core._codec._own_record
    two.a.core._codec._own_record = lambda: replace_seq(original(), 100)
    two.ping()
    assert two.b.said(SessionEstablished)[0].contact.record.seq == 9


def replace_seq(record, seq):
    return replace(record, seq=seq)


def corrupt_handshake(two, change):
    def alter(_source, to, data):
        if to == two.b.address and flag_of(to, data, two) == "HANDSHAKE":
            mask = HeaderMask(two.b.core.node_id)
            packet = wire_form.parse(data, mask)
            auth = change(wire_form.parse_handshake(packet.auth))
            header = wire_form.handshake_header(data[:16], packet.nonce, auth)
            return wire_form.protect(header, mask, packet.message)
        return data

    two.wire.alter = alter


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda auth: replace(auth, signature=bytes(64)), Reason.HANDSHAKE),
        (lambda auth: replace(auth, ephemeral=b"\x02" + b"\xff" * 32), Reason.HANDSHAKE),
        (lambda auth: replace(auth, ephemeral=b"\x05" * 33), Reason.HANDSHAKE),
        (lambda auth: replace(auth, record=b"\xc0"), Reason.RECORD),
        (lambda auth: replace(auth, record=b""), Reason.RECORD),
        (lambda auth: replace(auth, record=udp_record(5).raw), Reason.RECORD),
        (lambda auth: replace(auth, source=node_key(9).node_id), Reason.HANDSHAKE),
        (lambda auth: replace(auth, record=udp_record(1, seq=2).raw), Reason.HANDSHAKE),
    ],
)
def test_recipient_refuses_a_bad_handshake(change, reason):
    two = Two()
    corrupt_handshake(two, change)
    two.ping()
    assert [event.reason for event in two.b.said(Refused)] == [reason]
    assert not two.b.said(SessionEstablished)


def test_a_bad_handshake_voids_the_challenge():
    two = Two()
    kept = []

    def alter(_source, to, data):
        if to == two.b.address and flag_of(to, data, two) == "HANDSHAKE":
            kept.append(data)
            return data[:-1] + bytes((data[-1] ^ 1,))
        return data

    two.wire.alter = alter
    two.ping()
    events = two.b.core.receive_packet(kept[0], two.a.address, two.wire.now)
    assert [event.reason for event in events] == [Reason.HANDSHAKE]


def test_a_replayed_handshake_is_refused():
    two = Two()
    two.ping()
    handshake = next(data for _, to, data in two.wire.log if flag_of(to, data, two) == "HANDSHAKE")
    events = two.b.core.receive_packet(handshake, two.a.address, two.wire.now)
    assert [event.reason for event in events] == [Reason.HANDSHAKE]


def whoareyou(two, nonce):
    data = wire_form.whoareyou_header(bytes(16), nonce, bytes(16), 0)
    return wire_form.protect(data, HeaderMask(two.a.core.node_id))


def first_nonce(two):
    ((data, _),) = two.a.core.take_packets()
    return wire_form.parse(data, HeaderMask(two.b.core.node_id)).nonce


def test_initiator_refuses_a_challenge_for_no_request():
    two = Two()
    events = two.a.core.receive_packet(whoareyou(two, bytes(12)), two.b.address, two.wire.now)
    assert [event.reason for event in events] == [Reason.WHOAREYOU]


def test_initiator_refuses_a_challenge_from_another_address():
    two = Two()
    two.a.core.ping(two.to_b, two.wire.now)
    packet = whoareyou(two, first_nonce(two))
    events = two.a.core.receive_packet(packet, udp("1.1.1.1"), two.wire.now)
    assert [event.reason for event in events] == [Reason.WHOAREYOU]


def test_initiator_answers_one_challenge_a_request():
    two = Two()
    two.a.core.ping(two.to_b, two.wire.now)
    assert not two.a.core.receive_packet(whoareyou(two, first_nonce(two)), two.b.address, two.wire.now)
    again = whoareyou(two, first_nonce(two))
    assert two.a.core.receive_packet(again, two.b.address, two.wire.now)[0].reason is Reason.WHOAREYOU


@pytest.mark.parametrize("lost", [2, 3])
def test_request_after_a_lost_challenge_or_handshake_is_answered(lost):
    """While its challenge is open the other repeats it, and that one names the request before."""
    two = Two()
    two.wire.alter = lambda _source, _to, data: data if len(two.wire.log) != lost else None
    two.a.core.ping(two.to_b, two.wire.now)
    two.wire.deliver()
    two.wire.now += 0.7
    two.a.core.poll(two.wire.now)
    request = two.a.core.ping(two.to_b, two.wire.now)
    two.wire.deliver()
    assert [event.request for event in two.a.said(RequestDone)] == [request]


def test_challenge_for_a_request_before_counts_once_and_for_its_node_only():
    two = Two()
    two.a.core.ping(two.to_b, two.wire.now)
    nonce = first_nonce(two)
    two.a.core.poll(two.wire.now + 0.7)
    late = whoareyou(two, nonce)
    assert two.a.core.receive_packet(late, two.b.address, two.wire.now)[0].reason is Reason.WHOAREYOU
    two.a.core.ping(two.to_b, two.wire.now)
    assert not two.a.core.receive_packet(late, two.b.address, two.wire.now)
    assert two.a.core.receive_packet(late, two.b.address, two.wire.now)[0].reason is Reason.WHOAREYOU


def test_packet_from_ourselves_is_refused():
    two = Two()
    packet, _ = two.a.core._codec.seal_unreadable(two.a.core.node_id)
    assert two.a.core.receive_packet(packet, two.a.address, two.wire.now)[0].reason is Reason.SELF


def test_request_times_out():
    two = Two()
    two.wire.alter = lambda *_: None
    request = two.a.core.ping(two.to_b, two.wire.now)
    two.wire.deliver()
    two.a.core.poll(two.wire.now)
    assert two.a.core.next_deadline == pytest.approx(two.wire.now + 0.7)
    assert not two.a.core.poll(two.wire.now + 0.69)
    assert two.a.core.poll(two.wire.now + 0.71) == [RequestFailed(request, two.to_b, Failure.TIMEOUT)]


def test_requests_to_one_node_go_one_after_the_other():
    two = Two()
    requests = [two.a.core.ping(two.to_b, two.wire.now) for _ in range(3)]
    assert len(two.a.core.take_packets()) == 1
    two.a.core.poll(two.wire.now + 0.75)
    two.wire.deliver()
    assert [event.request for event in two.a.said(RequestDone)] == requests[1:]


def test_too_many_requests_to_one_node_are_busy():
    two = Two(calls_per_node=2)
    requests = [two.a.core.ping(two.to_b, two.wire.now) for _ in range(3)]
    assert two.a.core.next_deadline == float("-inf")
    assert RequestFailed(requests[2], two.to_b, Failure.BUSY) in two.a.core.poll(two.wire.now)


def test_too_many_requests_in_all_are_busy():
    two = Two(calls=1)
    two.a.core.ping(two.to_b, two.wire.now)
    two.a.core.talkreq(two.a.core.contact(udp_record(5)), b"p", b"", two.wire.now)
    assert [event.failure for event in two.a.core.poll(two.wire.now)] == [Failure.BUSY]


def test_a_node_without_an_address_cannot_be_asked():
    two = Two()
    stranger = two.a.core.contact(onion_record(5))
    two.a.core.findnode(stranger, (1,), two.wire.now)
    assert [event.failure for event in two.a.core.poll(two.wire.now)] == [Failure.UNREACHABLE]
    assert not two.a.core.may_dial(stranger, two.wire.now)


def test_a_closed_address_ends_its_requests():
    two = Two()
    first, second = (two.a.core.ping(two.to_b, two.wire.now) for _ in range(2))
    events = two.a.core.close_address(two.b.address, two.wire.now)
    assert [event.request for event in events if isinstance(event, RequestFailed)] == [first, second]
    assert {event.failure for event in events} == {Failure.UNREACHABLE}


def test_packets_beyond_the_bound_are_dropped():
    two = Two(packets=1)
    two.a.core.ping(two.to_b, two.wire.now)
    two.a.core.ping(two.a.core.contact(udp_record(5)), two.wire.now)
    assert Refused(Reason.OVERFLOW, udp(ip_of(5))) in two.a.core.poll(two.wire.now)
    assert len(two.a.core.take_packets()) == 1


def test_talk_request_is_handed_on_and_answered():
    two = Two()
    two.b.core.register_talk(b"prov")
    request = two.a.core.talkreq(two.to_b, b"prov", b"question", two.wire.now)
    two.wire.deliver()
    (asked,) = two.b.said(TalkRequest)
    assert (asked.protocol, asked.payload) == (b"prov", b"question")
    assert two.b.core.respond_talk(asked, b"answer")
    two.wire.deliver()
    assert two.a.said(RequestDone) == [RequestDone(request, two.to_b, b"answer")]


def test_unknown_talk_protocol_gets_the_empty_answer():
    two = Two()
    two.a.core.talkreq(two.to_b, b"other", b"question", two.wire.now)
    two.wire.deliver()
    assert two.a.said(RequestDone)[0].result == b""


def test_largest_talk_messages_fit_a_packet():
    two = Two()
    two.b.core.register_talk(b"p")
    two.a.core.talkreq(two.to_b, b"p", bytes(MAX_TALK - 2), two.wire.now)
    two.wire.deliver()
    two.b.core.respond_talk(two.b.said(TalkRequest)[0], bytes(MAX_TALK))
    two.wire.deliver()
    assert len(two.a.said(RequestDone)[0].result) == MAX_TALK
    assert max(len(data) for _, _, data in two.wire.log) == 1280
    assert two.kinds()[:5] == ["MESSAGE", "WHOAREYOU", "HANDSHAKE", "MESSAGE", "MESSAGE"]


def test_talk_messages_that_fit_no_packet_are_our_own_error():
    two = Two()
    two.b.core.register_talk(b"p")
    with pytest.raises(ValueError, match="at most"):
        two.a.core.talkreq(two.to_b, b"p", bytes(MAX_TALK - 1), two.wire.now)
    two.a.core.talkreq(two.to_b, b"p", b"", two.wire.now)
    two.wire.deliver()
    (asked,) = two.b.said(TalkRequest)
    with pytest.raises(ValueError, match="at most"):
        two.b.core.respond_talk(asked, bytes(MAX_TALK + 1))
    two.b.core.close_address(two.a.address, two.wire.now)
    assert not two.b.core.respond_talk(asked, b"")


def test_distance_zero_is_the_own_record():
    two = Two()
    two.a.core.findnode(two.to_b, (0,), two.wire.now)
    two.wire.deliver()
    assert [contact.record for contact in two.a.said(RequestDone)[0].result] == [two.b.record]


def known_to_bob(two, count=60, *, live=True):
    for number in range(10, 10 + count):
        two.b.core.add_node(udp_record(number), two.wire.now)
    for entry in two.b.core.table:
        entry.live = live
    return {log_distance(two.b.core.node_id, entry.contact.node_id) for entry in two.b.core.table}


def test_findnode_gives_sixteen_live_nodes_at_the_distances():
    two = Two()
    distances = tuple(known_to_bob(two))
    two.a.core.findnode(two.to_b, distances, two.wire.now)
    two.wire.deliver()
    result = two.a.said(RequestDone)[0].result
    assert len(result) == 16
    assert {log_distance(two.b.core.node_id, contact.node_id) for contact in result} <= set(distances)
    assert all(len(data) <= 1280 for _, _, data in two.wire.log)


def test_findnode_never_gives_nodes_that_have_not_answered():
    two = Two()
    distances = tuple(known_to_bob(two, live=False))
    two.a.core.findnode(two.to_b, distances, two.wire.now)
    two.wire.deliver()
    assert two.a.said(RequestDone)[0].result == ()


def test_findnode_never_gives_lan_addresses_to_the_wan():
    two = Two()
    two.b.core.add_node(udp_record(10, ip="10.0.0.1"), two.wire.now)
    (entry,) = two.b.core.table
    entry.live = True
    distance = log_distance(two.b.core.node_id, entry.contact.node_id)
    two.a.core.findnode(two.to_b, (distance,), two.wire.now)
    two.wire.deliver()
    assert two.a.said(RequestDone)[0].result == ()


def test_findnode_after_a_loss_gives_what_has_come():
    two = Two()
    two.ping()
    distances = tuple(known_to_bob(two))
    lost = []

    def alter(source, _to, data):
        if source == two.b.address and not lost:
            lost.append(data)
            return None
        return data

    two.wire.alter = alter
    two.a.core.findnode(two.to_b, distances, two.wire.now)
    two.wire.deliver()
    two.wire.pass_time(1.0)
    assert 0 < len(two.a.said(RequestDone)[-1].result) < 16


def hostile_nodes(two, records, *, total=1, distances=(256, 255, 254)):
    """Alice asks, Bob's true answer is lost, and an answer of our making comes."""
    two.ping()
    two.wire.alter = lambda source, _to, data: None if source == two.b.address else data
    two.a.core.findnode(two.to_b, distances, two.wire.now)
    two.wire.deliver()
    call = two.a.core._calls._active[two.b.core.node_id]
    return two.inject(Nodes(call.request_id, total, tuple(records)).encode())


def at_distance(base, wanted, start=100):
    return next(n for n in range(start, 9999) if log_distance(base, node_key(n).node_id) in wanted)


def refusals(events):
    return [event.reason for event in events if isinstance(event, Refused)]


def test_asker_refuses_records_at_other_distances_and_twice():
    two = Two()
    base = two.b.core.node_id
    near, far = at_distance(base, {253, 252, 251}), at_distance(base, {256})
    events = hostile_nodes(two, [udp_record(near).raw, udp_record(far).raw, udp_record(far).raw])
    assert refusals(events) == [Reason.DISTANCE, Reason.DISTANCE]
    assert [contact.node_id for contact in events[-1].result] == [node_key(far).node_id]


@pytest.mark.parametrize(
    "more", [{"ip": "127.0.0.1"}, {"ip": "192.168.1.1"}, {"ip": "224.0.0.1"}, {"ip": "0.0.0.0"}, {"port": 80},
             {"ip": ip_of(1)}]
)  # fmt: skip
def test_asker_refuses_addresses_that_are_forbidden_or_ours(more):
    two = Two()
    number = at_distance(two.b.core.node_id, {256})
    assert refusals(hostile_nodes(two, [udp_record(number, **more).raw])) == [Reason.ADDRESS]


def test_asker_refuses_records_of_another_network():
    two = Two()
    number = at_distance(two.b.core.node_id, {256})
    assert refusals(hostile_nodes(two, [onion_record(number).raw])) == [Reason.ADDRESS]


def test_asker_drops_its_own_record_silently():
    two = Two()
    distance = log_distance(two.a.core.node_id, two.b.core.node_id)
    events = hostile_nodes(two, [two.a.record.raw], distances=(distance,))
    assert refusals(events) == []
    assert events[-1].result == ()


def test_a_bad_signature_ends_what_is_read_of_a_packet():
    two = Two()
    number = at_distance(two.b.core.node_id, {256})
    forged = bytearray(udp_record(number).raw)
    forged[10] ^= 1
    events = hostile_nodes(two, [bytes(forged), udp_record(number).raw])
    assert refusals(events) == [Reason.RECORD]
    assert events[-1].result == ()


def test_asker_waits_for_five_parts_at_most():
    two = Two()
    events = hostile_nodes(two, [], total=200)
    call = two.a.core._calls._active[two.b.core.node_id]
    for _ in range(4):
        assert not events
        events = two.inject(Nodes(call.request_id, 200, ()).encode())
    assert isinstance(events[-1], RequestDone)


def test_asker_takes_32_nodes_at_most():
    two = Two()
    base = two.b.core.node_id
    numbers = [n for n in range(100, 400) if log_distance(base, node_key(n).node_id) == 256][:40]
    parts = [numbers[i : i + 7] for i in range(0, 40, 7)][:5]
    events = hostile_nodes(two, [udp_record(n).raw for n in parts[0]], total=5)
    call = two.a.core._calls._active[base]
    for part in parts[1:]:
        events = two.inject(Nodes(call.request_id, 5, tuple(udp_record(n).raw for n in part)).encode())
    assert len(events[-1].result) == 32


def test_unsolicited_responses_are_refused():
    two = Two()
    two.ping()
    for response in (Pong(b"x", 1, bytes(4), 1), Nodes(b"x", 1, ()), TalkResp(b"x", b"")):
        assert refusals(two.inject(response.encode())) == [Reason.UNSOLICITED]


def test_a_response_of_another_kind_is_refused():
    two = Two()
    two.ping()
    two.a.core.ping(two.to_b, two.wire.now)
    call = two.a.core._calls._active[two.b.core.node_id]
    assert refusals(two.inject(TalkResp(call.request_id, b"").encode())) == [Reason.UNSOLICITED]


def test_undecodable_messages_are_refused():
    two = Two()
    two.ping()
    assert refusals(two.inject(b"\x01\xc0")) == [Reason.MESSAGE]
    assert refusals(two.inject(b"")) == [Reason.MESSAGE]


def test_traffic_is_counted():
    two = Two()
    two.ping()
    assert two.a.core.traffic.sent[Kind.PING] == 1
    assert two.a.core.traffic.received[Kind.PONG] == 1
    assert two.a.core.traffic.handshakes == 1
    assert two.b.core.traffic.challenges == 1


def test_lookup_without_nodes_ends_at_once():
    two = Two()
    request = two.a.core.lookup(two.b.core.node_id, two.wire.now)
    assert two.a.core.poll(two.wire.now)[0] == LookupDone(request, two.b.core.node_id, (), 0, 0)


def test_too_many_lookups_are_busy():
    two = Two(lookups=1)
    two.a.core.add_node(two.b.record, two.wire.now)
    two.a.core.lookup(two.b.core.node_id, two.wire.now)
    request = two.a.core.lookup(two.b.core.node_id, two.wire.now)
    assert RequestFailed(request, None, Failure.BUSY) in two.a.core.poll(two.wire.now)


def test_lookup_goes_on_when_a_node_cannot_be_asked():
    two = Two(calls=1)
    for number in range(10, 14):
        two.a.core.add_node(udp_record(number), two.wire.now)
    request = two.a.core.lookup(two.b.core.node_id, two.wire.now)
    events = two.a.core.poll(two.wire.now + 1.0) + two.a.core.poll(two.wire.now + 2.0)
    assert [
        event.contacts for event in events if isinstance(event, LookupDone) and event.request == request
    ] == [()]


def test_a_node_is_verified_once_it_answers():
    two = Two()
    two.a.core.add_node(two.b.record, two.wire.now)
    two.ping()
    two.ping()
    assert two.a.said(NodeVerified) == [NodeVerified(two.to_b)]
    (entry,) = two.a.core.table
    assert (entry.live, entry.checks, entry.slow) == (True, 2, True)


def test_a_renewed_record_is_fetched_after_a_pong():
    two = Two()
    two.a.core.add_node(two.b.record, two.wire.now)
    two.b.record = udp_record(2, seq=7)
    two.ping()
    assert [event.contact.record.seq for event in two.a.said(NodeVerified)] == [1, 7]


def test_a_moved_node_must_answer_at_its_new_address():
    two = Two()
    two.a.core.add_node(two.b.record, two.wire.now)
    two.b.record = udp_record(2, seq=7, ip=ip_of(800))
    two.ping()
    (entry,) = two.a.core.table
    assert not entry.live
    assert entry.contact.address == udp(ip_of(800))
    assert not entry.slow


def test_silence_to_a_request_is_followed_by_pings_and_the_end():
    two = Two(fast_interval=3.0, slow_interval=9.0)
    two.a.core.add_node(two.b.record, two.wire.now)
    two.ping()
    two.wire.alter = lambda *_: None
    two.a.core.findnode(two.to_b, (256,), two.wire.now)
    two.wire.pass_time(30.0)
    assert len(two.a.core.table) == 0
    assert two.a.said(NodeDropped) == [NodeDropped(two.b.core.node_id)]


def test_a_dead_node_is_followed_by_a_replacement():
    two = Two(fast_interval=1.0, slow_interval=3.0)
    base = two.a.core.node_id
    for number in [n for n in range(10, 200) if log_distance(base, node_key(n).node_id) == 256][:20]:
        two.a.core.add_node(udp_record(number), two.wire.now)
    two.wire.pass_time(10.0)
    assert len(two.a.said(NodeDropped)) > 4
    assert len(two.a.core.table) + len(two.a.said(NodeDropped)) == 20


def test_nodes_come_in_by_themselves_after_the_first_refresh_only():
    early, late = Two(), Two()
    early.ping()
    assert len(early.b.core.table) == 0
    late.b.core.poll(late.wire.now)
    late.ping()
    assert len(late.b.core.table) == 1
