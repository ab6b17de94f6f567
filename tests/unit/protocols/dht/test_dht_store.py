"""The store under honest use, under floods, and its books after any sequence of both."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord
from relay.primitives.hashing import keccak256
from relay.protocols.dht import DhtOptions, ProviderRecord, Status, Store
from relay.protocols.dht.record import HOUR
from relay.protocols.discv5 import OnionNetwork, UdpNetwork
from tests.aids.dht import HOURS, UNIX, key_of

KEY = key_of(1)


def record(number: int, key=KEY, *, onion: int | None = None, ip: str | None = None, hour=HOURS + 24):
    """A record whose signatures nobody looks at: that is done before the store."""
    host = ip or f"{number if onion is None else onion:056d}.onion"
    address = Endpoint(Network.IPV4 if ip else Network.ONION, host, 30303)
    node = keccak256(b"%d" % number)
    enr = NodeRecord(1, {}, node, node, b"%d" % number)
    return ProviderRecord(key, enr, address, hour, b"%d at %d" % (number, hour))


def store(*, onion: bool = True, **options) -> Store:
    network = OnionNetwork() if onion else UdpNetwork()
    return Store(network, DhtOptions(**options), random.Random(1).randbytes)


def kept(shelf: Store, key=KEY) -> set[bytes]:
    return {entry.record.node_id for entry in shelf.walk(key, b"")}


def ids(numbers) -> set[bytes]:
    return {keccak256(b"%d" % number) for number in numbers}


def test_a_record_is_kept_until_its_hour():
    shelf = store()
    assert shelf.add(record(1, hour=HOURS + 2), None) is Status.STORED
    shelf.expire(UNIX + 2 * HOUR - 1)
    assert shelf.count(KEY) == 1
    shelf.expire(UNIX + 2 * HOUR)
    assert (shelf.count(KEY), len(shelf), shelf.keys, shelf.expired) == (0, 0, 0, 1)


def test_renewing_replaces_and_an_older_record_does_not():
    shelf = store()
    for hour in (HOURS + 20, HOURS + 24, HOURS + 21):
        assert shelf.add(record(1, hour=hour), None) is Status.STORED
    assert len(shelf) == 1
    assert shelf.get(KEY, record(1).node_id).record.hour == HOURS + 24
    shelf.expire(UNIX + 21 * HOUR)
    assert len(shelf) == 1


def test_one_node_with_ten_thousand_keys_keeps_its_share():
    shelf = store(per_provider=64)
    statuses = [shelf.add(record(1, key_of(number)), None) for number in range(10_000)]
    assert len(shelf) == 64
    assert statuses.count(Status.TOO_MANY) == shelf.statuses[Status.TOO_MANY] == 10_000 - 64
    assert shelf.add(record(2, key_of(9999)), None) is Status.STORED


def test_one_host_under_many_ids_has_one_record_of_a_key_and_one_share_of_all():
    shelf = store(per_provider=8)
    assert shelf.add(record(1, onion=7), None) is Status.STORED
    assert shelf.add(record(2, onion=7), None) is Status.TOO_MANY
    for number in range(100):
        shelf.add(record(100 + number, key_of(number + 10), onion=7), None)
    assert len(shelf) == 8


def test_who_is_proved_at_an_onion_ousts_who_claims_it():
    shelf = store()
    shelf.add(record(1, onion=7), None)
    assert shelf.add(record(2, onion=7), 5.0) is Status.STORED
    assert kept(shelf) == ids([2])
    assert shelf.add(record(3, onion=7), 6.0) is Status.TOO_MANY
    assert (len(shelf), shelf.evicted) == (1, 1)


def test_a_group_of_ips_has_its_share_of_a_key_and_lans_are_not_limited():
    shelf = store(onion=False, per_group=4)
    for number in range(20):
        shelf.add(record(number, ip=f"9.9.9.{number + 1}"), None)
    assert shelf.count(KEY) == 4
    for number in range(20):
        shelf.add(record(100 + number, ip=f"192.168.1.{number + 1}"), None)
    assert shelf.count(KEY) == 24


def test_ten_thousand_free_ids_do_not_oust_the_proved():
    shelf = store(per_key=128)
    honest = range(40)
    for number in honest:
        assert shelf.add(record(number), float(number)) is Status.STORED
    for number in range(10_000):
        shelf.add(record(1000 + number), None)
    assert ids(honest) <= kept(shelf)
    assert shelf.count(KEY) == len(shelf) == 128
    # One that comes after the flood and is proved has its place as well.
    assert shelf.add(record(500), 9.0) is Status.STORED
    assert ids([500]) <= kept(shelf)


def test_those_proved_first_stay_and_the_others_draw_lots():
    shelf = store(per_key=40)
    for number in range(400):
        shelf.add(record(number), float(number))
    elders, others = ids(range(20)), ids(range(20, 400))
    assert elders <= kept(shelf)
    assert len(kept(shelf) & others) == 20
    # Not the first 20 of the others, nor the last.
    assert len(kept(shelf) & ids(range(20, 40))) < 15
    assert len(kept(shelf) & ids(range(380, 400))) < 15


def test_lots_cannot_be_ground_for_and_differ_between_holders():
    one, two = (
        Store(OnionNetwork(), DhtOptions(per_key=10), random.Random(seed).randbytes) for seed in (1, 2)
    )
    for number in range(500):
        for shelf in (one, two):
            shelf.add(record(number), None)
    assert len(kept(one) & kept(two)) < 5


def test_renewing_keeps_age_and_lot_and_a_new_address_loses_them():
    shelf = store()
    shelf.add(record(1, hour=HOURS + 20), 3.0)
    shelf.add(record(1), None)
    assert shelf.get(KEY, record(1).node_id).proved == 3.0
    shelf.add(record(1, onion=99), None)
    assert shelf.get(KEY, record(1).node_id).proved is None
    assert len(shelf) == 1


def test_proofs_count_on_the_address_of_the_record_only():
    shelf = store()
    shelf.add(record(1), None)
    node = record(1).node_id
    shelf.prove(node, record(2).address, 5.0)
    assert shelf.get(KEY, node).proved is None
    shelf.prove(node, record(1).address, 6.0)
    shelf.prove(node, record(1).address, 7.0)
    assert shelf.get(KEY, node).proved == 6.0
    shelf.doubt(node)
    assert shelf.get(KEY, node).proved is None
    shelf.add(record(1), 8.0)
    assert shelf.get(KEY, node).proved == 8.0


def test_the_total_is_bounded_by_lots_among_the_unproved():
    shelf = store(total=50, per_provider=1000)
    for number in range(20):
        shelf.add(record(number, key_of(number)), 1.0)
    for number in range(1000):
        shelf.add(record(5000 + number, key_of(number)), None)
    assert len(shelf) == 50
    assert all(ids([number]) <= kept(shelf, key_of(number)) for number in range(20))
    assert shelf.add(record(40, key_of(40)), 2.0) is Status.STORED


def test_a_store_full_of_proved_records_takes_no_more():
    shelf = store(total=10)
    for number in range(10):
        assert shelf.add(record(number, key_of(number)), 1.0) is Status.STORED
    assert shelf.add(record(11), 2.0) is Status.FULL
    assert shelf.add(record(12), None) is Status.FULL
    assert (len(shelf), shelf.evicted) == (10, 0)


def test_standing_matters_when_a_key_or_the_store_is_half_full():
    shelf = store(per_key=4, total=8)
    for number, contended in ((1, False), (2, False), (3, True)):
        shelf.add(record(number), None)
        assert shelf.is_contended(KEY) is contended
    assert not shelf.is_contended(key_of(2))
    for number in (4, 5):
        shelf.add(record(number, key_of(number)), None)
    assert shelf.is_contended(key_of(2))


@pytest.mark.parametrize("start", [b"", b"\x80" * 8, b"\xff" * 9])
def test_a_walk_goes_round_once_from_any_start(start):
    shelf = store()
    for number in range(30):
        shelf.add(record(number), None)
    whole = [entry.lot for entry in shelf.walk(KEY, start)]
    assert len(set(whole)) == 30
    for place, lot in enumerate(whole):
        assert [entry.lot for entry in shelf.walk(KEY, start, lot)] == whole[place + 1 :]


@given(st.binary(max_size=32), st.binary(max_size=32))
def test_walks_from_invented_cursors_end(start, after):
    shelf = store()
    for number in range(8):
        shelf.add(record(number), None)
    assert len(list(shelf.walk(KEY, start, after))) <= 8
    assert not list(shelf.walk(key_of(5), start, after))


def check(shelf: Store) -> None:
    entries = [entry for key in shelf._shelves for entry in shelf.walk(key, b"")]
    assert len(entries) == len(shelf)
    assert sum(shelf._hosts.values()) == sum(map(len, shelf._keys_of.values())) == len(shelf)
    assert sum(map(len, shelf._hours.values())) == len(shelf)
    unproved = sorted(
        (each.lot, each.record.key, each.record.node_id) for each in entries if each.proved is None
    )
    assert shelf._unproved == unproved
    for each in entries:
        assert (each.record.key, each.record.node_id) in shelf._hours[each.record.hour]
    assert len(shelf) <= 12
    assert all(shelf.count(key) <= 4 for key in shelf._shelves)
    assert all(len(keys) <= 3 for keys in shelf._keys_of.values())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "prove", "doubt", "expire"]),
        st.integers(0, 9),
        st.integers(0, 5),
        st.integers(0, 7),
        st.integers(1, 4),
        st.booleans(),
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(STEPS)
def test_the_books_agree_after_anything(steps):
    shelf = store(per_key=4, per_provider=3, total=12)
    for now, (what, number, key, onion, hour, proved) in enumerate(steps):
        made = record(number, key_of(key), onion=onion, hour=HOURS + hour)
        if what == "add":
            shelf.add(made, float(now) if proved else None)
        elif what == "prove":
            shelf.prove(made.node_id, made.address, float(now))
        elif what == "doubt":
            shelf.doubt(made.node_id)
        else:
            shelf.expire(UNIX + hour * HOUR)
        check(shelf)
