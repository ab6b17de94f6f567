"""The methods we answer ourselves, as a table: name, function, parameters. Shapes and words are geth's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from relay.primitives.errors import DecodeError, UsageError
from relay.primitives.hashing import keccak256
from relay.rpc.errors import server_error
from relay.rpc.params import DATA, TEXT, TEXTS, Parameter, quantity
from relay.rpc.views import DhtView, NodeView, PoolView, TxSubmitter

__all__ = ["DEFAULT_HTTP_MODULES", "NAMESPACES", "Method", "all_methods", "dht_methods", "select"]

NAMESPACES: Final = ("admin", "dht", "eth", "net", "relay", "txpool", "web3")
DEFAULT_HTTP_MODULES: Final = ("eth", "net", "web3")  # geth's --http.api default
META: Final = "rpc"  # offered on every transport
VERSION: Final = "1.0"  # geth gives every module this


@dataclass(frozen=True, slots=True)
class Method:
    """A method. The function is short and never waits, unless it is a coroutine function.

    Attributes:
        name: with its namespace before the first underscore.
        function: takes the parsed arguments; returns what json can write, or `RawJson`, or raises RelayError.
        parameters: positional ones; None hands the decoded "params" over as they are.
        is_async: the function is a coroutine function; other calls of a batch run meanwhile.
    """

    name: str
    function: Callable[..., object]
    parameters: tuple[Parameter, ...] | None = ()
    is_async: bool = False

    @property
    def namespace(self) -> str:
        """The module it belongs to."""
        return self.name.partition("_")[0]


def all_methods(node: NodeView, submitter: TxSubmitter, pool: PoolView) -> tuple[Method, ...]:
    """Return every method but dht_* and rpc_modules, bound to this node."""

    def peers() -> object:
        return [peer.to_json() for peer in sorted(node.peers(), key=lambda peer: peer.id)]

    def pool_status() -> object:
        status = pool.status()
        return {"pending": quantity(status.pending), "queued": quantity(status.queued)}

    return (
        Method("admin_addPeer", _on_enode(node.add_peer), (TEXT,)),
        Method("admin_addTrustedPeer", _on_enode(node.add_trusted), (TEXT,)),
        Method("admin_datadir", lambda: node.datadir),
        Method("admin_nodeInfo", lambda: node.node_info().to_json()),
        Method("admin_peers", peers),
        Method("admin_removePeer", _on_enode(node.remove_peer), (TEXT,)),
        Method("admin_removeTrustedPeer", _on_enode(node.remove_trusted), (TEXT,)),
        Method("eth_chainId", lambda: quantity(node.chain_id)),
        Method("eth_sendRawTransaction", lambda raw: _hex(submitter.submit(raw)), (DATA,)),
        Method("net_listening", lambda: node.listening),
        Method("net_peerCount", lambda: quantity(node.peer_count)),
        Method("net_version", lambda: str(node.network_id)),
        Method("txpool_status", pool_status),
        Method("web3_clientVersion", lambda: node.client_version),
        Method("web3_sha3", lambda data: _hex(keccak256(data)), (DATA,)),
    )


def dht_methods(dht: DhtView) -> tuple[Method, ...]:
    """Return the methods of the provider DHT, our own addition. Searches are jobs, since no method waits."""
    return (
        Method("dht_cancel", dht.cancel, (TEXT,)),
        Method("dht_find", dht.find, (TEXT, TEXTS)),
        Method("dht_job", dht.job, (TEXT,)),
        Method("dht_provide", dht.provide, (TEXT, TEXTS)),
        Method("dht_providing", dht.providing),
        Method("dht_stopProviding", dht.stop_providing, (TEXT,)),
    )


def select(methods: Iterable[Method], modules: Iterable[str]) -> Mapping[str, Method]:
    """Return the methods of some modules by name, and rpc_modules, which lists just these modules.

    Raises:
        UsageError: a module that does not exist.
    """
    wanted = sorted(set(modules) | {META})
    unknown = [module for module in wanted if module not in (*NAMESPACES, META)]
    if unknown:
        raise UsageError(f"no such RPC module: {', '.join(unknown)}; there are {', '.join(NAMESPACES)}")
    table = {method.name: method for method in methods if method.namespace in wanted}
    table["rpc_modules"] = Method("rpc_modules", lambda: dict.fromkeys(wanted, VERSION))
    return table


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _on_enode(act: Callable[[str], None]) -> Callable[[str], bool]:
    def call(url: str) -> bool:
        try:
            act(url)
        except DecodeError as error:
            raise server_error(f"invalid enode: {error}") from None
        return True

    return call
