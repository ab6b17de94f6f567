import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.primitives.errors import RelayError
from relay.primitives.hashing import keccak256
from relay.rpc.dispatcher import Dispatcher, DispatcherOptions
from relay.rpc.methods import NAMESPACES, Method, all_methods, select
from tests.unit.rpc.conftest import Clock, Node

RPC_FUZZ = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def ask(dispatcher: Dispatcher, body: str | bytes) -> Any:
    answer = asyncio.run(dispatcher.answer(body.encode() if isinstance(body, str) else body))
    return json.loads(answer) if answer else None


def call(method: str, *params: object, id_: object = 1) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params})


def well_formed(answer: object) -> bool:
    if isinstance(answer, list):
        return bool(answer) and all(well_formed(part) for part in answer)
    return (
        isinstance(answer, dict)
        and answer["jsonrpc"] == "2.0"
        and "id" in answer
        and ("result" in answer) != ("error" in answer)
    )


def test_transaction_reaches_the_submitter_and_its_hash_the_caller(
    dispatcher: Dispatcher, node: Node
) -> None:
    answer = ask(dispatcher, call("eth_sendRawTransaction", "0x02c0"))

    assert node.submitted == [b"\x02\xc0"]
    assert answer == {"jsonrpc": "2.0", "id": 1, "result": "0x" + keccak256(b"\x02\xc0").hex()}


def test_refused_transaction_is_a_server_error_with_the_words_of_the_pool(
    dispatcher: Dispatcher, node: Node
) -> None:
    node.refusal = RelayError("nonce has max value: 18446744073709551615")

    answer = ask(dispatcher, call("eth_sendRawTransaction", "0x00"))

    assert answer["error"] == {"code": -32000, "message": "nonce has max value: 18446744073709551615"}


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("admin_addPeer", "add"),
        ("admin_removePeer", "remove"),
        ("admin_addTrustedPeer", "trust"),
        ("admin_removeTrustedPeer", "distrust"),
    ],
)
def test_admin_hands_enodes_on(dispatcher: Dispatcher, node: Node, method: str, what: str) -> None:
    assert ask(dispatcher, call(method, "enode://x")) == {"jsonrpc": "2.0", "id": 1, "result": True}
    assert node.asked == [(what, "enode://x")]


def test_peers_are_sorted_by_id(dispatcher: Dispatcher) -> None:
    peers = ask(dispatcher, call("admin_peers"))["result"]

    assert [peer["id"] for peer in peers] == ["11" * 32, "22" * 32]


def test_pool_counts_are_quantities(dispatcher: Dispatcher) -> None:
    assert ask(dispatcher, call("txpool_status"))["result"] == {"pending": "0x11", "queued": "0x0"}


def test_batch_stops_at_the_byte_limit_and_refuses_the_rest(node: Node, clock: Clock) -> None:
    methods = {"x_big": Method("x_big", lambda: "a" * 1000)}
    dispatcher = Dispatcher(methods, clock=clock, options=DispatcherOptions(batch_bytes=1500))
    batch = [json.loads(call("x_big", id_=number)) for number in range(4)]
    batch += [{"jsonrpc": "2.0", "method": "x_big"}, {"jsonrpc": "2.0", "id": 9, "result": 1}, 5]

    answers = ask(dispatcher, json.dumps(batch))

    assert [list(answer)[2] for answer in answers] == ["result"] * 2 + ["error"] * 3
    assert answers[2]["error"] == {"code": -32003, "message": "response too large"}


async def test_long_batch_lets_the_loop_do_other_things(dispatcher: Dispatcher, clock: Clock) -> None:
    clock.cost = 0.004
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    turn()
    await dispatcher.answer(json.dumps([json.loads(call("eth_chainId"))] * 100).encode())

    assert turns > 20


def test_method_of_a_module_that_is_off_is_unknown(node: Node, clock: Clock) -> None:
    dispatcher = Dispatcher(select(all_methods(node, node, node), ("net",)), clock=clock)

    assert ask(dispatcher, call("admin_peers"))["error"]["code"] == -32601
    assert ask(dispatcher, call("net_version"))["result"] == "7799"
    assert ask(dispatcher, call("rpc_modules"))["result"] == {"net": "1.0", "rpc": "1.0"}


def test_deep_nesting_is_a_parse_error(dispatcher: Dispatcher) -> None:
    for body in ("[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000):
        assert ask(dispatcher, body)["error"]["code"] == -32700


def test_digits_without_end_cost_nothing(dispatcher: Dispatcher) -> None:
    body = '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[' + "9" * 1_000_000 + "]}"
    assert ask(dispatcher, body)["error"]["code"] == -32602


def test_bytes_that_are_not_utf8_are_read_as_geth_does(dispatcher: Dispatcher) -> None:
    answer = ask(dispatcher, b'{"jsonrpc":"2.0","id":"\xff","method":"eth_chainId"}')
    assert answer == {"jsonrpc": "2.0", "id": "\ufffd", "result": "0x1e77"}


def test_lone_surrogate_in_an_id_comes_back(dispatcher: Dispatcher) -> None:
    assert ask(dispatcher, '{"jsonrpc":"2.0","id":"\\ud800","method":"eth_chainId"}')["id"] == "\ud800"


@RPC_FUZZ
@given(st.binary(max_size=200))
def test_fuzz_any_bytes_get_one_answer_or_none(dispatcher: Dispatcher, body: bytes) -> None:
    answer = ask(dispatcher, body)
    assert answer is None or well_formed(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(sorted(select(all_methods(Node(), Node(), Node()), NAMESPACES))) | st.text(max_size=8)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON,
        "id": JSON,
        "method": NAMES | JSON,
        "params": st.lists(JSON, max_size=3) | JSON,
        "result": JSON,
    },
)


@RPC_FUZZ
@given(REQUEST | st.lists(REQUEST | JSON, max_size=6))
def test_fuzz_any_json_gets_one_well_formed_answer(dispatcher: Dispatcher, value: object) -> None:
    answer = ask(dispatcher, json.dumps(value))
    assert answer is None or well_formed(answer)
    if isinstance(value, list) and isinstance(answer, list):
        assert len(answer) <= len(value)
