"""Two connections talk to each other, in every chunking, and with peers that misbehave."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import (
    DecodeError,
    HandshakeFailed,
    PeerError,
    ProtocolBreach,
    SelfConnect,
    UnexpectedIdentity,
    UselessPeer,
)
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p import snappy
from relay.protocols.devp2p.capabilities import Capability, SharedCapability
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.events import (
    Connected,
    Disconnected,
    Message,
    PongReceived,
    RemoteIdentified,
)
from relay.protocols.devp2p.messages import DisconnectReason, Hello, encode_disconnect
from relay.protocols.rlpx.framing import HEADER
from tests.aids.devp2p import ETH, ETH_CODES, Pair, Randomness, feed, make_hello

ETH69 = SharedCapability("eth", 69, 16, ETH_CODES)


def raw_frame(connection: DevP2PConnection, code: bytes, body: bytes) -> bytes:
    """What a peer could send that does not keep to the rules."""
    return connection._codec.encode(code, body)


def half_open(seed: object = 0) -> Pair:
    """The RLPx handshake is done on both sides; Hello is on its way from nobody."""
    pair = Pair(seed)
    pair.b.receive(pair.a.take_output())
    pair.a.receive(pair.b._output.pop())
    return pair


@pytest.mark.parametrize("size", [1, 2, 7, 31, 64, 1 << 20])
def test_handshake_in_pieces(size):
    pair = Pair(size).connect(size)
    assert pair.a_events == [
        RemoteIdentified(pair.b_key.public_key),
        Connected(pair.a.remote_hello, (ETH69,)),
    ]
    assert pair.b_events == [
        RemoteIdentified(pair.a_key.public_key),
        Connected(pair.b.remote_hello, (ETH69,)),
    ]
    assert pair.a.handshake_done
    assert pair.b.handshake_done
    assert pair.b.remote_public == pair.a_key.public_key
    assert pair.b.remote_hello.client == "test/1"
    assert not pair.a.take_output()


def test_recipient_is_silent_until_a_whole_auth_came():
    pair = Pair()
    auth = pair.a.take_output()
    assert pair.b.receive(auth[:-1]) == []
    assert pair.b.take_output() == b""
    assert not pair.b.handshake_done
    assert pair.b.receive(auth[-1:]) == [RemoteIdentified(pair.a_key.public_key)]
    assert pair.b.take_output()


@settings(max_examples=40, deadline=None)
@given(
    payloads=st.lists(
        st.one_of(st.binary(max_size=100), st.binary(min_size=1, max_size=8).map(lambda x: x * 800)),
        max_size=8,
    ),
    cuts=st.lists(st.integers(1, 700), min_size=1, max_size=10),
)
def test_messages_arrive_in_order_however_they_are_cut(payloads, cuts):
    pair = Pair().connect()
    stream = b"".join(pair.a.send(16 + index, payload) for index, payload in enumerate(payloads))
    events, position, turn = [], 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        events += pair.b.receive(stream[position : position + step])
        position, turn = position + step, turn + 1
    assert events == [Message(ETH69, index, payload) for index, payload in enumerate(payloads)]
    assert not pair.b._held


def test_large_message_byte_by_byte_holds_one_frame_at_most():
    pair = Pair().connect()
    payload = Randomness("large")(40_000)
    stream = pair.a.send(18, payload) + pair.a.send(18, b"next")
    events = []
    for at in range(len(stream)):
        events += pair.b.receive(stream[at : at + 1])
        assert len(pair.b._held) < 41_000
    assert events == [Message(ETH69, 2, payload), Message(ETH69, 2, b"next")]


def test_packed_message_is_shared_by_peers():
    body = snappy.compress(b"for all")
    for seed in range(3):
        pair = Pair(seed).connect()
        assert pair.b.receive(pair.a.send_packed(18, body)) == [Message(ETH69, 2, b"for all")]


def test_ping_is_answered_and_pong_reported():
    pair = Pair().connect()
    pair.a.ping()
    assert pair.b.receive(pair.a.take_output()) == []
    assert pair.a.receive(pair.b.take_output()) == [PongReceived()]


def test_what_is_queued_leaves_before_a_message():
    pair = Pair().connect()
    pair.b.receive(raw_frame(pair.a, b"\x02", snappy.compress(b"\xc0")))
    assert pair.a.receive(pair.b.send(16, b"\xc0")) == [PongReceived(), Message(ETH69, 0, b"\xc0")]
    assert not pair.b.take_output()


def test_hello_leaves_before_pong_and_messages():
    pair = half_open()
    hello = pair.a.take_output()
    early = raw_frame(pair.a, b"\x02", snappy.compress(b"\xc0"))
    assert isinstance(pair.b.receive(hello + early)[0], Connected)
    events = pair.a.receive(pair.b.send(17, b"\xc0"))
    assert [type(event) for event in events] == [Connected, PongReceived, Message]


def test_hello_leaves_with_the_first_message():
    pair = half_open()
    pair.b.receive(pair.a.take_output())
    events = pair.a.receive(pair.b.send(17, b"\xc0"))
    assert [type(event) for event in events] == [Connected, Message]


@pytest.mark.parametrize("code", [b"\x04", b"\x0f", b"\x80"])
def test_unknown_message_of_the_base_protocol_is_ignored(code):
    pair = Pair().connect()
    assert pair.b.receive(raw_frame(pair.a, code, snappy.compress(b"\xc1\x01"))) == []
    assert pair.b.receive(pair.a.send(16, b"\xc0"))


@pytest.mark.parametrize(
    "code", [rlp.encode_int(16 + ETH_CODES), b"\x7f", b"\x81\x80", b"\x82\x10\x00", b"\x88" + b"\xff" * 8]
)
def test_code_beyond_the_ranges_is_a_breach(code):
    pair = Pair().connect()
    with pytest.raises(ProtocolBreach, match="no shared capability"):
        pair.b.receive(raw_frame(pair.a, code, snappy.compress(b"\xc0")))
    assert pair.a.receive(pair.b.take_output()) == [Disconnected(DisconnectReason.PROTOCOL_BREACH)]


@pytest.mark.parametrize("code", [b"", b"\x00", b"\x81\x05", b"\xc1\x05", b"\x89" + b"\x01" * 9, b"\x82\x01"])
def test_malformed_code_is_a_breach(code):
    pair = Pair().connect()
    with pytest.raises(ProtocolBreach, match="bad message code"):
        pair.b.receive(raw_frame(pair.a, code, b""))


def test_codes_over_one_byte_work_when_there_are_so_many():
    capabilities = [Capability("big", 1, 300)]
    pair = Pair(
        a_hello=lambda key: make_hello(key, capabilities), b_hello=lambda key: make_hello(key, capabilities)
    )
    pair.connect()
    (event,) = pair.b.receive(pair.a.send(16 + 250, b"\xc0"))
    assert (event.code, event.payload) == (250, b"\xc0")


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xff\xff\xff\xff", b"\x05\x00", b"\x80\x80\x80\x08" + b"\xfe" * 50]
)
@pytest.mark.parametrize("code", [b"\x02", b"\x09", b"\x12"])
def test_what_is_not_snappy_is_a_breach(code, body):
    pair = Pair().connect()
    with pytest.raises(ProtocolBreach, match="bad message"):
        pair.b.receive(raw_frame(pair.a, code, body))
    assert pair.b.closed


def test_message_over_the_limit_of_its_capability_is_refused_before_decoding():
    capabilities = [Capability("eth", 69, 18, max_message=1000)]
    pair = Pair(b_hello=lambda key: make_hello(key, capabilities)).connect()
    assert pair.b.receive(pair.a.send(16, bytes(1000)))
    with pytest.raises(ProtocolBreach, match="at most 1000"):
        pair.b.receive(pair.a.send(16, bytes(1001)))


# -- Disconnect ------------------------------------------------------------------------------------------


def test_disconnect_ends_both_sides():
    pair = Pair().connect()
    message = pair.a.send(16, b"\xc0")
    pair.a.disconnect(DisconnectReason.CLIENT_QUITTING)
    events = pair.b.receive(message + pair.a.take_output() + b"anything")
    assert events == [Message(ETH69, 0, b"\xc0"), Disconnected(DisconnectReason.CLIENT_QUITTING)]
    assert pair.a.closed
    assert pair.b.closed
    assert pair.b.receive(b"more") == []
    assert pair.b.send(16, b"\xc0") == b""
    assert pair.b.send_packed(16, b"\xc0") == b""
    pair.b.ping()
    pair.b.disconnect(0)
    assert pair.b.take_output() == b""


@pytest.mark.parametrize("payload", [b"\xc1\x04", b"\x04"])
def test_disconnect_is_understood_packed_and_plain(payload):
    for body in (payload, snappy.compress(payload)):
        pair = Pair().connect()
        assert pair.b.receive(raw_frame(pair.a, b"\x01", body)) == [Disconnected(4)]


def test_refusal_comes_in_place_of_hello_and_plain():
    pair = Pair()
    pair.b.receive(pair.a.take_output())
    ack = pair.b._output[0]
    pair.b.disconnect(DisconnectReason.TOO_MANY_PEERS)
    refusal = pair.b.take_output()
    events = pair.a.receive(refusal)
    assert events == [RemoteIdentified(pair.b_key.public_key), Disconnected(DisconnectReason.TOO_MANY_PEERS)]
    assert len(refusal) == len(ack) + 64


def test_disconnect_between_our_hello_and_theirs_is_packed_as_our_hello_promised():
    pair = half_open()
    hello = pair.b.take_output()
    pair.b.disconnect(DisconnectReason.TIMEOUT)
    connected, disconnected = pair.a.receive(hello + pair.b.take_output())
    assert isinstance(connected, Connected)
    assert disconnected == Disconnected(DisconnectReason.TIMEOUT)


@pytest.mark.parametrize("body", [b"\xc1\x04", snappy.compress(b"\xc1\x04"), b"\x04"])
def test_first_message_may_be_a_disconnect(body):
    pair = half_open()
    assert pair.b.receive(raw_frame(pair.a, b"\x01", body)) == [Disconnected(4)]


def test_disconnect_before_the_handshake_says_nothing():
    pair = Pair()
    pair.a.disconnect(DisconnectReason.REQUESTED)
    assert pair.a.take_output() == b""
    assert pair.a.closed


def test_older_base_protocol_is_spoken_without_compression():
    pair = Pair(
        a_hello=lambda key: make_hello(key, version=4), b_hello=lambda key: make_hello(key, version=4)
    )
    pair.connect()
    assert pair.b.receive(pair.a.send(16, b"plain")) == [Message(ETH69, 0, b"plain")]
    assert pair.b.receive(pair.a.send_packed(16, snappy.compress(b"plain"))) == [Message(ETH69, 0, b"plain")]
    pair.a.ping()
    pair.b.receive(pair.a.take_output())
    assert pair.a.receive(pair.b.take_output()) == [PongReceived()]
    pair.b.disconnect(8)
    assert pair.a.receive(pair.b.take_output()) == [Disconnected(8)]


# -- handshakes that fail --------------------------------------------------------------------------------


def test_ephemeral_key_is_forgotten_after_the_handshake():
    pair = Pair().connect()
    assert pair.a._handshake is None
    assert pair.b._handshake is None


def test_recipient_answers_nothing_to_a_bad_auth():
    pair = Pair()
    auth = bytearray(pair.a.take_output())
    auth[100] ^= 1
    with pytest.raises(HandshakeFailed):
        pair.b.receive(bytes(auth))
    assert pair.b.take_output() == b""
    assert pair.b.closed


def test_impossible_size_fails_at_its_second_byte():
    pair = Pair()
    assert pair.b.receive(b"\xff") == []
    with pytest.raises(HandshakeFailed, match="65535"):
        pair.b.receive(b"\xff")
    assert pair.b.take_output() == b""


def test_initiator_refuses_an_ack_of_another_node():
    pair, other = Pair(1), Pair(2)
    other.b.receive(other.a.take_output())
    with pytest.raises(HandshakeFailed, match="bad ack"):
        pair.a.receive(other.b.take_output())


def test_first_frame_of_somebody_without_the_secrets_fails_the_handshake():
    pair = half_open()
    with pytest.raises(HandshakeFailed, match="first frame"):
        pair.b.receive(bytes(100))
    assert pair.b.take_output() == b""


def test_later_frame_that_is_not_authentic_is_a_breach_without_an_answer():
    pair = Pair().connect()
    frame = bytearray(pair.a.send(16, b"\xc0"))
    frame[-1] ^= 1
    with pytest.raises(ProtocolBreach, match="MAC"):
        pair.b.receive(bytes(frame))
    assert pair.b.take_output() == b""


def test_connection_to_oneself_is_noticed_by_both_ends():
    rand = Randomness("self")
    key = NodeKey.generate(rand)
    a = DevP2PConnection.initiator(key, key.public_key, make_hello(key), rand)
    b = DevP2PConnection.recipient(key, make_hello(key), rand)
    with pytest.raises(SelfConnect):
        b.receive(a.take_output())
    with pytest.raises(SelfConnect):
        a.receive(b.take_output())


def test_no_shared_capability_makes_a_useless_peer():
    pair = Pair(b_hello=lambda key: make_hello(key, [Capability("eth", 67, 17)]))
    with pytest.raises(UselessPeer):
        pair.connect()
    assert pair.b.receive(pair.a.take_output()) == [Disconnected(DisconnectReason.USELESS_PEER)]


def test_useless_peer_is_told_why():
    pair = half_open()
    hello = make_hello(pair.a_key, [Capability("les", 4, 1)])
    with pytest.raises(UselessPeer):
        pair.b.receive(raw_frame(pair.a, b"\x80", hello.encode()))
    assert pair.a.receive(pair.b.take_output()) == [Disconnected(DisconnectReason.USELESS_PEER)]


def test_hello_with_another_key_is_an_unexpected_identity():
    pair = half_open()
    hello = make_hello(NodeKey(b"\x09" * 32))
    with pytest.raises(UnexpectedIdentity, match="another key") as caught:
        pair.b.receive(raw_frame(pair.a, b"\x80", hello.encode()))
    assert caught.value.reason == DisconnectReason.UNEXPECTED_IDENTITY


@pytest.mark.parametrize("key", [bytes(64), b"", b"\x01" * 63, b"\x01" * 65])
def test_hello_without_a_key_is_an_invalid_identity(key):
    pair = half_open()
    hello = Hello(5, "x", ETH, 0, key)
    with pytest.raises(UnexpectedIdentity) as caught:
        pair.b.receive(raw_frame(pair.a, b"\x80", hello.encode()))
    assert caught.value.reason == DisconnectReason.INVALID_IDENTITY


@pytest.mark.parametrize("code", [b"\x02", b"\x03", b"\x10"])
def test_first_message_that_is_neither_hello_nor_disconnect_is_a_breach(code):
    pair = half_open()
    with pytest.raises(ProtocolBreach, match="first message"):
        pair.b.receive(raw_frame(pair.a, code, b"\xc0"))


def test_hello_that_does_not_decode_is_a_breach():
    pair = half_open()
    with pytest.raises(ProtocolBreach, match="bad Hello"):
        pair.b.receive(raw_frame(pair.a, b"\x80", b"\xc0"))


def test_hello_may_have_2048_bytes_and_no_more():
    for client, refused in (("x" * 1961, False), ("x" * 1962, True)):
        pair = half_open()
        payload = make_hello(pair.a_key, client=client).encode()
        assert (len(payload) > 2048) is refused
        frame = raw_frame(pair.a, b"\x80", payload)
        if refused:
            with pytest.raises(ProtocolBreach, match="Hello of 2049 bytes"):
                pair.b.receive(frame)
        else:
            assert isinstance(pair.b.receive(frame)[0], Connected)


def test_huge_first_frame_is_refused_by_its_header():
    pair = half_open()
    frame = raw_frame(pair.a, b"\x80", bytes(5000))
    with pytest.raises(ProtocolBreach, match="at most"):
        pair.b.receive(frame[:HEADER])


def test_second_hello_is_ignored():
    pair = Pair().connect()
    assert pair.b.receive(raw_frame(pair.a, b"\x80", snappy.compress(make_hello(pair.a_key).encode()))) == []


# -- our own mistakes ------------------------------------------------------------------------------------


def test_our_capabilities_need_lengths():
    key = NodeKey(b"\x01" * 32)
    with pytest.raises(ValueError, match="lengths"):
        DevP2PConnection.recipient(key, make_hello(key, [Capability("eth", 69)]), Randomness())


def test_nothing_is_sent_before_the_capabilities_are_known():
    pair = half_open()
    with pytest.raises(RuntimeError, match="capabilities"):
        pair.a.send(16, b"\xc0")
    pair.a.ping()
    assert pair.a._output == []


def test_dialing_what_is_no_key_is_refused():
    key = NodeKey(b"\x01" * 32)
    with pytest.raises(DecodeError):
        DevP2PConnection.initiator(key, bytes(64), make_hello(key), Randomness())


# -- hostile bytes ---------------------------------------------------------------------------------------


@given(garbage=st.binary(max_size=300), cut=st.integers(1, 50))
def test_garbage_only_ends_the_peer(garbage, cut):
    for established in (False, True):
        connection = Pair().connect().b if established else Pair().b
        try:
            feed(connection, garbage, cut)
        except PeerError:
            assert connection.closed
        assert len(connection._held) <= 2048 + 2


@settings(max_examples=60, deadline=None)
@given(code=st.binary(min_size=1, max_size=3), body=st.binary(max_size=60), packed=st.booleans())
def test_authentic_garbage_only_ends_the_peer(code, body, packed):
    for pair in (Pair().connect(), half_open()):
        try:
            pair.b.receive(raw_frame(pair.a, code, snappy.compress(body) if packed else body))
        except PeerError:
            assert pair.b.closed


@settings(max_examples=60, deadline=None)
@given(position=st.integers(min_value=0), bit=st.integers(0, 7), cut=st.integers(1, 300))
def test_flipped_bit_anywhere_is_noticed(position, bit, cut):
    pair = Pair().connect()
    stream = bytearray(pair.a.send(16, b"one") + pair.a.send(17, bytes(500)))
    stream[position % len(stream)] ^= 1 << bit
    with pytest.raises(ProtocolBreach):
        feed(pair.b, bytes(stream) + bytes(64), cut)


def test_disconnect_payload_is_as_geth_sends_it():
    assert encode_disconnect(4) == b"\xc1\x04"
