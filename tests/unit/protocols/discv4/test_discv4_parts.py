"""Contacts, bonds, budget, table, lookup, outbox: the parts by themselves."""

import dataclasses

import pytest

from relay.primitives import enode
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import build_record
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId
from relay.primitives.onion import OnionKey
from relay.protocols.discv4.bonds import Bonds, HostBudget
from relay.protocols.discv4.claims import claimed_neighbor, claimed_record
from relay.protocols.discv4.contact import Contact, endpoint_of, wire_endpoint
from relay.protocols.discv4.lookup import ALPHA, MAX_ASKED, MAX_KNOWN, Lookup
from relay.protocols.discv4.options import Options
from relay.protocols.discv4.outbox import Outbox
from relay.protocols.discv4.packets import ENRRequest, Neighbor
from relay.protocols.discv4.table import BUCKET_SIZE, MAX_REPLACEMENTS, Table
from relay.protocols.discv5.distance import log_distance, xor_distance
from relay.protocols.discv5.networks import UdpNetwork
from tests.aids.discv4 import contact_at, node_key, public_endpoint, record_at

OPTIONS = Options()
NETWORK = UdpNetwork()
OWN = node_key(0)
HOST = "11.0.0.1"
ID = NodeId(b"\x01" * 32)


def table(**limits) -> Table:
    limits = {"bucket_limit": 2, "table_limit": 10} | limits
    return Table(OWN.node_id, lambda endpoint: NETWORK.group_of(endpoint, None), **limits)


def far(count: int, start: int = 1):
    """Contacts of the farthest bucket."""
    number = start
    while count:
        contact = contact_at(number)
        number += 1
        if log_distance(contact.node_id, OWN.node_id) == 256:
            count -= 1
            yield contact


# -- contacts ------------------------------------------------------------------------------------------


def test_contact_is_made_of_an_enode_with_an_ip():
    url = f"enode://{OWN.public_key.hex()}@8.8.4.4:30303?discport=30301"
    contact = Contact.from_enode(enode.parse(url))
    assert (contact.endpoint, contact.tcp) == (Endpoint(Network.IPV4, "8.8.4.4", 30301), 30303)
    for host in ("@example.org:1", "@8.8.4.4:30303?discport=0", ""):
        assert Contact.from_enode(enode.parse(f"enode://{OWN.public_key.hex()}{host}")) is None


def test_contact_is_made_of_a_record_with_a_udp_port():
    assert Contact.from_record(build_record(OWN, 1, ip="8.8.4.4", udp=5)).tcp == 0
    six = Contact.from_record(build_record(OWN, 1, ip="8.8.4.4", ip6="2a00::1", udp6=5, tcp=7))
    assert (six.endpoint.host, six.endpoint.port, six.tcp) == ("2a00::1", 5, 7)
    assert Contact.from_record(build_record(OWN, 1, ip="8.8.4.4", tcp=5)) is None


def test_contact_without_an_ip_in_its_record_is_dialed_where_it_was_proved():
    onion = OnionKey.from_seed(bytes(range(32))).address
    record = build_record(OWN, 1, onion3=onion, tcp=30303)
    contact = dataclasses.replace(contact_at(0), record=record, tcp=0)
    hosts = [endpoint.host for endpoint in contact.node.endpoints]
    assert hosts == [contact.endpoint.host, onion]
    assert contact.seq == 1
    assert contact_at(0).seq == 0
    assert contact_at(0).node.endpoints[0].port == 30303
    assert dataclasses.replace(contact_at(0), tcp=0).node.endpoints == ()
    stated = dataclasses.replace(contact, record=record_at(OWN, public_endpoint(9)))
    assert [endpoint.host for endpoint in stated.node.endpoints] == [public_endpoint(9).host]


def test_contact_never_shows_its_address():
    assert HOST not in repr(contact_at(0))


def test_neighbors_and_endpoints_on_the_wire():
    contact = contact_at(3)
    assert Contact.from_neighbor(contact.neighbor) == contact
    assert endpoint_of(bytes(10) + b"\xff\xff\x08\x08\x04\x04", 1) == Endpoint(Network.IPV4, "8.8.4.4", 1)
    assert endpoint_of(b"123", 1) is None
    assert wire_endpoint(None).ip == bytes(4)
    six = Endpoint.parse("2a00::1", 7)
    assert endpoint_of(wire_endpoint(six).ip, 7) == six


@pytest.mark.parametrize(
    "changes",
    [
        {"ip": b""},
        {"udp": 0},
        {"udp": 80},
        {"key": bytes(64)},
        {"ip": b"\x7f\x00\x00\x01"},
        {"ip": b"\xc0\xa8\x01\x01"},
        {"ip": b"\xe0\x00\x00\x01"},
        {"ip": bytes(4)},
    ],
)
def test_neighbor_that_cannot_be_is_refused(changes):
    fields = dataclasses.asdict(contact_at(3).neighbor) | changes
    with pytest.raises(DecodeError):
        claimed_neighbor(Neighbor(**fields), public_endpoint(1), NETWORK)


def test_lan_may_tell_of_lan():
    lan = Endpoint.parse("192.168.1.5", 30303)
    told = claimed_neighbor(contact_at(3, lan).neighbor, Endpoint.parse("192.168.1.9", 30303), NETWORK)
    assert told.endpoint == lan


def test_record_must_be_the_nodes_own_and_its_address_possible():
    contact = contact_at(3)
    record = record_at(node_key(3), contact.endpoint)
    assert claimed_record(record.raw, contact, NETWORK) == record
    for bad in (
        record_at(node_key(4), contact.endpoint).raw,
        record_at(node_key(3), Endpoint.parse("127.0.0.1", 30303)).raw,
        record.raw[:-1],
        b"\x05",
    ):
        with pytest.raises(DecodeError):
            claimed_record(bad, contact, NETWORK)
    without_address = build_record(node_key(3), 5, tcp=1)
    assert claimed_record(without_address.raw, contact, NETWORK) == without_address


# -- bonds and budget ----------------------------------------------------------------------------------


def test_proof_holds_for_a_day_at_one_ip():
    bonds = Bonds(OPTIONS)
    assert not bonds.proved(ID, HOST, 0.0)
    bonds.heard_pong(ID, HOST, 0.0, pinged=False)
    assert bonds.proved(ID, HOST, 24 * 3600 - 1)
    assert not bonds.proved(ID, HOST, 24 * 3600)
    assert not bonds.proved(ID, "11.0.0.2", 0.0)


def test_our_own_proof_is_counted_on_for_half_a_day_and_doubted_after_silence():
    bonds = Bonds(OPTIONS)
    bonds.heard_ping(ID, HOST, 0.0)
    assert len(bonds) == 0  # a ping can be forged
    bonds.heard_pong(ID, HOST, 0.0, pinged=False)
    assert not bonds.given(ID, HOST, 0.0)
    bonds.heard_ping(ID, HOST, 0.0)
    assert bonds.given(ID, HOST, 12 * 3600 - 1)
    assert not bonds.given(ID, HOST, 12 * 3600)
    bonds.doubt(ID, HOST)
    assert not bonds.given(ID, HOST, 0.0)
    bonds.doubt(ID, "11.0.0.9")
    bonds.heard_pong(ID, HOST, 5.0, pinged=True)
    assert bonds.given(ID, HOST, 6.0)


def test_bonds_are_bounded_by_host_and_in_all():
    bonds = Bonds(Options(bonds_per_host=4, bond_hosts=10))
    for number in range(1000):
        bonds.heard_pong(NodeId(number.to_bytes(32, "big")), HOST, 0.0, pinged=False)
    assert len(bonds) == 4
    for number in range(1000):
        bonds.heard_pong(ID, f"11.0.{number // 250}.{number % 250}", 0.0, pinged=False)
    assert len(bonds) <= 40


def test_budget_admits_a_burst_and_then_the_rate():
    budget = HostBudget(Options(packet_burst=10, packets_per_second=2.0, counted_hosts=100))
    assert [budget.admit(HOST, 0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [budget.admit(HOST, 1.0) for _ in range(3)] == [True, True, False]
    assert budget.admit("11.0.0.2", 0.0)
    for number in range(1000):
        budget.admit(f"11.1.{number // 250}.{number % 250}", 1.0)
    assert len(budget) == 100


# -- table ---------------------------------------------------------------------------------------------


def test_table_holds_sixteen_of_a_distance_and_ten_replacements():
    nodes = table()
    contacts = list(far(BUCKET_SIZE + MAX_REPLACEMENTS + 5))
    added = [nodes.heard(contact, 1.0) for contact in contacts]
    assert added == [True] * BUCKET_SIZE + [False] * (MAX_REPLACEMENTS + 5)
    assert nodes.bucket_sizes()[-1] == (BUCKET_SIZE, MAX_REPLACEMENTS)
    assert len(nodes) == BUCKET_SIZE
    assert sum(log_distance(each.contact.node_id, OWN.node_id) == 256 for each in nodes) == BUCKET_SIZE


def test_newest_replacement_takes_the_place_of_a_silent_node():
    nodes = table()
    contacts = list(far(BUCKET_SIZE + 2))
    for contact in contacts:
        nodes.heard(contact, 1.0)
    nodes.heard(contacts[BUCKET_SIZE], 2.0)
    assert nodes.silent(contacts[0].node_id) == contacts[0]
    assert nodes.get(contacts[0].node_id) is None
    assert not nodes.get(contacts[BUCKET_SIZE].node_id).live
    assert contacts[BUCKET_SIZE] not in nodes.closest(OWN.node_id, live=True)
    assert nodes.silent(contacts[0].node_id) is None


def test_node_that_answered_often_survives_a_loss():
    nodes = table()
    contact = contact_at(1)
    for second in range(9):
        nodes.heard(contact, float(second))
    assert nodes.silent(contact.node_id) is None
    assert nodes.get(contact.node_id).live
    assert nodes.silent(contact.node_id) is None
    assert nodes.silent(contact.node_id) == contact


def test_subnets_are_limited_in_a_bucket_and_in_the_table():
    nodes = table()
    same = [contact_at(number, Endpoint.parse(f"11.0.0.{number}", 30303)) for number in range(1, 200)]
    for contact in same:
        nodes.heard(contact, 1.0)
    assert len(nodes) <= 10
    assert all(sum(sizes) <= 2 for sizes in nodes.bucket_sizes())
    nodes.remove(next(iter(nodes)).contact.node_id)
    lan = [contact_at(number, Endpoint.parse(f"192.168.0.{number}", 30303)) for number in range(1, 40)]
    for contact in lan:
        nodes.heard(contact, 1.0)
    assert len(nodes) > 20


def test_node_that_moves_takes_its_place_in_the_limits_along():
    nodes = table(bucket_limit=1)
    contact, other = list(far(2))
    nodes.heard(contact, 1.0)
    nodes.heard(other, 1.0)
    moved = dataclasses.replace(contact, endpoint=Endpoint.parse("11.99.0.1", 30303), tcp=0)
    nodes.heard(moved, 2.0)
    entry = nodes.get(contact.node_id)
    assert (entry.contact.endpoint, entry.contact.tcp) == (moved.endpoint, contact.tcp)
    crowded = dataclasses.replace(contact, endpoint=dataclasses.replace(other.endpoint, port=5))
    nodes.heard(crowded, 3.0)
    assert nodes.get(contact.node_id).contact.endpoint == moved.endpoint
    assert nodes.get(contact.node_id).heard == 3.0


def test_newer_record_stays_when_a_node_is_heard_again():
    nodes = table()
    contact = contact_at(1)
    old, new = (record_at(node_key(1), contact.endpoint, seq) for seq in (1, 2))
    nodes.heard(dataclasses.replace(contact, record=new), 1.0)
    nodes.heard(dataclasses.replace(contact, record=old), 2.0)
    assert nodes.get(contact.node_id).contact.record == new
    nodes.heard(dataclasses.replace(contact, record=None), 2.0)
    assert nodes.get(contact.node_id).contact.seq == 2


def test_table_never_holds_ourselves():
    assert not table().heard(Contact.of(OWN.public_key, public_endpoint(0), 1), 1.0)


def test_closest_are_the_closest():
    nodes = table()
    for number in range(1, 200):
        nodes.heard(contact_at(number), 1.0)
    target = node_key(999).node_id
    found = [contact.node_id for contact in nodes.closest(target)]
    everyone = sorted((entry.contact.node_id for entry in nodes), key=lambda node: xor_distance(node, target))
    assert found == everyone[:16]


# -- lookup --------------------------------------------------------------------------------------------


def lookup_of(*contacts) -> Lookup:
    lookup = Lookup(1, bytes(64), ID, OWN.node_id)
    lookup.add(contacts)
    return lookup


def test_lookup_asks_three_at_a_time_and_ends_with_the_nearest_that_answered():
    contacts = [contact_at(number) for number in range(1, 41)]
    lookup = lookup_of(*contacts[:20])
    asked = []
    while not lookup.done:
        batch = lookup.take()
        assert len(batch) <= ALPHA
        assert lookup.take() == []
        for contact in batch:
            asked.append(contact)
            if contact == contacts[0]:
                lookup.failed(contact)
            else:
                lookup.answered(contact, contacts)
    nearest = sorted(contacts[1:], key=lambda contact: xor_distance(contact.node_id, ID))[:16]
    assert list(lookup.found) == nearest
    assert lookup.asked == len(asked) < 40


def test_lookup_without_anybody_is_done():
    assert lookup_of().done
    assert lookup_of(Contact.of(OWN.public_key, public_endpoint(0), 1)).done


def test_lookup_led_on_by_ground_ids_ends():
    lookup = lookup_of(contact_at(0 + 1))
    nearer = iter(range(10_000))
    while not lookup.done:
        for contact in lookup.take():
            told = [
                dataclasses.replace(
                    contact_at(5), node_id=NodeId(b"\x01" * 30 + (30_000 - next(nearer)).to_bytes(2, "big"))
                )
                for _ in range(16)
            ]
            lookup.answered(contact, told)
    assert lookup.asked <= MAX_ASKED
    assert len(lookup._known) <= MAX_KNOWN


# -- outbox --------------------------------------------------------------------------------------------


def test_outbox_is_bounded():
    outbox = Outbox(OWN, 3)
    for _ in range(5):
        outbox.send(ENRRequest(1), public_endpoint(1))
    assert outbox.sent == {"ENRRequest": 3, "dropped": 2}
    assert len(outbox.take()) == 3
    assert outbox.take() == []
