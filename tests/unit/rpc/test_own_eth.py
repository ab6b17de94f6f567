"""eth_*, txpool_* and relay_* from our own pool: what is said, and above all what no upstream hears."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.rpc.errors import RpcError
from relay.rpc.forwarding import Forwarding
from relay.rpc.messages import Call, RawJson
from relay.rpc.transaction_json import checksum_address
from tests.aids.own_answers import ChainUpstream, make_dispatcher
from tests.aids.relaying import GWEI, UNIX_NOW, House, item, item_hash, key, raw_tx

FAILED = RpcError(-32000, "upstream is ill")
STRANGER = "0x" + "77" * 32


class Wallet:
    """A relay with two peers and perhaps an upstream, as a wallet sees it."""

    def __init__(self, upstream: ChainUpstream | None = None) -> None:
        self.house = House(2)
        self.upstream = upstream
        self.dispatcher = make_dispatcher(self.house, upstream)

    def send(self, **kwargs: Any) -> bytes:
        return self.house.relay.submit(raw_tx(**kwargs))

    def receive(self, **kwargs: Any) -> bytes:
        self.house.push(self.house.sessions[0], item(**kwargs))
        return item_hash(item(**kwargs))

    async def answer(self, method: str, *params: object) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        told: dict[str, Any] = json.loads(await self.dispatcher.answer(json.dumps(request).encode()))
        return told

    async def ask(self, method: str, *params: object) -> Any:
        told = await self.answer(method, *params)
        assert "error" not in told, told
        return told["result"]

    async def error(self, method: str, *params: object) -> tuple[int, str]:
        error = (await self.answer(method, *params))["error"]
        return error["code"], error["message"]


def text(tx_hash: bytes) -> str:
    return "0x" + tx_hash.hex()


def address_of(account: int) -> str:
    return "0x" + key(account).node_id[12:].hex()


# -- without an upstream -------------------------------------------------------------------------------


async def test_a_relay_alone_answers_what_it_knows():
    wallet = Wallet()
    assert await wallet.ask("eth_blockNumber") == "0x0"
    assert await wallet.ask("eth_syncing") is False
    assert await wallet.ask("eth_accounts") == []


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("eth_gasPrice", []),
        ("eth_call", [{}, "latest"]),
        ("eth_getBalance", [address_of(1), "latest"]),
        ("eth_getTransactionCount", [address_of(1), "pending"]),
        ("eth_getTransactionByHash", [STRANGER]),
        ("eth_getRawTransactionByHash", [STRANGER]),
        ("eth_getTransactionReceipt", [STRANGER]),
    ],
)
async def test_what_only_a_chain_answers_says_what_is_missing(method, params):
    words = f"{method} needs a node with the chain: start this relay with --rpc-upstream URL"
    assert await Wallet().error(method, *params) == (-32004, words)


async def test_what_does_not_exist_does_not_exist():
    words = "the method eth_foo does not exist/is not available"
    assert await Wallet().error("eth_foo") == (-32601, words)


async def test_a_pending_transaction_is_shown_and_has_no_receipt():
    wallet = Wallet()
    own, other = wallet.send(account=1), wallet.receive(account=2)
    for tx_hash in (own, other):
        shown = await wallet.ask("eth_getTransactionByHash", text(tx_hash))
        assert (shown["hash"], shown["blockHash"], shown["blockNumber"]) == (text(tx_hash), None, None)
        assert await wallet.ask("eth_getTransactionReceipt", text(tx_hash)) is None
        raw = await wallet.ask("eth_getRawTransactionByHash", text(tx_hash))
        assert raw in (text(raw_tx(account=1)), text(raw_tx(account=2)))


async def test_pending_transactions_are_those_of_our_users():
    wallet = Wallet()
    own = wallet.send(account=1)
    wallet.receive(account=2)
    assert [each["hash"] for each in await wallet.ask("eth_pendingTransactions")] == [text(own)]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ([], "missing value for required argument 0"),
        ([None], "missing value for required argument 0"),
        ([5], "invalid argument 0: json: cannot unmarshal non-string into Go value of type common.Hash"),
        (["0x12"], "invalid argument 0: hex string has length 2, want 64 for common.Hash"),
        ([""], "invalid argument 0: hex string has length 0, want 64 for common.Hash"),
        (
            ["0x123"],
            "invalid argument 0: json: cannot unmarshal hex string of odd length into Go value of type"
            " common.Hash",
        ),
        (
            ["ab" * 32],
            "invalid argument 0: json: cannot unmarshal hex string without 0x prefix into Go value of type"
            " common.Hash",
        ),
        (
            ["0x" + "zz" * 32],
            "invalid argument 0: json: cannot unmarshal invalid hex string into Go value of type common.Hash",
        ),
        ([STRANGER, 1], "too many arguments, want at most 1"),
    ],
)
async def test_hashes_are_read_in_geths_words(params, words):
    assert await Wallet().error("eth_getTransactionByHash", *params) == (-32602, words)


# -- with an upstream ----------------------------------------------------------------------------------


@pytest.fixture
def upstream() -> ChainUpstream:
    made = ChainUpstream()
    made.mine(at=UNIX_NOW - 10_000)
    made.mine(at=UNIX_NOW - 5_000)
    return made


@pytest.fixture
def wallet(upstream: ChainUpstream) -> Wallet:
    return Wallet(upstream)


async def test_calls_pass_with_their_parameters(wallet, upstream):
    upstream.answers["eth_call"] = "0x2a"
    assert await wallet.ask("eth_call", {"to": address_of(1)}, "latest") == "0x2a"
    upstream.answers["eth_blockNumber"], upstream.answers["eth_syncing"] = "0x7", {"currentBlock": "0x1"}
    assert await wallet.ask("eth_blockNumber") == "0x7"
    assert await wallet.ask("eth_syncing") == {"currentBlock": "0x1"}
    upstream.answers["eth_gasPrice"] = FAILED
    assert await wallet.error("eth_gasPrice") == (-32000, "upstream is ill")


async def test_an_own_transaction_is_never_named(wallet, upstream):
    own = wallet.send(account=1)
    wallet.house.loop.advance(1)
    assert (await wallet.ask("eth_getTransactionByHash", text(own)))["hash"] == text(own)
    assert await wallet.ask("eth_getTransactionReceipt", text(own)) is None
    assert await wallet.ask("eth_getRawTransactionByHash", text(own)) == text(raw_tx(account=1))
    block = upstream.mine(bytes(32), own)
    wallet.house.loop.advance(1)
    receipt = await wallet.ask("eth_getTransactionReceipt", text(own))
    assert (receipt["transactionHash"], receipt["blockHash"]) == (text(own), block["hash"])
    mined = await wallet.ask("eth_getTransactionByHash", text(own))
    assert mined["blockNumber"] == "0x2"
    assert own not in wallet.house.relay.pool
    code, words = await wallet.error("eth_getRawTransactionByHash", text(own))
    assert (code, "names a transaction of our own users" in words) == (-32000, True)
    assert not upstream.named(own)


@pytest.mark.parametrize(
    ("method", "wrap"),
    [
        ("debug_traceTransaction", lambda tx_hash: [tx_hash, {}]),
        ("trace_transaction", lambda tx_hash: [tx_hash]),
        ("eth_getLogs", lambda tx_hash: [{"topics": [[tx_hash.upper().replace("0X", "0x")]]}]),
        ("eth_foo", lambda tx_hash: [[{"deep": [tx_hash]}]]),
    ],
)
async def test_no_other_method_names_an_own_transaction(wallet, upstream, method, wrap):
    own = wallet.send(account=1)
    code, words = await wallet.error(method, *wrap(text(own)))
    assert (code, words.startswith(f"{method} is not passed on: it names")) == (-32000, True)
    assert upstream.asked == []
    await wallet.answer(method, *wrap(STRANGER))
    assert [each for each, _ in upstream.asked] == [method]


async def test_a_batch_names_none_either(wallet, upstream):
    own = text(wallet.send(account=1))
    batch = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": [own]}
        for number, method in enumerate(
            ("eth_getTransactionReceipt", "trace_transaction", "eth_getTransactionByHash")
        )
    ]
    answers = json.loads(await wallet.dispatcher.answer(json.dumps(batch).encode()))
    assert [each["id"] for each in answers] == [0, 1, 2]
    assert (answers[0]["result"], answers[1]["error"]["code"], answers[2]["result"]["hash"]) == (
        None,
        -32000,
        own,
    )
    assert not upstream.named(bytes.fromhex(own[2:]))


@pytest.mark.parametrize(
    "method",
    [
        "eth_sendTransaction", "eth_sendRawTransactionSync", "eth_sendPrivateTransaction", "eth_sendBundle",
        "mev_sendBundle", "eth_resend", "eth_submitWork", "eth_cancelBundle", "eth_SendUserOperation",
        "eth_sign", "eth_signTransaction", "eth_signTypedData_v4",
    ],
)  # fmt: skip
async def test_what_sends_or_signs_is_not_passed_on(wallet, upstream, method):
    assert (await wallet.error(method, "0x"))[0] == -32004
    assert upstream.asked == []


@pytest.mark.parametrize(
    "method", ["admin_addPeer", "personal_unlockAccount", "engine_newPayloadV4", "rpc_x"]
)
async def test_what_manages_a_node_is_not_passed_on(wallet, upstream, method):
    assert (await wallet.error(method, "x"))[0] == -32601
    assert upstream.asked == []


async def test_clients_get_only_namespaces_that_they_are_offered(upstream):
    house = House()
    answer = Forwarding(upstream, house.relay.own).within(("eth", "net"))
    upstream.answers["eth_gasPrice"] = upstream.answers["debug_getBadBlocks"] = "0x1"
    assert await answer(Call("eth_gasPrice", None, "1")) == RawJson('"0x1"')
    with pytest.raises(RpcError, match="debug_getBadBlocks does not exist"):
        await answer(Call("debug_getBadBlocks", None, "1"))
    assert upstream.asked == [("eth_gasPrice", [])]


async def test_transactions_of_others_are_asked_for_first_and_shown_from_the_pool_else(wallet, upstream):
    other = wallet.receive(account=2)
    assert (await wallet.ask("eth_getTransactionByHash", text(other)))["blockHash"] is None  # upstream: null
    upstream.answers["eth_getTransactionByHash"] = {"hash": text(other), "blockHash": STRANGER}
    assert (await wallet.ask("eth_getTransactionByHash", text(other)))["blockHash"] == STRANGER
    upstream.answers["eth_getTransactionByHash"] = FAILED
    assert (await wallet.ask("eth_getTransactionByHash", text(other)))["hash"] == text(other)
    upstream.answers["eth_getRawTransactionByHash"] = "0x"
    assert await wallet.ask("eth_getRawTransactionByHash", text(other)) == text(raw_tx(account=2))
    assert await wallet.error("eth_getTransactionByHash", STRANGER) == (-32000, "upstream is ill")
    assert await wallet.ask("eth_getTransactionReceipt", text(other)) is None
    assert upstream.named(other)


@pytest.mark.parametrize("failed", [FAILED, "rubbish"])
async def test_an_own_transaction_that_is_held_is_shown_though_the_upstream_fails(wallet, upstream, failed):
    own = wallet.send(account=1)
    upstream.answers["eth_getBlockByNumber"] = failed
    assert (await wallet.ask("eth_getTransactionByHash", text(own)))["hash"] == text(own)
    wallet.house.relay.own.mined(own, 5, bytes(32))  # by a peer's block
    upstream.answers["eth_getBlockByNumber"] = FAILED
    assert await wallet.error("eth_getTransactionByHash", text(own)) == (-32000, "upstream is ill")


async def test_pending_nonce_counts_our_own_queue(wallet, upstream):
    upstream.answers["eth_getTransactionCount"] = "0x5"
    wallet.send(account=1, nonce=5)
    wallet.send(account=1, nonce=6)
    wallet.send(account=1, nonce=9)
    assert await wallet.ask("eth_getTransactionCount", address_of(1), "pending") == "0x7"
    assert upstream.asked == [("eth_getTransactionCount", [address_of(1), "latest"])]
    assert await wallet.ask("eth_getTransactionCount", address_of(1), "latest") == "0x5"
    assert await wallet.ask("eth_getTransactionCount", address_of(1)) == "0x5"
    assert await wallet.ask("eth_getTransactionCount", address_of(2), "pending") == "0x5"
    assert [params for _, params in upstream.asked[1:]] == [
        [address_of(1), "latest"],
        [address_of(1)],
        [address_of(2), "pending"],
    ]
    upstream.answers["eth_getTransactionCount"] = {"no": "nonce"}
    assert await wallet.error("eth_getTransactionCount", address_of(1), "pending") == (
        -32000,
        "the upstream's nonce is no quantity",
    )


# -- blocks --------------------------------------------------------------------------------------------


async def test_blocks_are_looked_at_once(wallet, upstream):
    own = wallet.send(account=1)
    for _ in range(3):
        assert await wallet.ask("eth_getTransactionReceipt", text(own)) is None
    assert [method for method, _ in upstream.asked] == [
        "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getBlockByNumber", "eth_getBlockByNumber",
    ]  # fmt: skip


async def test_many_who_ask_at_once_share_a_look(wallet, upstream):
    own = wallet.send(account=1)
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_getTransactionReceipt", "params": [text(own)]}
    answers = json.loads(await wallet.dispatcher.answer(json.dumps([call] * 50).encode()))
    assert [each["result"] for each in answers] == [None] * 50
    assert len(upstream.asked) <= 50 // 16 * 2 + 4  # 16 wait at a time


async def test_blocks_whose_clock_is_wrong_are_looked_at(wallet, upstream):
    own = wallet.send(account=1)
    upstream.mine(own, at=5)
    for _ in range(8):
        upstream.mine(at=5)
    found = await wallet.ask("eth_getTransactionReceipt", text(own))
    assert found["transactionHash"] == text(own)


async def test_blocks_before_the_submission_are_left_alone(wallet, upstream):
    for _ in range(100):
        upstream.mine(at=UNIX_NOW - 1_000)
    own = wallet.send(account=1)
    assert await wallet.ask("eth_getTransactionReceipt", text(own)) is None
    assert len(upstream.asked) == 12


async def test_a_long_absence_is_made_up_for_in_several_steps(wallet, upstream):
    own = wallet.send(account=1)
    upstream.mine(own)
    for _ in range(150):
        upstream.mine()
    found, rounds = None, 0
    while not found and rounds < 9:
        rounds += 1
        wallet.house.loop.advance(1)
        before = len(upstream.asked)
        found = await wallet.ask("eth_getTransactionReceipt", text(own))
        assert len(upstream.asked) - before <= 64 + 3
    assert (found["transactionHash"], rounds) == (text(own), 3)


async def test_a_reorganization_moves_a_receipt(wallet, upstream):
    own = wallet.send(account=1)
    first = upstream.mine(own)
    assert (await wallet.ask("eth_getTransactionReceipt", text(own)))["blockHash"] == first["hash"]
    upstream.mine(fork_from=2)
    second = upstream.mine(own)
    wallet.house.loop.advance(1)
    assert (await wallet.ask("eth_getTransactionReceipt", text(own)))["blockHash"] == second["hash"]
    upstream.mine(fork_from=2)
    upstream.mine()
    wallet.house.loop.advance(1)
    assert await wallet.ask("eth_getTransactionReceipt", text(own)) is None
    assert not upstream.named(own)


@pytest.mark.parametrize(
    "answer",
    [
        7,
        [],
        {"hash": "0x12"},
        {"hash": STRANGER, "parentHash": STRANGER, "number": "x"},
        "text",
    ],
)
async def test_an_upstream_that_answers_nonsense_is_an_error(wallet, upstream, answer):
    own = wallet.send(account=1)
    upstream.answers["eth_getBlockByNumber"] = answer
    assert (await wallet.error("eth_getTransactionReceipt", text(own)))[0] == -32000
    assert not upstream.named(own)


# -- txpool and relay ----------------------------------------------------------------------------------


async def test_txpool_shows_the_pool_by_sender_and_nonce():
    wallet = Wallet()
    hashes = {nonce: wallet.receive(account=1, nonce=nonce) for nonce in (11, 2)}
    wallet.send(account=2)
    names = [checksum_address(key(account).node_id[12:]) for account in (1, 2)]
    content = await wallet.ask("txpool_content")
    assert list(content) == ["pending", "queued"]
    assert list(content["pending"]) == sorted(names)
    assert list(content["pending"][names[0]]) == ["2", "11"]
    assert {int(n): tx["hash"] for n, tx in content["pending"][names[0]].items()} == {
        nonce: text(tx_hash) for nonce, tx_hash in hashes.items()
    }
    assert content["queued"] == {}
    one = await wallet.ask("txpool_contentFrom", names[0].lower())
    assert one == {"pending": content["pending"][names[0]], "queued": {}}
    assert await wallet.ask("txpool_contentFrom", address_of(9)) == {"pending": {}, "queued": {}}
    lines = (await wallet.ask("txpool_inspect"))["pending"][names[0]]
    assert lines["2"] == f"{checksum_address(bytes.fromhex('22' * 20))}: 1 wei + 21000 gas × {2 * GWEI} wei"


async def test_a_large_pool_is_shown_in_slices():
    wallet = Wallet()
    for account in range(150):
        wallet.receive(account=account)
    assert len((await wallet.ask("txpool_inspect"))["pending"]) == 150


async def test_progress_of_an_own_transaction_is_told():
    wallet = Wallet()
    own, other = wallet.send(account=1), wallet.receive(account=2)
    told = await wallet.ask("relay_trackTransaction", text(own))
    assert told == {
        "sent": 1, "announced": 0, "fetched_by": 0, "listening": 1, "first_echo_seconds": None,
        "age_seconds": 0.0, "held": True, "private": None, "block": None,
    }  # fmt: skip
    wallet.house.relay.own.mined(own, 5, b"\x01" * 32)
    told = await wallet.ask("relay_trackTransaction", text(own))
    assert told["block"] == {"number": "0x5", "hash": "0x" + "01" * 32}
    assert (await wallet.error("relay_trackTransaction", text(other)))[0] == -32000
