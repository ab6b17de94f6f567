import json
from typing import Any

import pytest

from relay.primitives.errors import LocalError, UsageError
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.methods import DEFAULT_HTTP_MODULES, all_methods, dht_methods, select
from tests.unit.rpc.conftest import Node


def test_default_of_http_is_geths_and_leaves_admin_out(node: Node) -> None:
    table = select(all_methods(node, node, node), DEFAULT_HTTP_MODULES)

    assert set(table) == {
        "eth_chainId",
        "eth_sendRawTransaction",
        "net_listening",
        "net_peerCount",
        "net_version",
        "rpc_modules",
        "web3_clientVersion",
        "web3_sha3",
    }


def test_module_that_does_not_exist_is_a_usage_error(node: Node) -> None:
    with pytest.raises(UsageError, match="no such RPC module: debug, engine; there are admin, dht, eth"):
        select(all_methods(node, node, node), ("eth", "engine", "debug"))


def test_module_rpc_may_be_named(node: Node) -> None:
    assert set(select(all_methods(node, node, node), ("rpc",))) == {"rpc_modules"}


class Dht:
    """A DhtView that records what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def provide(self, key: str, peers: list[str]) -> str:
        self.asked.append(("provide", key, peers))
        return "1"

    def find(self, key: str, peers: list[str]) -> str:
        self.asked.append(("find", key, peers))
        return "2"

    def job(self, job: str) -> dict[str, object]:
        if job != "2":
            raise LocalError("no such job")
        return {"state": "running"}

    def cancel(self, job: str) -> bool:
        return job == "2"

    def providing(self) -> list[dict[str, object]]:
        return [{"key": "0x00"}]

    def stop_providing(self, key: str) -> bool:
        return key == "x"


@pytest.mark.parametrize(
    ("method", "params", "answer"),
    [
        ("dht_provide", ["x", []], {"result": "1"}),
        ("dht_find", ["x", ["enr:-abc"]], {"result": "2"}),
        ("dht_job", ["2"], {"result": {"state": "running"}}),
        ("dht_job", ["7"], {"error": {"code": -32000, "message": "no such job"}}),
        ("dht_cancel", ["2"], {"result": True}),
        ("dht_providing", [], {"result": [{"key": "0x00"}]}),
        ("dht_stopProviding", ["x"], {"result": True}),
        (
            "dht_find",
            ["x"],
            {"error": {"code": -32602, "message": "missing value for required argument 1"}},
        ),
        (
            "dht_find",
            ["x", "y"],
            {
                "error": {
                    "code": -32602,
                    "message": "invalid argument 1: json: cannot unmarshal string into Go value of type"
                    " []string",
                }
            },
        ),
        (
            "dht_find",
            ["x", [7]],
            {
                "error": {
                    "code": -32602,
                    "message": "invalid argument 1: json: cannot unmarshal number into Go value of type"
                    " string",
                }
            },
        ),
    ],
)
async def test_provider_dht_has_methods_that_take_a_key_and_peers(
    method: str, params: list[Any], answer: dict[str, Any]
) -> None:
    dispatcher = Dispatcher(select(dht_methods(Dht()), ("dht",)), clock=lambda: 0.0)
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    assert json.loads(await dispatcher.answer(json.dumps(call).encode())) == {
        "jsonrpc": "2.0",
        "id": 1,
        **answer,
    }


def test_provider_dht_is_not_on_http_unless_asked_for(node: Node) -> None:
    methods = (*all_methods(node, node, node), *dht_methods(Dht()))
    assert not any(name.startswith("dht_") for name in select(methods, DEFAULT_HTTP_MODULES))
