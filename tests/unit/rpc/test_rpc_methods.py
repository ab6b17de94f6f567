import pytest

from relay.primitives.errors import UsageError
from relay.rpc.methods import DEFAULT_HTTP_MODULES, all_methods, select
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
