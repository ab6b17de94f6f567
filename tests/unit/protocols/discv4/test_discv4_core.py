"""The core against scripted peers and against itself, under a virtual clock."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.primitives.endpoint import Endpoint
from relay.primitives.enr import build_record
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.protocols.discv4.events import (
    EndpointStated,
    Left,
    LookupDone,
    Proved,
    RecordAnswered,
    RecordReceived,
    Refusal,
    Refused,
    Unanswered,
)
from relay.protocols.discv4.options import Options
from relay.protocols.discv4.packets import (
    ENRRequest,
    ENRResponse,
    FindNode,
    Neighbors,
    Ping,
    Pong,
    WireEndpoint,
    encode,
)
from relay.protocols.discv5.distance import xor_distance
from tests.aids.discv4 import (
    UNIX,
    MemoryNetwork,
    Scripted,
    contact_at,
    node_key,
    public_endpoint,
    record_at,
)

TARGET = b"\x42" * 64


@pytest.fixture
def network():
    return MemoryNetwork()


@pytest.fixture
def core(network):
    return network.add(1)


@pytest.fixture
def peer(network):
    return Scripted(network, 2)


def bond(network, peer, core) -> None:
    peer.ping(core)
    network.run(0.1)
    peer.take()
    network.take_events(core)


def refusals(network, core) -> list[Refusal]:
    return [event.reason for event in network.take_events(core, Refused)]


# -- answering -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"version": 99}, {"to": WireEndpoint(b"", 0, 0)}, {"sender": WireEndpoint(b"\x09" * 16, 5, 6)}],
)
def test_ping_is_answered_and_pinged_back_whatever_it_states(network, core, peer, changes):
    peer.answers_pings = False
    digest = peer.ping(core, **changes)
    network.run(0.1)
    pong, ping = peer.take()
    assert isinstance(pong, Pong)
    assert pong.ping_hash == digest
    assert pong.to.udp == peer.endpoint.port
    assert pong.enr_seq == 1
    assert pong.expiration > UNIX + network.now
    assert isinstance(ping, Ping)


def test_known_peer_is_not_pinged_back_again(network, core, peer):
    bond(network, peer, core)
    peer.ping(core)
    network.run(0.1)
    assert [type(packet) for packet in peer.take()] == [Pong]


def test_proof_makes_a_peer_known(network, core, peer):
    peer.ping(core, sender=WireEndpoint(bytes(4), 1, 7777))
    network.run(0.1)
    (proved,) = network.take_events(core, Proved)
    assert proved.contact.endpoint == peer.endpoint
    assert proved.contact.tcp == 7777
    assert core.table.get(peer.contact.node_id) is not None
    assert core.bonds == 1


def test_endpoint_is_believed_of_nobody_and_told_on(network, core, peer):
    own = network.endpoint_of[id(core)]
    peer.ping(core)
    network.run(0.1)
    assert network.take_events(core, EndpointStated) == [EndpointStated(peer.endpoint, own)]
    peer.ping(core, to=WireEndpoint(b"\x08\x08\x08\x08", 9, 0))
    peer.ping(core, to=WireEndpoint(b"\x08\x08", 9, 0))
    peer.ping(core, to=WireEndpoint(b"\x08\x08\x08\x08", 0, 0))
    (stated,) = network.take_events(core, EndpointStated)
    assert str(stated.stated) == "8.8.8.8:9"


def test_find_node_of_a_known_peer_is_answered_with_live_nodes_in_packets_of_twelve(network, core, peer):
    bond(network, peer, core)
    others = [Scripted(network, number) for number in range(10, 50)]
    for other in others:
        other.ping(core)
    network.run(0.1)
    silent = next(iter(entry for entry in core.table if entry.contact != peer.contact))
    silent.live = False
    peer.send(FindNode(TARGET, network.expiration), core)
    network.run(0.1)
    packets = peer.take()
    assert [len(packet.nodes) for packet in packets] == [12, 4]
    keys = [node.key for packet in packets for node in packet.nodes]
    known = [
        entry.contact for entry in core.table if entry.live and entry.contact.node_id != peer.contact.node_id
    ]
    nearest = sorted(known, key=lambda contact: xor_distance(contact.node_id, keccak256(TARGET)))
    assert set(keys) <= {contact.public_key for contact in nearest[:17]}
    assert silent.contact.public_key not in keys
    assert peer.key.public_key not in keys


def test_find_node_with_nobody_to_tell_gets_an_empty_answer(network, core, peer):
    bond(network, peer, core)
    peer.send(FindNode(TARGET, network.expiration), core)
    network.run(0.1)
    (answer,) = peer.take()
    assert answer.nodes == ()


def test_nodes_of_a_lan_are_told_to_nobody_outside(network, core, peer):
    lan = Scripted(network, 9, Endpoint.parse("192.168.7.7", 30303))
    bond(network, lan, core)
    bond(network, peer, core)
    peer.send(FindNode(TARGET, network.expiration), core)
    lan.send(FindNode(TARGET, network.expiration), core)
    network.run(0.1)
    assert peer.take()[0].nodes == ()
    assert [node.key for node in lan.take()[0].nodes] == [peer.key.public_key]


def test_record_is_given_to_a_known_peer_and_changes(network, core, peer):
    bond(network, peer, core)
    core.record = record_at(node_key(1), public_endpoint(1), seq=5)
    digest = peer.send(ENRRequest(network.expiration), core)
    peer.ping(core)
    network.run(0.1)
    response, pong = peer.take()
    assert response == ENRResponse(digest, core.record.raw)
    assert pong.enr_seq == 5


# -- hostile -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [FindNode(TARGET, 2**62), ENRRequest(2**62)])
def test_stranger_gets_no_large_answer(network, core, peer, request_):
    peer.send(request_, core)
    network.run(0.1)
    assert peer.take() == []
    assert refusals(network, core) == [Refusal.UNPROVED]


def test_proof_counts_for_no_other_ip(network, core, peer):
    bond(network, peer, core)
    elsewhere = Endpoint.parse("99.0.0.1", peer.endpoint.port)
    peer.send(FindNode(TARGET, network.expiration), core, source=elsewhere)
    assert refusals(network, core) == [Refusal.UNPROVED]


def test_pong_with_a_wrong_hash_or_from_elsewhere_proves_nothing(network, core, peer):
    peer.answers_pings = False
    peer.ping(core)
    network.run(0.1)
    (ping,) = [each for each in peer.got if isinstance(each.packet, Ping)]
    place = WireEndpoint(bytes(4), 0, 0)
    peer.send(Pong(place, bytes(32), network.expiration), core)
    peer.send(Pong(place, ping.hash, network.expiration), core, source=Endpoint.parse("99.0.0.1", 5))
    Scripted(network, 3, Endpoint.parse(peer.endpoint.host, 7)).send(
        Pong(place, ping.hash, network.expiration), core
    )
    assert refusals(network, core) == [Refusal.UNSOLICITED] * 3
    peer.send(FindNode(TARGET, network.expiration), core)
    assert refusals(network, core) == [Refusal.UNPROVED]
    peer.send(Pong(place, ping.hash, network.expiration), core)
    assert network.take_events(core, Proved)


@pytest.mark.parametrize("expiration", [0, int(UNIX), 2**63, 2**64 - 20])
def test_expired_packets_are_dropped(network, core, peer, expiration):
    peer.ping(core, expiration=expiration)
    network.run(0.1)
    assert peer.take() == []
    assert refusals(network, core) == [Refusal.EXPIRED]


def test_late_pong_is_unsolicited(network, core, peer):
    peer.answers_pings = False
    peer.ping(core)
    network.run(0.6)
    assert network.take_events(core, Unanswered)
    ping = peer.got[1]
    peer.send(Pong(WireEndpoint(bytes(4), 0, 0), ping.hash, network.expiration), core)
    assert refusals(network, core) == [Refusal.UNSOLICITED]


def test_unsolicited_answers_change_nothing(network, core, peer):
    bond(network, peer, core)
    peer.send(Neighbors((contact_at(9).neighbor,), network.expiration), core)
    peer.send(ENRResponse(bytes(32), record_at(peer.key, peer.endpoint).raw), core)
    assert refusals(network, core) == [Refusal.UNSOLICITED] * 2
    assert len(core.table) == 1


def test_our_own_packets_are_not_for_us(network, core):
    data, _ = encode(node_key(1), ENRRequest(network.expiration))
    network.deliver(data, public_endpoint(7), core)
    assert refusals(network, core) == [Refusal.OWN]


def test_garbage_is_counted(network, core):
    network.deliver(b"garbage", public_endpoint(7), core)
    assert refusals(network, core) == [Refusal.MALFORMED]
    assert core.received[Refusal.MALFORMED.value] == 1


def test_flood_from_one_ip_is_cut_off_and_others_are_served(network, core, peer):
    flooder = Scripted(network, 3)
    for _ in range(400):
        flooder.ping(core)
    assert refusals(network, core).count(Refusal.TOO_MANY) == 200
    peer.ping(core)
    network.run(0.1)
    assert Pong in [type(packet) for packet in peer.take()]


def test_forged_pings_aim_little_at_their_victim(network, core):
    victim = public_endpoint(77)
    asked = 0
    for number in range(100, 400):
        data, _ = encode(
            node_key(number),
            Ping(WireEndpoint(bytes(4), 1, 1), WireEndpoint(bytes(4), 1, 1), network.expiration),
        )
        asked += len(data)
        network.deliver(data, victim, core)
    sent = sum(core.sent.values())
    assert sent <= 2 * 200  # a Pong and a Ping for each of the burst
    assert core.sent["Ping"] <= 128
    assert Refusal.BUSY in refusals(network, core)


@pytest.mark.parametrize("ids", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_ids_without_number_leave_no_trace(network, ids):
    core = network.add(1, options=Options(counted_hosts=1000))
    template, _ = encode(node_key(5), Ping(WireEndpoint(bytes(4), 1, 1), WireEndpoint(bytes(4), 1, 1), 2**62))
    content = template[97:]
    signature = template[32:97]
    for number in range(ids):
        # Another signature is another signer: recovering gives a different key for each.
        forged = signature[:28] + number.to_bytes(4, "big") + signature[32:] + content
        source = public_endpoint(number * 7 % 200_000)
        core.receive_packet(keccak256(forged) + forged, source, network.now + number * 0.0001)
        core.take_packets()
        if number % 1000 == 0:
            core.poll(network.now + number * 0.0001)
    assert core.bonds == 0
    assert len(core.table) == 0
    assert core.waiting <= 128
    assert len(core._budget) == 1000
    assert sum(core.received.values()) >= ids


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(kind=st.integers(0, 7), content=st.binary(max_size=200), port=st.integers(0, 65535))
def test_no_signed_content_gets_anything_but_an_event(network, core, kind, content, port):
    key = NodeKey(b"\x31" * 32)
    body = bytes([kind]) + content
    signed = key.sign_recoverable(keccak256(body)) + body
    network.deliver(keccak256(signed) + signed, Endpoint.parse("100.1.2.3", port), core)


# -- asking --------------------------------------------------------------------------------------------


def test_record_is_fetched_when_a_peer_has_a_newer_one(network, core, peer):
    other = network.add(2)
    del network.scripted[peer.endpoint]
    core.ping(network.contact(other), network.now)
    network.run(1.0)
    core.table.heard(contact_at(2), network.now)
    assert not network.take_events(core, RecordReceived)  # known already
    other.record = record_at(node_key(2), public_endpoint(2), seq=9)
    core.ping(network.contact(other), network.now)
    network.run(1.0)
    other.ping(network.contact(core), network.now)
    network.run(1.0)
    assert core.table.get(other.table._own_id).contact.seq == 9


def test_unknown_record_is_fetched_and_told(network, core):
    other = network.add(2)
    core.ping(contact_at(2), network.now)
    network.run(2.0)
    (received,) = network.take_events(core, RecordReceived)
    assert received.record == other.record
    assert received.contact.node.endpoints[0].host == public_endpoint(2).host


def test_ping_of_a_known_peer_with_a_newer_record_fetches_it(network, core, peer):
    bond(network, peer, core)
    peer.ping(core, enr_seq=3)
    network.run(0.1)
    request = peer.got[-1]
    assert isinstance(request.packet, ENRRequest)
    record = record_at(peer.key, peer.endpoint, seq=3)
    peer.send(ENRResponse(request.hash, record.raw), core)
    assert network.take_events(core, RecordReceived)[0].record == record


@pytest.mark.parametrize(
    "record",
    [
        record_at(node_key(3), public_endpoint(2), seq=3).raw,
        record_at(node_key(2), Endpoint.parse("127.0.0.1", 30303), seq=3).raw,
        b"\xc0",
    ],
)
def test_bad_record_is_refused(network, core, peer, record):
    bond(network, peer, core)
    core.request_record(peer.contact, network.now)
    network.run(0.1)
    peer.send(ENRResponse(peer.got[-1].hash, record), core)
    assert refusals(network, core) == [Refusal.BAD_RECORD]
    assert core.table.get(peer.contact.node_id).contact.record is None


def test_older_record_changes_nothing(network, core, peer):
    bond(network, peer, core)
    for seq, told in ((3, 1), (2, 0)):
        core.request_record(peer.contact, network.now)
        network.run(0.1)
        peer.send(ENRResponse(peer.got[-1].hash, record_at(peer.key, peer.endpoint, seq).raw), core)
        assert len(network.take_events(core, RecordReceived)) == told
    assert core.table.get(peer.contact.node_id).contact.seq == 3


def test_record_of_a_node_outside_the_table_is_told(network, core, peer):
    bond(network, peer, core)
    core.table.remove(peer.contact.node_id)
    core.request_record(peer.contact, network.now)
    network.run(0.1)
    peer.send(ENRResponse(peer.got[-1].hash, record_at(peer.key, peer.endpoint).raw), core)
    assert network.take_events(core, RecordReceived)


def test_wrong_kind_of_answer_is_unsolicited(network, core, peer):
    bond(network, peer, core)
    core.request_record(peer.contact, network.now)
    network.run(0.1)
    peer.send(Neighbors((), network.expiration), core)
    peer.send(ENRResponse(bytes(32), b"\xc0"), core)
    peer.send(ENRResponse(peer.got[-1].hash, b"\xc0"), core, source=Endpoint.parse("99.0.0.1", 5))
    assert refusals(network, core) == [Refusal.UNSOLICITED] * 3
    network.run(1.0)
    core.lookup(TARGET, network.now)
    network.run(0.1)
    peer.send(ENRResponse(peer.got[-1].hash, b"\xc0"), core)
    assert Refusal.UNSOLICITED in refusals(network, core)


def test_request_waits_for_the_peers_ping_or_half_a_second(network, core, peer):
    core.request_record(peer.contact, network.now)
    network.run(0.1)
    assert [type(packet) for packet in peer.take()] == [Ping]
    network.run(0.5)
    assert [type(packet) for packet in peer.take()] == [ENRRequest]
    other = Scripted(network, 3)
    core.request_record(other.contact, network.now)
    network.run(0.1)
    other.take()
    other.ping(core)
    network.run(0.1)
    assert [type(packet) for packet in other.take()] == [Pong, ENRRequest]


def test_ping_of_the_peer_before_its_pong_counts(network, core, peer):
    peer.answers_pings = False
    core.request_record(peer.contact, network.now)
    network.run(0.1)
    ping = peer.got[-1]
    peer.ping(core)
    peer.send(Pong(WireEndpoint(bytes(4), 0, 0), ping.hash, network.expiration), core)
    network.run(0.1)
    assert [type(packet) for packet in peer.take()] == [Ping, Pong, ENRRequest]


def test_node_that_does_not_answer_a_request_is_pinged_before_the_next(network, core, peer):
    bond(network, peer, core)
    core.request_record(peer.contact, network.now)
    network.run(1.0)
    assert [type(packet) for packet in peer.take()] == [ENRRequest]
    core.request_record(peer.contact, network.now)
    network.run(0.1)
    assert [type(packet) for packet in peer.take()] == [Ping]


def test_requests_to_one_node_go_out_one_after_the_other(network, core, peer):
    bond(network, peer, core)
    core.request_record(peer.contact, network.now)
    core.lookup(TARGET, network.now)
    core.lookup(TARGET, network.now)
    network.run(0.1)
    assert [type(packet) for packet in peer.take()] == [ENRRequest]
    network.run(0.5)
    network.run(0.5)
    assert FindNode in [type(packet) for packet in peer.take()] + [type(each.packet) for each in peer.got]


def test_silent_node_fails_the_request_and_is_named(network, core):
    core.request_record(contact_at(99), network.now)
    network.run(1.0)
    assert network.take_events(core) == [Unanswered(contact_at(99)), RecordAnswered(contact_at(99), None)]
    assert core.waiting == 0


def test_too_many_requests_fail_at_once(network):
    core = network.add(1, options=Options(max_pings=2, max_requests=3, max_requests_per_node=1))
    for number in range(10, 16):
        core.request_record(contact_at(number), network.now)
    core.request_record(contact_at(10), network.now)
    assert core.waiting == 4  # two pings and the requests behind them
    assert not core.ping(contact_at(50), network.now)
    network.run(2.0)
    assert core.waiting == 0


def test_too_many_requests_to_one_node_fail_at_once(network):
    core = network.add(1, bootnodes=[contact_at(10)], options=Options(max_requests_per_node=1))
    core.request_record(contact_at(10), network.now)
    core.request_record(contact_at(10), network.now)
    core.lookup(TARGET, network.now)
    assert core.poll(network.now) == [LookupDone(1, TARGET, (), 1)]


# -- lookups and the table ------------------------------------------------------------------------------


def test_neighbors_may_come_in_parts_and_are_checked(network, core, peer):
    bond(network, peer, core)
    number = core.lookup(TARGET, network.now)
    network.run(0.1)
    good = [contact_at(each).neighbor for each in range(10, 24)]
    bad = [
        contact_at(30, Endpoint.parse("127.0.0.1", 30303)).neighbor,
        contact_at(31, public_endpoint(31, 22)).neighbor,
    ]
    peer.send(Neighbors(tuple(good[:12]), network.expiration), core)
    peer.send(Neighbors((*good[12:], *bad), network.expiration), core)
    assert refusals(network, core) == [Refusal.BAD_NEIGHBOR] * 2
    network.run(10.0)
    (done,) = network.take_events(core, LookupDone)
    assert (done.number, done.target, done.asked) == (number, TARGET, 15)
    assert [contact.node_id for contact in done.found] == [peer.contact.node_id]


def test_fewer_neighbors_are_taken_when_the_time_is_over(network, core, peer):
    bond(network, peer, core)
    other = Scripted(network, 3)
    core.lookup(TARGET, network.now)
    network.run(0.1)
    peer.send(Neighbors((other.contact.neighbor,), network.expiration), core)
    network.run(0.1)
    assert other.take() == []
    network.run(0.5)
    assert [type(packet) for packet in other.take()] == [Ping]


def test_endless_empty_answers_end(network, core, peer):
    bond(network, peer, core)
    core.lookup(TARGET, network.now)
    network.run(0.1)
    for _ in range(20):
        peer.send(Neighbors((), network.expiration), core)
    assert network.take_events(core, LookupDone)


def test_known_node_is_asked_where_it_was_proved(network, core, peer):
    other = Scripted(network, 3)
    bond(network, other, core)
    bond(network, peer, core)
    core.lookup(TARGET, network.now)
    network.run(0.1)
    lie = contact_at(3, public_endpoint(55)).neighbor
    peer.send(Neighbors((lie,) * 16, network.expiration), core)
    network.run(0.1)
    assert FindNode in [type(packet) for packet in other.take()]
    assert core.sent["Ping"] == 2


def test_lookups_are_bounded(network):
    core = network.add(1, bootnodes=[contact_at(50)], options=Options(max_lookups=2))
    assert [core.lookup(None, network.now) for _ in range(4)] == [1, 2, None, None]
    network.run(5.0)
    assert len(network.take_events(core, LookupDone)) == 2


def test_lookup_with_nobody_to_ask_is_done_at_the_next_poll(network, core):
    assert core.next_deadline() is None
    assert core.lookup(TARGET, network.now) == 1
    assert core.next_deadline() < network.now
    assert core.poll(network.now) == [LookupDone(1, TARGET, (), 0)]


def test_node_that_fails_lookups_leaves_the_table(network, core, peer):
    bond(network, peer, core)
    for _ in range(6):
        core.lookup(TARGET, network.now)
        network.run(3.0)
    assert network.take_events(core, Left)
    assert len(core.table) == 0


def test_silent_node_leaves_the_table_and_a_quiet_one_is_not_bothered(network, core, peer):
    core.start(network.now)
    bond(network, peer, core)
    network.run(4.0)
    assert Ping not in [type(packet) for packet in peer.take()]
    network.run(60.0)
    assert [type(packet) for packet in peer.take()].count(Ping) > 1
    peer.answers_pings = False
    network.run(120.0)
    assert [event.contact.node_id for event in network.take_events(core, Left)] == [peer.contact.node_id]
    assert len(core.table) == 0


def test_seeds_are_proved_first_and_bootnodes_need_not_be_there(network):
    other = network.add(2)
    core = network.add(1, bootnodes=[contact_at(50), contact_at(1)])
    core.start(network.now, seeds=[network.contact(other)])
    network.run(1.0)
    assert [event.contact.node_id for event in network.take_events(core, Proved)] == [node_key(2).node_id]
    assert len(core.table) == 1


def test_starved_node_asks_its_bootnode_until_it_is_there(network):
    core = network.add(1, bootnodes=[contact_at(2)])
    core.start(network.now)
    network.run(25.0)
    assert len(core.table) == 0
    network.add(2)
    network.run(25.0)
    assert len(core.table) == 1


def test_without_bootnodes_nothing_is_looked_up(network, core):
    core.start(network.now)
    network.run(30.0)
    assert network.packets == 0


def test_network_finds_itself_through_one_bootnode():
    network = MemoryNetwork(seed=7)
    first = network.add(1)
    first.start(network.now)
    cores = [first]
    for number in range(2, 14):
        core = network.add(number, bootnodes=[network.contact(first)])
        core.start(network.now)
        cores.append(core)
        network.run(1.0)
    network.run(20.0)
    for core in cores[1:]:
        core.lookup(TARGET, network.now)
    network.run(10.0)
    everyone = sorted(
        (node_key(number).node_id for number in range(1, 14)),
        key=lambda node: xor_distance(node, keccak256(TARGET)),
    )
    for core in cores[1:]:
        done = [event for event in network.take_events(core, LookupDone) if event.number]
        found = [contact.node_id for contact in done[-1].found]
        expected = [node for node in everyone if node != core.table._own_id][:16]
        assert len(set(found) & set(expected)) >= 11
    assert all(len(core.table) >= 11 for core in cores)


def test_node_without_an_address_still_pings(network):
    core = network.add(1)
    core.record = build_record(node_key(1), 2)
    other = Scripted(network, 3)
    core.ping(other.contact, network.now)
    network.run(0.1)
    assert other.take()[0].sender == WireEndpoint(bytes(4), 0, 0)
