"""Liars: what they say in answers to searches and to writes, and what they get by it."""

import random

import pytest

from relay.primitives import rlp
from relay.protocols.dht import DhtOptions, Ended, FindDone, ProviderRecord
from relay.protocols.dht.messages import Added, GetProviders, Page, Status, decode_request
from relay.protocols.dht.record import HOUR, LIFETIME
from relay.protocols.discv5 import MAX_TALK
from relay.protocols.discv5.distance import xor_distance
from tests.aids.dht import HOURS, DhtNetwork, DhtNode, key_of, record_of
from tests.aids.discv5 import NullSuite, node_key, onion_record

KEY = key_of(1)
TOKEN = b"t" * 16


class Liar:
    """Answers whatever it is told to; remembers what it was asked."""

    def __init__(self, answer) -> None:
        self.own = {}
        self.asked = []
        self._answer = answer

    def answer(self, request, now):
        self.asked.append(request)
        return self._answer(request)


def page(*records: bytes, nodes=(), next=b"", total=0) -> bytes:
    return Page(TOKEN, total, next, tuple(records), tuple(nodes)).encode()


def network(count: int = 8, **options) -> DhtNetwork:
    made = DhtNetwork(count, onion=True, suite=NullSuite(), dht=DhtOptions(**options))
    made.run(12.0)
    return made


def lie(node: DhtNode, answer) -> Liar:
    node.dht.serving = Liar(answer if callable(answer) else lambda _request: answer)
    return node.dht.serving


def search(net: DhtNetwork, liars: list[DhtNode], **options):
    """One node's search that begins at the liars."""
    asker = next(each for each in net.nodes if each not in liars)
    contacts = [each.node.core.contact(each.node.record) for each in liars]
    handle = net.call(asker, lambda dht, now: dht.find(KEY, now, contacts, **options))
    end = net.run_until(lambda: asker.ended(FindDone, handle), 400.0)
    return asker, end, asker.found(handle)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x02",
        b"\x02\xc0",
        b"\xff" * 100,
        b"\x02" + b"\xf8" * 500,
        b"\x02" + rlp.encode([[[[[[b""]]]]]]),
        Added(Status.STORED).encode(),
        page(b"\xc1\x80"),
        page(nodes=[b"\xc1\x80"]),
        page(b"\x80" * (MAX_TALK - 100)),
        random.Random(1).randbytes(MAX_TALK),
    ],
)
def test_garbage_ends_nothing_but_that_answer(answer):
    net = network()
    liar = net.nodes[3]
    lie(liar, answer)
    net.provide(net.nodes[5], KEY)
    asker, end, found = search(net, [liar, net.nodes[6]])
    assert set(found) == {net.nodes[5].node_id}
    assert end.ended is Ended.ALL_ASKED
    assert asker.dht.bad + asker.dht.unsupported == 1


@pytest.mark.parametrize(
    "record",
    [
        record_of(50, key_of(2)),
        record_of(50, KEY, hour=HOURS),
        record_of(50, KEY, hour=HOURS + LIFETIME + 2),
        record_of(50, KEY, ip="9.9.9.9"),
        record_of(50, KEY, onion=False),
    ],
    ids=["of another key", "expired", "far ahead", "with an ip", "without an onion"],
)
def test_records_that_do_not_hold_are_not_found(record):
    net = network()
    liar = net.nodes[3]
    lie(liar, page(record.raw))
    asker, end, found = search(net, [liar])
    assert (found, end.found) == ({}, 0)
    assert asker.dht.bad >= 1


def test_a_record_that_expires_while_it_is_told_of_is_dropped():
    net = network()
    liar = net.nodes[3]
    record = record_of(50, KEY, hour=HOURS + 1)
    lie(liar, page(record.raw))
    assert set(search(net, [liar])[2]) == {record.node_id}
    net.run(HOUR)
    assert search(net, [liar])[2] == {}


def test_our_own_record_is_no_find():
    net = network()
    liar = net.nodes[3]
    lie(liar, page(record_of(0, KEY).raw))
    asker, _, found = search(net, [liar])
    assert asker is net.nodes[0]
    assert found == {}


def test_nodes_that_are_not_nearer_are_not_asked():
    net = network(12)
    by_distance = sorted(net.nodes[1:], key=lambda each: xor_distance(each.node_id, KEY))
    liar, farther = by_distance[3], by_distance[4:]
    # Beside them: the liar itself, who asks, and a node that does not exist but is nearer.
    lie(liar, page(nodes=[each.node.record.raw for each in [*farther[:3], liar, net.nodes[0]]]))
    traps = [lie(each, page()) for each in farther]
    asker, end, _ = search(net, [liar])
    assert asker is net.nodes[0]
    assert asker.dht.bad == 5
    # The walk over the liar asked nobody else; what was asked then came from the lookup.
    assert end.asked == len(net.nodes) - 1
    assert all(len(trap.asked) == 1 for trap in traps)


def test_two_liars_that_name_each_other_are_asked_once_each():
    net = network()
    one, two = net.nodes[3], net.nodes[4]
    first = lie(one, page(nodes=[two.node.record.raw, one.node.record.raw]))
    second = lie(two, page(nodes=[one.node.record.raw, two.node.record.raw]))
    _, end, _ = search(net, [one, two])
    assert len(first.asked) == len(second.asked) == 1
    assert end.ended is Ended.ALL_ASKED


def test_pages_without_end_are_left_after_a_few():
    net = network(pages=5)
    liar = net.nodes[3]
    count = iter(range(1000, 9000))
    served = lie(liar, lambda _request: page(record_of(next(count), KEY).raw, next=b"c" * 16, total=9000))
    _, _, found = search(net, [liar])
    assert len(served.asked) == 5
    assert len(found) == 5


def test_empty_pages_that_promise_more_are_left_at_once():
    net = network()
    liar = net.nodes[3]
    served = lie(liar, page(next=b"c" * 16, total=200))
    search(net, [liar])
    assert len(served.asked) == 1


def test_one_liar_with_many_providers_does_not_end_a_search():
    net = network(per_source=6, pages=9)
    liar = net.nodes[3]
    count = iter(range(1000, 9000))
    lie(liar, lambda _request: page(*(record_of(next(count), KEY).raw for _ in range(3)), next=b"c" * 16))
    for honest in net.nodes[5:7]:
        net.provide(honest, KEY)
    _, end, found = search(net, [liar, net.nodes[2]], enough=6)
    assert {each.node_id for each in net.nodes[5:7]} <= set(found)
    assert len(found) <= 8
    assert end.found == len(found)


def test_a_victims_onion_under_many_ids_is_called_within_the_budget():
    net = network(10)
    liar = max(net.nodes[1:], key=lambda each: xor_distance(each.node_id, KEY))
    victim = onion_record(7777).onion3
    claims = [onion_record(number, onion=7777) for number in range(100, 130)]
    nearer = [
        each.raw for each in claims if xor_distance(each.node_id, KEY) < xor_distance(liar.node_id, KEY)
    ]
    told = iter(range(0, len(nearer), 5))
    lie(liar, lambda _request: page(nodes=nearer[(at := next(told)) : at + 5]))
    assert len(nearer) >= 15
    calls = []
    send = net.net._send

    def watch(data, to, source):
        if getattr(to, "host", None) == victim and source == net.nodes[0].node.address:
            calls.append(to)
        send(data, to, source)

    net.net._send = watch
    for _ in range(3):
        asker, _, _ = search(net, [liar])
        assert asker is net.nodes[0]
    assert 0 < len(calls) <= net.options.dials_per_host


def test_a_search_among_liars_without_end_has_a_limit():
    """Each names five fresh ids that are nearer than itself, and nobody is there."""
    net = network(asked=30)
    liar = net.nodes[3]
    numbers = iter(range(10_000, 90_000))

    def nearer(request):
        own = xor_distance(liar.node_id, KEY)
        found = []
        while len(found) < 5:
            record = onion_record(next(numbers))
            if xor_distance(record.node_id, KEY) < own:
                found.append(record.raw)
        return page(nodes=found)

    lie(liar, nearer)
    _, end, _ = search(net, [liar])
    assert end.asked <= 30


def test_a_search_ends_at_its_deadline_with_what_it_has():
    net = network(find_timeout=20.0)
    record = record_of(50, KEY)
    nearest = min(net.nodes[1:], key=lambda each: xor_distance(each.node_id, KEY))
    liar = next(each for each in net.nodes[1:] if each is not nearest)
    dead = onion_record(9999)
    number = 9999
    while xor_distance(dead.node_id, KEY) >= xor_distance(liar.node_id, KEY):
        number += 1
        dead = onion_record(number)
    lie(liar, page(record.raw, nodes=[dead.raw]))
    _, end, found = search(net, [liar])
    assert end.ended is Ended.LIMIT
    assert set(found) == {record.node_id}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "does not speak the protocol"),
        (b"\x02junk", "bad answer"),
        (Added(Status.STORED).encode(), "bad answer"),
    ],
)
def test_a_write_to_who_answers_a_question_for_a_token_with_nonsense_is_not_stored(answer, why):
    net = network()
    for each in net.nodes:
        lie(each, answer)
    done = net.provide(net.nodes[2], KEY)
    assert (done.stored, done.asked) == (0, 7)
    assert done.refused == ((why, 7),)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (page(), "bad answer"),
        (b"", "does not speak the protocol"),
        (Added(Status.FULL).encode(), "full"),
        (Added(Status.BAD_TOKEN).encode(), "bad token"),
        (Added(200).encode(), "status 200"),
    ],
)
def test_a_write_that_is_refused_says_why(answer, why):
    net = network()

    def refuse(request):
        return page() if isinstance(decode_request(request.payload), GetProviders) else answer

    liars = [lie(each, refuse) for each in net.nodes]
    done = net.provide(net.nodes[2], KEY)
    assert (done.stored, done.refused) == (0, ((why, 7),))
    # A token is asked for anew once, everything else is an end.
    assert sum(len(each.asked) for each in liars) == (28 if why == "bad token" else 14)


def test_a_signed_record_of_another_identity_than_its_enr_is_refused():
    enr = onion_record(50)
    with pytest.raises(AssertionError):
        ProviderRecord.sign(node_key(51), KEY, enr, HOURS)
