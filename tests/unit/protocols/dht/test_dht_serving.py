"""What a node answers to GET_PROVIDERS and ADD_PROVIDER: asked by tests, byte by byte."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocols.dht import DhtOptions, Providers, Status
from relay.protocols.dht.messages import Added, AddProvider, GetProviders, Page, decode_answer
from relay.protocols.dht.record import HOUR, LIFETIME
from relay.protocols.dht.serving import nearer_than_us
from relay.protocols.discv5 import MAX_TALK, ONION, UDP, Contact, OnionNetwork, TalkRequest, UdpNetwork
from relay.protocols.discv5.distance import xor_distance
from tests.aids.dht import HOURS, UNIX, key_of, record_of
from tests.aids.discv5 import make_node, node_key, onion_record, udp, udp_record

KEY = key_of(1)
US = 0


class Holder:
    """One node; who asks it has a session by assumption."""

    def __init__(self, *, onion: bool = True, **options) -> None:
        self.onion = onion
        self.unix = UNIX
        self.now = 50.0
        self.node = make_node(US, ONION if onion else UDP, onion=onion)
        self.dht = Providers(
            self.node.core,
            node_key(US),
            lambda: self.node.record,
            OnionNetwork() if onion else UdpNetwork(),
            DhtOptions(**options),
            rand=random.Random(3).randbytes,
            unix=lambda: self.unix,
        )

    def contact(self, number: int, address=None) -> Contact:
        record = onion_record(number) if self.onion else udp_record(number)
        network = OnionNetwork() if self.onion else UdpNetwork()
        return Contact(record, network.address_of(record) if address is None else address)

    def raw(self, payload: bytes, asker: Contact) -> bytes:
        return self.dht.serving.answer(TalkRequest(asker, b"1", b"prov", payload), self.now)

    def get(self, number: int = 1, key=KEY, *, cursor=b"", limit=24, address=None) -> Page:
        answer = self.raw(GetProviders(key, cursor, limit).encode(), self.contact(number, address))
        assert len(answer) <= MAX_TALK
        page = decode_answer(answer)
        assert isinstance(page, Page)
        return page

    def add(self, number: int = 1, key=KEY, *, token=None, raw=None, address=None, asker=None) -> Status:
        if token is None:
            token = self.get(number if asker is None else asker, key, limit=0, address=address).token
        if raw is None:
            raw = record_of(number, key, onion=self.onion).raw
        message = AddProvider(key, token, raw)
        answer = decode_answer(
            self.raw(message.encode(), self.contact(number if asker is None else asker, address))
        )
        assert isinstance(answer, Added)
        return Status(answer.status)

    def knows(self, *numbers: int) -> None:
        """Live nodes of the table."""
        for number in numbers:
            entry = self.node.core.table.add(self.contact(number), b"%d" % number)
            if entry is not None:
                entry.live = True


def test_a_stored_provider_is_told():
    holder = Holder()
    assert holder.add(1) is Status.STORED
    page = holder.get(2)
    assert page.records == (record_of(1, KEY).raw,)
    assert (page.total, page.next) == (1, b"")


def test_nothing_is_written_without_a_token():
    holder = Holder()
    for token in (b"", bytes(16), random.Random(1).randbytes(16)):
        assert holder.add(1, token=token) is Status.BAD_TOKEN
    assert len(holder.dht.store) == 0
    assert holder.dht.store.statuses[Status.BAD_TOKEN] == 3


def test_tokens_of_another_id_address_or_key_are_refused():
    holder = Holder()
    assert holder.add(1, token=holder.get(2).token) is Status.BAD_TOKEN
    assert holder.add(1, token=holder.get(1, key_of(2)).token) is Status.BAD_TOKEN
    assert holder.add(1, token=holder.get(1, address=("stream", 1)).token) is Status.BAD_TOKEN
    token = holder.get(1, address=("stream", 1)).token
    assert holder.add(1, token=token, address=("stream", 2)) is Status.BAD_TOKEN
    assert holder.add(1, token=token, address=("stream", 1)) is Status.STORED


def test_tokens_expire():
    holder = Holder(token_period=300.0)
    token = holder.get(1).token
    holder.now += 250
    assert holder.add(1, token=token) is Status.STORED
    holder.now += 300
    holder.get(2)
    holder.now += 300
    assert holder.add(1, token=token) is Status.BAD_TOKEN


def test_a_replayed_write_changes_nothing():
    holder = Holder()
    token = holder.get(1).token
    for _ in range(5):
        assert holder.add(1, token=token) is Status.STORED
    assert len(holder.dht.store) == 1


def test_the_record_of_another_node_is_refused():
    holder = Holder()
    assert holder.add(1, asker=2) is Status.BAD_RECORD
    assert len(holder.dht.store) == 0


def test_the_record_of_another_key_is_refused():
    holder = Holder()
    assert holder.add(1, raw=record_of(1, key_of(2)).raw) is Status.BAD_RECORD


@pytest.mark.parametrize("hour", [0, HOURS, HOURS + LIFETIME + 2, 0xFFFFFFFF])
def test_expired_and_far_future_records_are_refused(hour):
    holder = Holder()
    assert holder.add(1, raw=record_of(1, KEY, hour=hour).raw) is Status.BAD_EXPIRY


@pytest.mark.parametrize("hour", [HOURS + 1, HOURS + LIFETIME, HOURS + LIFETIME + 1])
def test_current_records_are_kept(hour):
    assert Holder().add(1, raw=record_of(1, KEY, hour=hour).raw) is Status.STORED


def test_expired_records_are_not_told():
    holder = Holder()
    holder.add(1, raw=record_of(1, KEY, hour=HOURS + 1).raw)
    holder.unix += HOUR
    assert holder.get(2).records == ()
    assert len(holder.dht.store) == 0


def test_onion_holders_keep_no_record_with_an_ip():
    holder = Holder()
    for more in ({"ip": "9.9.9.9"}, {"ip": "127.0.0.1", "udp": 30303}, {"ip6": "2001:4860::1"}):
        assert holder.add(1, raw=record_of(1, KEY, **more).raw) is Status.BAD_ADDRESS
    assert holder.add(1, raw=record_of(1, KEY, onion=False).raw) is Status.BAD_ADDRESS
    assert len(holder.dht.store) == 0


def test_udp_holders_keep_no_onion_and_no_address_that_may_not_be_relayed():
    holder = Holder(onion=False)
    assert holder.add(1, raw=record_of(1, KEY, onion=True).raw) is Status.BAD_ADDRESS
    for ip in ("127.0.0.1", "192.168.1.1", "0.0.0.0"):
        raw = record_of(1, KEY, onion=False, ip=ip).raw
        assert holder.add(1, raw=raw, address=udp("9.9.9.9")) is Status.BAD_ADDRESS
    assert holder.add(1) is Status.STORED


def test_a_provider_is_not_told_of_itself():
    holder = Holder()
    holder.add(1)
    assert holder.get(1).records == ()


def test_two_hundred_providers_come_in_pages_each_once():
    holder = Holder(per_key=256)
    for number in range(1, 201):
        assert holder.add(number) is Status.STORED
    page, records, pages = holder.get(900), [], 1
    while True:
        assert page.total == 200
        assert 1 <= len(page.records) <= 5
        records += page.records
        if not page.next:
            break
        page, pages = holder.get(900, cursor=page.next), pages + 1
    assert len(records) == len(set(records)) == 200
    assert pages <= 60


def test_first_pages_are_samples():
    holder = Holder()
    for number in range(1, 61):
        holder.add(number)
    first = {raw for _ in range(100) for raw in holder.get(900).records}
    assert len(first) > 40


def test_a_limit_holds_and_zero_asks_for_a_token_only():
    holder = Holder()
    for number in range(1, 6):
        holder.add(number)
    one = holder.get(900, limit=1)
    assert (len(one.records), one.total) == (1, 5)
    assert one.next
    none = holder.get(900, limit=0)
    assert none.records == ()
    assert len(none.token) == 16


def test_our_own_record_leads_the_first_page_while_we_provide():
    holder = Holder()
    holder.knows(5)
    holder.dht.provide(KEY, holder.now)
    for number in range(1, 30):
        holder.add(number)
    page = holder.get(900)
    own = record_of(US, KEY).raw
    assert page.records[0] == own
    assert page.total == 30
    rest = []
    while page.next:
        page = holder.get(900, cursor=page.next)
        rest += page.records
    assert own not in rest
    holder.unix += 25 * HOUR
    assert holder.get(900).records == ()
    holder.unix -= 25 * HOUR
    holder.dht.stop_providing(KEY)
    assert own not in holder.get(900, limit=0).records
    assert own not in holder.get(901).records


@pytest.mark.parametrize("onion", [True, False])
def test_without_providers_nearer_nodes_are_told_the_nearest_first(onion):
    holder = Holder(onion=onion)
    holder.knows(*range(1, 120))
    page = holder.get(900)
    assert page.records == ()
    told = [holder.dht._rules.contacts.get(raw).node_id for raw in page.nodes]
    assert 4 <= len(told) <= 16
    live = [entry.contact.node_id for entry in holder.node.core.table]
    own = xor_distance(holder.node.core.node_id, KEY)
    nearest = sorted(
        (each for each in live if xor_distance(each, KEY) < own), key=lambda x: xor_distance(x, KEY)
    )
    assert told == nearest[: len(told)]


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_nearer_nodes_are_found_bucket_by_bucket_as_by_sorting_all(seed):
    holder = Holder(onion=False)
    holder.knows(*range(1, 80))
    table, own = holder.node.core.table, holder.node.core.node_id
    rand = random.Random(seed)
    key = rand.choice([rand.randbytes(32), own, own[:31] + bytes((own[31] ^ 1,)), next(iter(table.entries))])
    found = [each.node_id for each in nearer_than_us(table, own, key, 16)]
    nearer = [each for each in table.entries if xor_distance(each, key) < xor_distance(own, key)]
    assert found == sorted(nearer, key=lambda each: xor_distance(each, key))[:16]


def test_silent_nodes_and_the_asker_are_not_told():
    holder = Holder()
    holder.knows(*range(1, 40))
    for number, entry in enumerate(holder.node.core.table):
        entry.live = number % 2 == 0
    live = {entry.contact.record.raw for entry in holder.node.core.table if entry.live}
    told = holder.get(900).nodes
    assert told
    assert set(told) <= live
    asker = next(n for n in range(1, 40) if onion_record(n).raw in told)
    assert onion_record(asker).raw not in holder.get(asker).nodes


def test_nodes_with_an_ip_beside_their_onion_are_not_told_to_onions():
    holder = Holder()
    mixed, plain = onion_record(41, ip="9.9.9.9"), onion_record(42)
    for record in (mixed, plain):
        holder.node.core.table.add(Contact(record, OnionNetwork().address_of(record)), b"x").live = True
    assert mixed.raw not in holder.get(900, mixed.node_id).nodes
    assert plain.raw in holder.get(900, plain.node_id).nodes


def test_one_node_with_many_keys_and_many_ids_on_one_key_stay_within_bounds():
    holder = Holder(per_provider=16, per_key=32)
    for number in range(100):
        holder.add(1, key_of(number))
    assert len(holder.dht.store) == 16
    for number in range(2, 150):
        holder.add(number)
    assert holder.dht.store.count(KEY) == 32
    assert holder.dht.store.statuses[Status.TOO_MANY] == 84
    assert holder.dht.store.statuses[Status.FULL] + holder.dht.store.evicted >= 100


def test_ids_that_claim_one_victims_onion_get_one_place():
    holder = Holder()
    statuses = []
    for number in range(1, 60):
        raw = record_of(number, KEY, onion=True)
        enr = onion_record(number, onion=7777)
        raw = type(raw).sign(node_key(number), KEY, enr, HOURS + 24).raw
        statuses.append(holder.add(number, raw=raw))
    assert statuses.count(Status.STORED) == 1
    assert set(statuses) == {Status.STORED, Status.TOO_MANY}


@given(st.binary(max_size=1300))
def test_any_request_gets_an_answer_that_fits_or_an_empty_one(payload):
    holder = Holder()
    answer = holder.raw(payload, holder.contact(1))
    assert len(answer) <= MAX_TALK


@given(st.binary(max_size=32), st.integers(0, 0xFFFF))
@settings(max_examples=50, deadline=None)
def test_invented_cursors_get_a_page_that_fits(cursor, limit):
    holder = SERVING
    page = holder.get(900, cursor=cursor, limit=limit)
    assert len(page.encode()) <= MAX_TALK


SERVING = Holder()
for _number in range(1, 40):
    SERVING.add(_number)
SERVING.knows(*range(40, 120))


def test_bad_requests_are_counted_and_get_the_empty_answer():
    holder = Holder()
    assert holder.raw(b"\x07nonsense", holder.contact(1)) == b""
    assert holder.raw(b"", holder.contact(1)) == b""
    assert holder.dht.serving.counts["bad request"] == 2


def test_who_is_in_the_table_and_answers_is_proved_at_once():
    holder = Holder()
    holder.knows(1)
    holder.add(1)
    holder.add(2)
    store = holder.dht.store
    assert store.get(KEY, node_key(1).node_id).proved == holder.now
    assert store.get(KEY, node_key(2).node_id).proved is None
