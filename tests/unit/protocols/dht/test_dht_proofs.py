"""Who is proved, by what, and how many are called for it."""

import pytest

from relay.protocols.dht import DhtOptions, ProviderRecord
from tests.aids.dht import HOURS, DhtNetwork, key_of, record_of
from tests.aids.discv5 import NullSuite, node_key, onion_record

KEY = key_of(1)


@pytest.fixture
def net() -> DhtNetwork:
    made = DhtNetwork(3, onion=True, suite=NullSuite(), dht=DhtOptions(probe_interval=10.0, probes=2))
    made.run(30.0)
    return made


def stranger(net: DhtNetwork, number: int = 50, *, onion: int | None = None) -> ProviderRecord:
    """A record in the store of node 0 whose provider is in nobody's table."""
    enr = onion_record(number, onion=onion)
    holder = net.nodes[0]
    address = holder.node.core.contact(enr).address
    record = ProviderRecord.sign(node_key(number), KEY, enr, HOURS + 24, address)
    holder.dht.store.add(record, None)
    return record


def test_a_provider_that_answers_our_call_is_proved(net):
    holder, record = net.nodes[0], stranger(net)
    from tests.aids.discv5 import make_node

    net.net.add(make_node(50, net.options, suite=net.suite, contacts=net.contacts, onion=True))
    net.call(holder, lambda dht, now: dht.proofs.want(record, now))
    asked = net.net.now
    net.run(15.0)
    since = holder.dht.store.get(KEY, record.node_id).proved
    assert since is not None
    assert since >= asked + 10.0
    assert holder.dht.proofs.calls == 1
    assert holder.dht.proofs.since(record.node_id, record.address, net.net.now) == since


def test_a_provider_that_does_not_answer_is_not(net):
    holder, record = net.nodes[0], stranger(net)
    net.call(holder, lambda dht, now: dht.proofs.want(record, now))
    net.run(200.0)
    assert holder.dht.proofs.calls == 1
    assert holder.dht.store.get(KEY, record.node_id).proved is None


def test_calls_are_one_at_a_time_and_who_waits_beyond_the_bound_is_not_called(net):
    holder = net.nodes[0]
    for number in range(50, 60):
        record = stranger(net, number)
        net.call(holder, lambda dht, now, r=record: dht.proofs.want(r, now))
    net.run(9.0)
    assert holder.dht.proofs.calls == 0
    net.run(2.0)
    assert holder.dht.proofs.calls == 1
    net.run(300.0)
    assert holder.dht.proofs.calls == 2


def test_one_onion_under_many_ids_is_called_within_the_cores_budget(net):
    holder = net.nodes[0]
    for number in range(50, 60):
        enr = onion_record(number, onion=7777)
        record = ProviderRecord.sign(
            node_key(number), KEY, enr, HOURS + 24, holder.node.core.contact(enr).address
        )
        net.call(holder, lambda dht, now, r=record: dht.proofs.want(r, now))
        net.run(15.0)
    assert holder.dht.proofs.calls == net.options.dials_per_host


def test_a_doubted_provider_is_not_proved_by_memory(net):
    holder, record = net.nodes[0], record_of(1, KEY)
    assert holder.dht.proofs.since(record.node_id, record.address, net.net.now) is not None
    holder.dht.proofs.doubted(record.node_id)
    holder.node.core.table.entries[record.node_id].live = False
    assert holder.dht.proofs.since(record.node_id, record.address, net.net.now) is None


def test_proofs_that_are_remembered_are_bounded(net):
    proofs = net.nodes[0].dht.proofs
    contact = net.nodes[0].node.core.contact
    for number in range(100, 1200):
        proofs._note(node_key(number).node_id, contact(onion_record(1)).address, 1.0)
    assert len(proofs._proved) == 1024
