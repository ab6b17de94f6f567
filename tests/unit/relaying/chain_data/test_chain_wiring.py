"""Chain data as part of the relay: which messages lead to it, and what the rest of the relay tells it."""

from __future__ import annotations

import pytest

from relay.primitives.errors import ProtocolBreach, SubprotocolError
from relay.protocols.eth import messages as m
from relay.protocols.pyrelay.messages import Answer, Ask
from relay.relaying.chain_data.capability import RelayCapability
from tests.aids.blocks import chain
from tests.aids.relaying import House, RecordingSession

BLOCKS = chain(64)
STATUS = m.BlockRangeUpdate(0, 63, BLOCKS[63].hash)


def house_with_a_source():
    house = House()
    source = house.join(version=70, name="source", trusted=True)
    house.relay.message(source, STATUS.CODE, STATUS.encode(70))
    return house, source, house.join(version=69, inbound=True)


def test_requests_go_to_peers_and_answers_come_back_with_the_askers_id():
    house, source, asker = house_with_a_source()
    request = m.GetBlockHeaders(5, BLOCKS[9].hash, 1)
    house.relay.message(asker, request.CODE, request.encode(69))
    (payload,) = source.take(request.CODE)
    asked = m.GetBlockHeaders.decode(payload, 70)
    answer = m.BlockHeaders(asked.request_id, (BLOCKS[9].raw,))
    house.relay.message(source, answer.CODE, answer.encode(70))
    assert asker.take(0x04) == [m.BlockHeaders(5, (BLOCKS[9].raw,)).encode(69)]
    assert house.relay.counters.chain.from_peers == 1


def test_a_liar_is_told_that_it_broke_the_protocol():
    house, source, asker = house_with_a_source()
    request = m.GetBlockHeaders(5, BLOCKS[9].hash, 1)
    house.relay.message(asker, request.CODE, request.encode(69))
    (payload,) = source.take(request.CODE)
    answer = m.BlockHeaders(m.GetBlockHeaders.decode(payload, 70).request_id, (BLOCKS[8].raw,))
    house.relay.message(source, answer.CODE, answer.encode(70))
    assert source.ended[0] == ProtocolBreach.default_reason
    assert house.relay.counters.offences == {"chain data": 1}
    assert asker.take(0x04) == [m.BlockHeaders(5, ()).encode(69)]


@pytest.mark.parametrize("message", [m.BlockHeaders(1, ()), m.BlockBodies(1, ()), m.Receipts(1, ())])
def test_answers_that_nobody_asked_for_are_offences(message):
    house, source, _ = house_with_a_source()
    with pytest.raises(SubprotocolError):
        house.relay.message(source, message.CODE, message.encode(70))
    assert house.relay.counters.offences == {f"{message.CODE:#04x}": 1}


def test_who_leaves_is_asked_nothing_more():
    house, source, asker = house_with_a_source()
    house.relay.left(source, 8)
    request = m.GetBlockBodies(5, (BLOCKS[9].hash,))
    house.relay.message(asker, request.CODE, request.encode(69))
    assert asker.take(0x06) == [m.BlockBodies(5, ()).encode(69)]


def test_what_relays_say_among_them_comes_in_by_its_own_door():
    house, source, _ = house_with_a_source()
    door = RelayCapability(house.relay)
    other = house.join(version=70, capabilities=("pyrelay",))
    question = m.GetBlockHeaders(5, BLOCKS[9].hash, 1)
    door.message(other, 0x00, Ask(1, 1000, question.CODE, question.encode(71)).encode())
    assert len(source.take(question.CODE)) == 1
    house.loop.advance(2.0)
    assert other.foreign == [("pyrelay", 0x01, Answer(0x04, m.BlockHeaders(5, ()).encode(71)).encode())]
    with pytest.raises(SubprotocolError):
        door.message(other, 0x05, b"\xc0")
    assert house.relay.counters.offences == {"pyrelay": 1}
    door.message(RecordingSession(), 0x05, b"\xc0")  # a stranger
