from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from relay.app import record as record_module
from relay.app.datadir import RECORD, DataDir
from relay.app.record import OwnRecord
from relay.primitives.endpoint import Network
from relay.primitives.errors import StorageError
from relay.primitives.forkid import ForkId
from relay.primitives.i2p import i2p_from_hash
from relay.primitives.onion import OnionKey
from tests.aids.peering import key_of, rand_of

ONION = OnionKey.generate(rand_of(1)).address
FORK = ForkId(b"fork", 0)


@pytest.fixture
def data(tmp_path):
    return DataDir(tmp_path)


def own(data: DataDir, fork: ForkId = FORK) -> OwnRecord:
    return OwnRecord(key_of(1), data, fork_id=lambda: fork)


def test_a_hidden_relay_shows_its_onion_and_no_other_address(data):
    record = own(data)
    record.publish(ONION, 30304)
    shown = record.record
    assert (shown.onion3, shown.tcp, shown.ip, shown.ip6, shown.udp) == (ONION, 30304, None, None, None)
    assert shown.fork_id == FORK


def test_a_clearnet_relay_shows_the_port_that_it_really_has(data):
    record = own(data)
    assert record.record.tcp is None
    record.listens(40404)
    assert record.record.tcp == 40404
    assert record.record.seq == 2


def test_a_restart_is_no_change(data):
    first = own(data)
    first.publish(ONION, 30303)
    seq = first.record.seq
    again = own(data)
    again.publish(ONION, 30303)
    assert again.record.to_text() == first.record.to_text()
    assert again.record.seq == seq == 1


def test_each_change_raises_the_number_once(data):
    record = own(data)
    assert record.record.seq == record.record.seq == 1
    record.refresh()
    assert record.record.seq == 1
    record.publish(ONION, 30303)
    assert record.record.seq == 2
    record.withdraw()
    assert (record.record.seq, record.record.onion3) == (3, None)
    assert own(data, ForkId(b"next", 0)).record.seq == 4


@pytest.mark.parametrize("state", [None, [], {"seq": "1", "digest": ""}, {"seq": 1 << 70, "digest": "x"}])
def test_damaged_state_starts_anew(data, state):
    data.save_state(RECORD, state)
    assert own(data).record.seq == 1


def test_a_full_disk_does_not_take_the_record_away(data, monkeypatch):
    def fail(*_):
        raise StorageError("the disk is full")

    monkeypatch.setattr(record_module.DataDir, "save_state", fail)
    with capture_logs() as logs:
        assert own(data).record.seq == 1
    assert logs[0]["cause"] == "the disk is full"


def test_both_networks_get_a_record_of_one_number_and_the_onion_one_has_no_ip(data):
    record = own(data)
    record.listens(30303)
    record.listens_udp(30303)
    record.publish(ONION, 30303)
    record.seen_at(Network.IPV4, "20.1.2.3")
    record.seen_at(Network.IPV6, "2600::1")
    shown, hidden = record.record, record.onion_record
    assert (shown.ip, shown.ip6, shown.udp, shown.tcp, shown.onion3) == (
        "20.1.2.3", "2600::1", 30303, 30303, ONION,
    )  # fmt: skip
    assert set(hidden.pairs) == {"id", "secp256k1", "onion3", "tcp", "eth"}
    assert shown.seq == hidden.seq


def test_an_onion_on_another_port_is_not_shown_beside_an_ip(data):
    record = own(data)
    record.listens(30303)
    record.publish(ONION, 40404)
    assert (record.record.tcp, record.record.onion3) == (40404, ONION)
    record.seen_at(Network.IPV4, "20.1.2.3")
    assert (record.record.tcp, record.record.onion3) == (30303, None)
    assert (record.onion_record.tcp, record.onion_record.onion3) == (40404, ONION)


def test_an_address_that_is_told_again_is_no_change(data):
    record = own(data)
    record.seen_at(Network.IPV4, "20.1.2.3")
    seq = record.record.seq
    record.seen_at(Network.IPV4, "20.1.2.3")
    assert record.record.seq == seq
    record.seen_at(Network.IPV4, "20.1.2.4")
    assert record.record.seq == seq + 1


def test_i2p_address_is_shown_on_hidden_networks_while_it_can_be_reached(data):
    record, address = own(data), i2p_from_hash(bytes(32))
    record.publish_i2p(address)
    assert (record.record.i2p, record.onion_record.i2p, record.record.seq) == (address, address, 1)
    record.publish_i2p(None)
    assert (record.record.i2p, record.onion_record.i2p, record.record.seq) == (None, None, 2)
