"""The messages of eth, against geth's vectors and against geth's strictness."""

import pytest
import rlp as reference
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import rlp
from relay.primitives.errors import PeerError, ProtocolBreach, SubprotocolError
from relay.primitives.forkid import ForkId
from relay.protocols.eth import messages as m
from relay.protocols.eth.versions import BY_VERSION
from tests.aids.vectors import load

VECTORS = load("eth/messages.json")
EMPTY = bytes.fromhex(VECTORS["empty"])
DEADC0DE, FEEDBEEF = (bytes.fromhex(each) for each in VECTORS["hashes"])
TXS = tuple(bytes.fromhex(each) for each in VECTORS["transactions"])
HASH = b"\x11" * 32
MASK = bytes(range(16))
FORK = ForkId(b"\x01\x02\x03\x04", 99)

EXPECTED = {
    "GetBlockHeaders": [
        m.GetBlockHeaders(1111, DEADC0DE, 5, 5, False),
        m.GetBlockHeaders(1111, 9999, 5, 5, False),
    ],
    "GetBlockBodies": [m.GetBlockBodies(1111, (DEADC0DE, FEEDBEEF))],
    "GetReceipts": [m.GetReceipts(1111, (DEADC0DE, FEEDBEEF))],
    "GetPooledTransactions": [m.GetPooledTransactions(1111, (DEADC0DE, FEEDBEEF))],
    "PooledTransactions": [m.PooledTransactions(1111, TXS)],
}

SAMPLES = [
    (68, m.Status(68, 1, HASH, FORK, td=2**80, head=b"\x22" * 32)),
    *(
        (version, m.Status(version, 7799, HASH, FORK, 3, 2**64 - 1, b"\x33" * 32))
        for version in (69, 70, 71, 72)
    ),
    (68, m.Transactions(TXS)),
    (72, m.Transactions(())),
    (68, m.GetBlockHeaders(0, 0, 0)),
    (70, m.GetBlockHeaders(2**64 - 1, HASH, 1, 2, True)),
    (70, m.BlockHeaders(1, (b"\xc0", b"\xc1\x01"))),
    (70, m.GetBlockBodies(1, ())),
    (70, m.BlockBodies(1, (b"\xc3\xc0\xc0\xc0",))),
    (71, m.NewPooledTransactionHashes(b"\x02", [128], (HASH,))),
    (71, m.NewPooledTransactionHashes(b"", [], ())),
    (71, m.NewPooledTransactionHashes(b"\x00\x02\x03", [1, 256, 2**32 - 1], (HASH, DEADC0DE, FEEDBEEF))),
    (72, m.NewPooledTransactionHashes(b"\x03\x03", [0, 131], (HASH, HASH), MASK)),
    (69, m.GetPooledTransactions(5, (HASH,))),
    (69, m.PooledTransactions(5, (b"\x82\x02\x03", *TXS))),
    (68, m.GetReceipts(5, (HASH,))),
    (70, m.GetReceipts(5, (HASH,), 17)),
    (69, m.Receipts(5, (b"\xc0", b"\xc1\xc0"))),
    (70, m.Receipts(5, (b"\xc0",), True)),
    (69, m.BlockRangeUpdate(1, 1, HASH)),
    (71, m.GetBlockAccessLists(6, (HASH, DEADC0DE))),
    (71, m.BlockAccessLists(6, (b"\x80", b"\xc0", b"\xc1\x01"))),
    (72, m.GetCells(7, (HASH,), MASK)),
    (72, m.Cells(7, (HASH, DEADC0DE), ((b"\x01" * 2048,), (bytes(2048), bytes(2048))), MASK)),
    (72, m.Cells(7, (), (), MASK)),
]


def check_both_ways(message: m.EthMessage, version: int, payload: bytes) -> None:
    assert message.encode(version) == payload
    assert BY_VERSION[version].decode(message.CODE, payload) == message


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["message"])
def test_vector_of_geth_survives_decoding_and_encoding(vector):
    payload = bytes.fromhex(vector["payload"])
    version = vector["version"] or 71
    code = getattr(m, vector["message"]).CODE
    message = BY_VERSION[version].decode(code, payload)
    assert type(message).__name__ == vector["message"]
    assert message.request_id == VECTORS["request_id"]
    assert message.encode(version) == payload


@pytest.mark.parametrize("name", EXPECTED)
def test_vector_of_geth_means_what_geth_says(name):
    payloads = [bytes.fromhex(each["payload"]) for each in VECTORS["messages"] if each["message"] == name]
    for message, payload in zip(EXPECTED[name], payloads, strict=True):
        check_both_ways(message, 69, payload)


@pytest.mark.parametrize(
    "message",
    [
        m.BlockHeaders(1111, ()),
        m.GetBlockBodies(1111, ()),
        m.BlockBodies(1111, ()),
        m.GetReceipts(1111, ()),
        m.Receipts(1111, ()),
        m.GetPooledTransactions(1111, ()),
        m.PooledTransactions(1111, ()),
    ],
    ids=lambda message: type(message).__name__,
)
def test_empty_messages_are_as_geth_encodes_them(message):
    check_both_ways(message, 69, EMPTY)


@pytest.mark.parametrize(("version", "message"), SAMPLES, ids=lambda value: str(value)[:30])
def test_round_trip(version, message):
    check_both_ways(message, version, message.encode(version))


@pytest.mark.parametrize(("version", "message"), SAMPLES, ids=lambda value: str(value)[:30])
def test_bytes_after_the_list_are_ignored_as_geth_does(version, message):
    assert type(message).decode(message.encode(version) + b"\xff\x00", version) == message


@pytest.mark.parametrize(("version", "message"), SAMPLES, ids=lambda value: str(value)[:30])
def test_cut_messages_and_further_fields_are_refused(version, message):
    payload = message.encode(version)
    for end in {0, 1, len(payload) // 2, len(payload) - 1} - {len(payload)}:
        with pytest.raises(ProtocolBreach):
            type(message).decode(payload[:end], version)
    if isinstance(message, m.Transactions):
        return
    items = reference.decode(payload)
    with pytest.raises(ProtocolBreach, match=r"found|more than"):
        type(message).decode(rlp.encode([*items, b"\x01"]), version)
    with pytest.raises(ProtocolBreach):
        type(message).decode(rlp.encode(items[:-1]), version)


def status_69(**changed) -> bytes:
    fields = {
        "version": 69,
        "network": 1,
        "genesis": HASH,
        "fork": [b"\x01\x02\x03\x04", 0],
        "earliest": 0,
        "latest": 10,
        "hash": HASH,
        **changed,
    }
    return rlp.encode(list(fields.values()))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"version": 2**32}, ProtocolBreach),
        ({"network": 2**64}, ProtocolBreach),
        ({"network": b"\x00\x01"}, ProtocolBreach),
        ({"network": b"\x00"}, ProtocolBreach),
        ({"network": [1]}, ProtocolBreach),
        ({"genesis": bytes(31)}, ProtocolBreach),
        ({"genesis": bytes(33)}, ProtocolBreach),
        ({"fork": b"\x01\x02\x03\x04"}, ProtocolBreach),
        ({"fork": [b"\x01\x02\x03", 0]}, ProtocolBreach),
        ({"fork": [b"\x01\x02\x03\x04", 0, 0]}, ProtocolBreach),
        ({"fork": [b"\x01\x02\x03\x04"]}, ProtocolBreach),
        ({"fork": [b"\x01\x02\x03\x04", 2**64]}, ProtocolBreach),
        ({"hash": b""}, ProtocolBreach),
        ({"earliest": 11}, SubprotocolError),
        ({"hash": bytes(32)}, SubprotocolError),
    ],
)
def test_status_that_geth_refuses_is_refused(changed, error):
    assert m.Status.decode(status_69(), 69).fork_id == ForkId(b"\x01\x02\x03\x04", 0)
    with pytest.raises(error):
        m.Status.decode(status_69(**changed), 69)


def test_status_of_68_has_no_range_to_check():
    payload = m.Status(68, 1, HASH, FORK, td=0, head=HASH).encode(68)
    assert m.Status.decode(payload, 68).latest_hash == bytes(32)


@pytest.mark.parametrize(
    "query",
    [
        [bytes(31), 1, 0, 0],
        [bytes(33), 1, 0, 0],
        [b"\x01" * 9, 1, 0, 0],
        [b"\x00", 1, 0, 0],
        [[1], 1, 0, 0],
        [1, 2**64, 0, 0],
        [1, 1, 0, 2],
        [1, 1, 0, b"\x00"],
        [1, 1, 0],
        [1, 1, 0, 0, 0],
        b"",
        [],
    ],
)
def test_header_request_that_geth_refuses_is_refused(query):
    with pytest.raises(ProtocolBreach, match="bad GetBlockHeaders"):
        m.GetBlockHeaders.decode(rlp.encode([1, query]), 69)


@pytest.mark.parametrize(
    ("kind", "version", "fields"),
    [
        (m.GetBlockBodies, 69, [1, [bytes(31)]]),
        (m.GetBlockBodies, 69, [1, [HASH, bytes(33)]]),
        (m.GetBlockBodies, 69, [1, [[HASH]]]),
        (m.GetBlockBodies, 69, [1, HASH]),
        (m.GetBlockBodies, 69, [2**64, [HASH]]),
        (m.BlockHeaders, 69, [1, [b"\x01"]]),
        (m.BlockBodies, 69, [1, [[], b""]]),
        (m.BlockBodies, 69, [1, b"text"]),
        (m.Receipts, 70, [1, 2, []]),
        (m.Receipts, 70, [1, 0, [b""]]),
        (m.GetReceipts, 70, [1, [HASH]]),
        (m.NewPooledTransactionHashes, 71, [b"\x02", [2**32], [HASH]]),
        (m.NewPooledTransactionHashes, 71, [b"\x02", [b"\x00"], [HASH]]),
        (m.NewPooledTransactionHashes, 71, [b"\x02", [b"\x00\x01"], [HASH]]),
        (m.NewPooledTransactionHashes, 71, [b"\x02", [[]], [HASH]]),
        (m.NewPooledTransactionHashes, 71, [b"\x02", b"\x05", [HASH]]),
        (m.NewPooledTransactionHashes, 71, [[b"\x02"], [5], [HASH]]),
        (m.NewPooledTransactionHashes, 71, [b"\x02", [5], [HASH], MASK]),
        (m.NewPooledTransactionHashes, 72, [b"\x02", [5], [HASH]]),
        (m.NewPooledTransactionHashes, 72, [b"\x02", [5], [HASH], MASK + b"\x00"]),
        (m.GetCells, 72, [1, [HASH], bytes(15)]),
        (m.Cells, 72, [1, [HASH], [[bytes(2047)]], MASK]),
        (m.Cells, 72, [1, [HASH], [bytes(2048)], MASK]),
    ],
)
def test_message_that_geth_refuses_is_refused(kind, version, fields):
    with pytest.raises(ProtocolBreach, match=f"bad {kind.__name__}"):
        kind.decode(rlp.encode(fields), version)


@pytest.mark.parametrize("fields", [[b"\x02\x02", [5], [HASH]], [b"\x02", [5, 5], [HASH]], [b"", [], [HASH]]])
def test_announcement_of_unequal_lists_is_refused(fields):
    with pytest.raises(SubprotocolError, match="announcement of"):
        m.NewPooledTransactionHashes.decode(rlp.encode(fields), 71)


@pytest.mark.parametrize(
    "update", [m.BlockRangeUpdate(2, 1, HASH), m.BlockRangeUpdate(0, 1, bytes(32))], ids=["order", "hash"]
)
def test_block_range_that_cannot_be_is_refused(update):
    with pytest.raises(SubprotocolError, match="block range"):
        m.BlockRangeUpdate.decode(update.encode(69), 69)


def test_size_in_a_long_form_is_refused():
    for sizes in (b"\xc2\x81\x05", b"\xc3\x82\x00\x80", b"\xc2\x82\x01", b"\xc5\xb8\x01\x05\x05\x05"):
        payload = b"".join((b"\x02", sizes, rlp.encode([HASH])))
        with pytest.raises(ProtocolBreach):
            m.NewPooledTransactionHashes.decode(rlp.list_header(len(payload)) + payload, 71)


# -- empty answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "request_", "answer"),
    [
        (68, m.GetBlockHeaders(9, 1, 1), m.BlockHeaders(9, ())),
        (69, m.GetBlockBodies(9, (HASH,)), m.BlockBodies(9, ())),
        (69, m.GetPooledTransactions(9, (HASH,)), m.PooledTransactions(9, ())),
        (68, m.GetReceipts(9, (HASH,)), m.Receipts(9, ())),
        (69, m.GetReceipts(9, (HASH,)), m.Receipts(9, ())),
        (70, m.GetReceipts(9, (HASH,), 4), m.Receipts(9, ())),
        (72, m.GetReceipts(9, (HASH,), 4), m.Receipts(9, ())),
        (71, m.GetBlockAccessLists(9, (HASH, HASH)), m.BlockAccessLists(9, (b"\x80", b"\x80"))),
        (71, m.GetBlockAccessLists(9, (HASH,) * 2000), m.BlockAccessLists(9, (b"\x80",) * 1024)),
        (72, m.GetCells(9, (HASH,), MASK), m.Cells(9, (), (), MASK)),
    ],
)
def test_request_gets_its_empty_answer(version, request_, answer):
    code, payload = m.empty_response(version, request_.CODE, request_.encode(version))
    assert (code, payload) == (answer.CODE, answer.encode(version))
    assert BY_VERSION[version].decode(code, payload) == answer


def test_empty_receipts_differ_by_version():
    assert m.empty_response(69, 0x0F, rlp.encode([1, [HASH]])) == (0x10, bytes.fromhex("c201c0"))
    assert m.empty_response(70, 0x0F, rlp.encode([1, 0, [HASH]])) == (0x10, bytes.fromhex("c30180c0"))


@pytest.mark.parametrize(("version", "code"), [(69, 0x02), (69, 0x10), (70, 0x12), (71, 0x14), (72, 0x99)])
def test_what_is_no_request_gets_no_answer(version, code):
    assert m.empty_response(version, code, b"\xc0") is None


@pytest.mark.parametrize("code", m.REQUESTS)
def test_malformed_request_is_a_breach(code):
    with pytest.raises(ProtocolBreach):
        m.empty_response(72, code, b"\xc1\x01")


# -- hostile bytes ---------------------------------------------------------------------------------------

items = st.recursive(st.binary(max_size=40), lambda inner: st.lists(inner, max_size=5), max_leaves=12)


@given(
    version=st.sampled_from(sorted(BY_VERSION)),
    code=st.integers(0, 0x16),
    item=items,
    junk=st.binary(max_size=3),
)
def test_any_rlp_decodes_canonically_or_is_the_peers_fault(version, code, item, junk):
    payload = rlp.encode(item) + junk
    try:
        message = BY_VERSION[version].decode(code, payload)
    except PeerError:
        return
    encoded = message.encode(version)
    assert payload.startswith(encoded)


@given(version=st.sampled_from(sorted(BY_VERSION)), code=st.integers(0, 0x16), payload=st.binary(max_size=80))
def test_any_bytes_decode_or_are_the_peers_fault(version, code, payload):
    try:
        BY_VERSION[version].decode(code, payload)
    except PeerError:
        return


def test_nesting_is_not_followed():
    bomb = b""
    for _ in range(3000):
        bomb = rlp.list_header(len(bomb)) + bomb
    payload = rlp.list_header(len(bomb) + 1) + b"\x01" + bomb
    for version in BY_VERSION.values():
        for code in version.messages:
            try:
                version.decode(code, payload)
            except PeerError:
                continue


def _list(payload: bytes) -> bytes:
    return rlp.list_header(len(payload)) + payload


@pytest.mark.parametrize("item", [b"\xc0", b"\x80", b"\x01"])
@pytest.mark.parametrize("version", [68, 69, 70, 71, 72])
def test_more_items_than_a_message_can_have_are_not_looked_at(version, item):
    many = _list(item * 100_000)
    payloads = [many, _list(b"\x01" + many), _list(b"\x01\x80" + many), _list(b"\x01\xc0" + _list(many))]
    for code in BY_VERSION[version].messages:
        for payload in payloads[:1] if code == m.Transactions.CODE else payloads:
            with pytest.raises(PeerError):
                BY_VERSION[version].decode(code, payload)


@pytest.mark.parametrize(
    ("kind", "most"), [(m.BlockHeaders, 1024), (m.BlockBodies, 1024), (m.Receipts, 1024)]
)
def test_an_answer_has_as_many_items_as_anybody_serves(kind, most):
    kind.decode(kind(1, (b"\xc0",) * most).encode(69), 69)
    with pytest.raises(ProtocolBreach, match="more than 1024 items"):
        kind.decode(kind(1, (b"\xc0",) * (most + 1)).encode(69), 69)


def test_of_a_request_only_so_many_hashes_are_kept_as_anybody_answers():
    for kind in (m.GetBlockBodies, m.GetReceipts, m.GetPooledTransactions):
        assert len(kind.decode(kind(1, (HASH,) * 5000).encode(69), 69).hashes) == 4096


def test_a_fork_id_is_short():
    payload = _list(b"\x45\x01" + rlp.encode(HASH) + _list(b"\xc0" * 1000) + b"\x80\x80" + rlp.encode(HASH))
    with pytest.raises(ProtocolBreach, match="fork id"):
        m.Status.decode(payload, 69)
