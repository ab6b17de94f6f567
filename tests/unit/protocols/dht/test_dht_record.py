"""Provider records: what is signed, and every way to be refused."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.protocols.dht import ProviderRecord, RecordCache
from relay.protocols.dht.record import HOUR, MAX_RECORD, expiry_at, is_current, signed
from relay.protocols.discv5 import ContactCache, OnionNetwork
from tests.aids.dht import HOURS, UNIX, key_of, record_of
from tests.aids.discv5 import node_key, onion_record

KEY = key_of(1)


def contacts() -> ContactCache:
    return ContactCache(OnionNetwork().address_of, 64)


def cache(size: int = 8) -> RecordCache:
    return RecordCache(contacts(), size)


def test_a_record_is_read_as_it_was_signed():
    made = record_of(1, KEY)
    read = cache().get(made.raw, KEY)
    assert read == made
    assert hash(read) == hash(made)
    assert (read.node_id, read.hour, read.expiry) == (node_key(1).node_id, HOURS + 24, (HOURS + 24) * HOUR)
    assert read.address == OnionNetwork().address_of(onion_record(1))
    assert KEY.hex()[:16] in repr(read)
    assert KEY.hex() not in repr(read)


def test_a_record_of_one_key_is_worth_nothing_for_another():
    made = record_of(1, KEY)
    with pytest.raises(DecodeError, match="signature"):
        cache().get(made.raw, key_of(2))


def test_another_hour_or_another_enr_breaks_the_signature():
    made = record_of(1, KEY)
    enr, hour, signature = (rlp.encode(each) for each in rlp.decode(made.raw))
    newer = onion_record(1, seq=2).raw
    for forged in ([enr, rlp.encode(HOURS + 25), signature], [newer, hour, signature]):
        payload = b"".join(forged)
        with pytest.raises(DecodeError, match="signature"):
            cache().get(rlp.list_header(len(payload)) + payload, KEY)


def test_a_signature_of_another_node_or_domain_does_not_fit():
    enr = onion_record(1)
    digest = signed(KEY, enr.raw, HOURS)
    for signature in (node_key(2).sign(digest), node_key(1).sign(keccak256(digest))):
        payload = enr.raw + rlp.encode(HOURS) + rlp.encode(signature)
        with pytest.raises(DecodeError, match="signature"):
            cache().get(rlp.list_header(len(payload)) + payload, KEY)


def test_a_record_is_verified_once_and_the_cache_is_bounded(monkeypatch):
    records, asked = cache(2), []
    original = ProviderRecord.read
    monkeypatch.setattr(
        ProviderRecord, "read", classmethod(lambda _cls, *args: asked.append(args) or original(*args))
    )
    made = [record_of(number, KEY) for number in (1, 2, 3)]
    for each in (made[0], made[0], made[1], made[2], made[0]):
        records.get(each.raw, KEY)
    assert len(asked) == 4  # the first one was pushed out by the third
    assert len(records) == 2


def test_the_largest_enr_makes_a_record_within_the_bound():
    enr = onion_record(1, extra={"zz": bytes(97)})
    assert len(enr.raw) == 300
    made = ProviderRecord.sign(node_key(1), KEY, enr, 0xFFFFFFFF)
    assert len(made.raw) == MAX_RECORD
    assert cache().get(made.raw, KEY).hour == 0xFFFFFFFF


@given(st.binary(max_size=MAX_RECORD + 20))
def test_any_bytes_are_no_record(data):
    with pytest.raises(DecodeError):
        cache().get(data, KEY)


@given(st.data())
def test_a_record_that_was_touched_is_refused(data):
    made = bytearray(record_of(1, KEY).raw)
    place = data.draw(st.integers(0, len(made) - 1))
    made[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DecodeError):
        cache().get(bytes(made), KEY)


@given(st.integers(0, MAX_RECORD))
def test_a_record_that_is_cut_off_is_refused(size):
    made = record_of(1, KEY).raw
    with pytest.raises(DecodeError):
        cache().get(made[:size] if size < len(made) else made + b"\0", KEY)


@given(st.floats(0, 4e9))
def test_a_record_made_now_is_current_for_23_hours_at_least(unix):
    hour = expiry_at(unix)
    assert is_current(hour, unix)
    assert is_current(hour, unix + 22.99 * HOUR)
    assert not is_current(hour, unix + 24 * HOUR)


@pytest.mark.parametrize(
    ("hour", "current"),
    [(HOURS, False), (HOURS + 1, True), (HOURS + 25, True), (HOURS + 26, False), (0, False)],
)
def test_expired_and_far_future_records_are_not_current(hour, current):
    assert is_current(hour, UNIX) is current


def test_splices_of_two_records_are_refused():
    rand = random.Random(5)
    one, two = record_of(1, KEY).raw, record_of(2, KEY).raw
    for _ in range(200):
        cut = rand.randrange(10, len(one) - 10)  # inside of both signatures
        with pytest.raises(DecodeError):
            cache().get(one[:cut] + two[cut:], KEY)
