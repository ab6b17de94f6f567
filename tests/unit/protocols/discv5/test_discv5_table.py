"""The table: places, replacements, limits, records updated in place."""

import random

import pytest

from relay.protocols.discv5 import ONION, ContactCache, OnionNetwork, UdpNetwork
from relay.protocols.discv5.distance import log_distance
from relay.protocols.discv5.networks import ITSELF
from relay.protocols.discv5.table import BUCKET_SIZE, MAX_REPLACEMENTS, Limits, Table
from tests.aids.discv5 import ip_of, node_key, onion_record, udp_record

OWN = node_key(0).node_id
CACHE = ContactCache(UdpNetwork().address_of, 4096)
FAR = [number for number in range(1, 200) if log_distance(OWN, node_key(number).node_id) == 256]


def make_table(bucket: int = 2, table: int = 10) -> Table:
    picker = random.Random(1)
    return Table(OWN, UdpNetwork(), Limits(bucket, table), picker.randrange)


def contact(number: int, **more):
    return CACHE.of(udp_record(number, **more))


def fill(table: Table, count: int) -> None:
    for number in FAR[:count]:
        table.add(contact(number), ITSELF)


def test_full_bucket_keeps_replacements_the_newest_ones():
    table = make_table()
    fill(table, 40)

    assert len(table) == BUCKET_SIZE
    assert table.bucket_sizes()[16] == (BUCKET_SIZE, MAX_REPLACEMENTS)
    assert not table.has_room(node_key(FAR[50]).node_id)


def test_a_replacement_takes_the_place_of_a_dead_node():
    table = make_table()
    fill(table, 20)

    entry, unproved = table.remove(node_key(FAR[0]).node_id)

    assert entry is not None
    assert entry.contact.node_id in [node_key(number).node_id for number in FAR[16:20]]
    assert unproved is None
    assert table.bucket_sizes()[16] == (BUCKET_SIZE, 3)


def test_without_promotion_the_replacement_is_handed_out():
    table = make_table()
    fill(table, 17)

    entry, unproved = table.remove(node_key(FAR[3]).node_id, promote=False)

    assert entry is None
    assert unproved is not None
    assert table.bucket_sizes()[16] == (BUCKET_SIZE - 1, 0)


def test_removing_a_stranger_changes_nothing():
    assert make_table().remove(OWN) == (None, None)


def test_removing_without_replacements_leaves_a_gap():
    table = make_table()
    fill(table, 1)
    assert table.remove(node_key(FAR[0]).node_id) == (None, None)
    assert len(table) == 0


def test_a_known_replacement_is_not_doubled_and_enters_when_there_is_room():
    table = make_table()
    fill(table, 17)
    table.add(contact(FAR[16]), ITSELF)
    assert table.bucket_sizes()[16] == (BUCKET_SIZE, 1)
    node = node_key(FAR[0]).node_id
    table.entries.pop(node)
    table._buckets[16].entries.pop(node)
    assert table.add(contact(FAR[16]), ITSELF) is not None
    assert table.bucket_sizes()[16] == (BUCKET_SIZE, 0)


def test_we_and_the_unreachable_and_the_known_are_not_added():
    table = make_table()
    assert table.add(contact(0), ITSELF) is None
    assert table.add(CACHE.of(onion_record(5)), ITSELF) is None
    assert table.add(contact(1), ITSELF) is not None
    assert table.add(contact(1), ITSELF) is None


def test_one_subnet_has_two_places_a_bucket():
    table = make_table()
    for host, number in enumerate(FAR[:6], 1):
        table.add(contact(number, ip=f"9.9.9.{host}"), ITSELF)
    assert len(table) == 2
    table.remove(node_key(FAR[0]).node_id)
    assert table.add(contact(FAR[7], ip="9.9.9.77"), ITSELF) is not None


def test_one_subnet_has_ten_places_a_table():
    table = make_table(bucket=100)
    for number in range(1, 60):
        table.add(contact(number, ip=f"9.9.9.{number}"), ITSELF)
    assert len(table) == 10


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.1.2.3", "192.168.0.9", "169.254.1.1"])
def test_lan_is_exempt_from_limits(ip):
    table = make_table()
    for number in range(1, 20):
        table.add(contact(number, ip=ip, port=2000 + number), ITSELF)
    assert len(table) > 10


def test_onions_are_limited_by_teller():
    network = OnionNetwork()
    cache = ContactCache(network.address_of, 100)
    table = Table(
        OWN, network, Limits(ONION.bucket_group_limit, ONION.table_group_limit), random.Random(1).randrange
    )
    for number in FAR[:12]:
        table.add(cache.of(onion_record(number)), b"teller")
    assert len(table) == 8
    assert table.add(cache.of(onion_record(FAR[12])), b"another") is not None
    assert table.add(cache.of(onion_record(FAR[13])), None) is not None


def test_who_comes_by_itself_finds_room_near_us_however_many_came_from_afar():
    table = Table(OWN, OnionNetwork(), Limits(2, 3), random.Random(1).randrange)
    cache = ContactCache(OnionNetwork().address_of, 4096)
    onions = [cache.of(onion_record(number)) for number in range(1, 400)]
    for each in onions:
        table.add(each, ITSELF)
    held = [size for size, _ in table.bucket_sizes()]
    assert max(held) == 2
    assert sum(held) > 3
    others = Table(OWN, OnionNetwork(), Limits(2, 3), random.Random(1).randrange)
    for each in onions:
        others.add(each, b"teller")
    assert len(others) == 3


def test_who_came_by_itself_makes_no_room_for_more_such_by_moving():
    table = Table(OWN, OnionNetwork(), Limits(2, 9), random.Random(1).randrange)
    cache = ContactCache(OnionNetwork().address_of, 4096)
    for number in FAR[:2]:
        entry = table.add(cache.of(onion_record(number)), ITSELF)
        assert table.update(entry, cache.of(onion_record(number, seq=2, onion=900 + number)), by_itself=True)
    assert table.add(cache.of(onion_record(FAR[2])), ITSELF) is None
    table.remove(node_key(FAR[0]).node_id)
    assert table.add(cache.of(onion_record(FAR[2])), ITSELF) is not None


def test_newer_record_replaces_an_older_one_in_place():
    table = make_table()
    entry = table.add(contact(1), ITSELF)
    entry.live = True

    assert not table.update(entry, contact(1, seq=5), by_itself=False)
    assert entry.contact.record.seq == 5
    assert entry.live
    assert not table.update(entry, contact(1, seq=4), by_itself=False)
    assert entry.contact.record.seq == 5


def test_a_node_may_set_its_own_record_back():
    table = make_table()
    entry = table.add(contact(1, seq=9), ITSELF)
    table.update(entry, contact(1, seq=3), by_itself=True)
    assert entry.contact.record.seq == 3


def test_a_new_address_must_answer_again():
    table = make_table()
    entry = table.add(contact(1), ITSELF)
    entry.live = True
    assert table.update(entry, contact(1, seq=2, ip=ip_of(900)), by_itself=False)
    assert not entry.live


def test_a_new_port_of_the_same_host_must_answer_again():
    table = make_table()
    entry = table.add(contact(1), ITSELF)
    assert table.update(entry, contact(1, seq=2, port=4000), by_itself=False)


def test_a_new_address_beyond_the_limits_is_not_taken():
    table = make_table(table=2)
    for host, number in enumerate(FAR[:2], 1):
        table.add(contact(number, ip=f"9.9.9.{host}"), ITSELF)
    entry = table.add(contact(FAR[5]), ITSELF)
    assert not table.update(entry, contact(FAR[5], seq=2, ip="9.9.9.99"), by_itself=True)
    assert entry.contact.record.seq == 1


def test_a_record_without_an_address_never_replaces_one_with():
    table = make_table()
    entry = table.add(contact(1), ITSELF)
    assert not table.update(entry, CACHE.of(onion_record(1, seq=7)), by_itself=True)
    assert entry.contact.record.seq == 1


def test_only_those_who_answered_are_told_at_exactly_their_distance():
    table = make_table()
    fill(table, 3)
    assert table.live_at(256) == []
    next(iter(table)).live = True
    assert [each.node_id for each in table.live_at(256)] == [node_key(FAR[0]).node_id]
    assert table.live_at(255) == []
    assert table.live_at(0) == []
    assert table.live_at(257) == []
    assert table.bucket_of(next(iter(table))) == 3


def test_the_nearest_come_first():
    table = make_table(bucket=100, table=1000)
    for number in range(1, 60):
        table.add(contact(number), ITSELF)
    target = node_key(77).node_id
    found = [int.from_bytes(each.node_id) ^ int.from_bytes(target) for each in table.closest(target, 16)]
    assert len(found) == 16
    assert found == sorted(found)


def test_who_is_accepted_is_who_can_be_added():
    table = make_table()
    onion = Table(OWN, OnionNetwork(), Limits(2, 3), random.Random(1).randrange)
    cache = ContactCache(OnionNetwork().address_of, 4096)
    draw = random.Random(7)
    refused = 0
    for number in draw.sample(range(1, 400), 300):
        teller = draw.choice([b"a", b"b", None, ITSELF])
        for each, contacts, node in (
            (table, CACHE, udp_record(number)),
            (onion, cache, onion_record(number)),
        ):
            accepted = each.accepts(contacts.of(node), teller)
            refused += not accepted
            assert accepted == (each.add(contacts.of(node), teller, replaceable=False) is not None)
    assert 0 < refused < 600


def test_a_replacement_is_accepted_where_it_has_its_share_already():
    table = Table(OWN, OnionNetwork(), Limits(1, 9), random.Random(1).randrange)
    cache = ContactCache(OnionNetwork().address_of, 4096)
    onions = [cache.of(onion_record(number)) for number in FAR[: BUCKET_SIZE + 2]]
    for number, each in enumerate(onions[:-1]):
        table.add(each, number)
    waiting, stranger = onions[-2:]
    table.remove(onions[0].node_id, promote=False)
    for number, each in ((0, onions[0]), (BUCKET_SIZE, waiting)):
        table.add(each, number)
    assert not table.accepts(waiting, BUCKET_SIZE)
    bucket = table._buckets[16]
    for node in list(bucket.entries)[:1]:
        del bucket.entries[node], table.entries[node]
    assert table.accepts(waiting, BUCKET_SIZE)
    assert not table.accepts(stranger, BUCKET_SIZE)
    assert table.add(waiting, BUCKET_SIZE) is not None
