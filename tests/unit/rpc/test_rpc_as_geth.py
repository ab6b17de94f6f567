"""Our answers beside those of geth 1.17.8 to the very same bytes (tests/aids/geth_rpc_recording.py)."""

import json
from typing import Any

import pytest

from relay.rpc.dispatcher import Dispatcher
from tests.unit.rpc.conftest import Node, recorded

# What a node tells of itself.
OWN_VALUES = {"rpc_modules", "web3_clientVersion", "admin_datadir", "txpool_status", "net_peerCount"}
ELSEWHERE = {"admin_nodeInfo", "admin_peers"}  # compared by their shape
# Words of the transaction pool and of enode URLs are tested in their rooms.
NOT_OURS = {"transaction empty", "transaction garbage", "enode not on the curve"}
DIFFERENT_ON_A_STREAM = {"subscription"}  # geth has subscriptions there
# geth's stream decoder waits for a byte after these; ours knows that they are whole, or hears the end.
LATE_ON_A_STREAM = {"null", "true", "string", "brace open"}


def shape(value: object) -> object:
    match value:
        case dict():
            return {key: shape(item) for key, item in value.items()}
        case list():
            return [shape(value[0])] if value else []
        case _:
            return type(value).__name__


def loads(text: str | bytes) -> Any:
    return json.loads(text, parse_int=str, parse_float=str) if text.strip() else None


@pytest.mark.parametrize("case", recorded("http", without=NOT_OURS | ELSEWHERE))
async def test_http_body_is_answered_as_by_geth(dispatcher: Dispatcher, case: dict[str, Any]) -> None:
    ours, theirs = loads(await dispatcher.answer(case["request"].encode())), loads(case["answer"])
    if case["name"] in OWN_VALUES:
        assert type(ours["result"]) is type(theirs["result"])
    else:
        assert ours == theirs


def result_of(name: str) -> Any:
    return next(loads(case.values[0]["answer"]) for case in recorded("http") if case.id == name)["result"]


def test_node_tells_what_geth_tells(node: Node) -> None:
    ours = set(node.node_info().to_json())
    assert ours - {"discovery"} == set(result_of("admin_nodeInfo"))  # our addition


def test_peer_has_geths_shape(node: Node) -> None:
    theirs = result_of("admin_peers")[0]
    del theirs["protocols"]["snap"]  # we have no snap

    assert shape(loads(json.dumps(node.peers()[0].to_json()))) == shape(theirs)
