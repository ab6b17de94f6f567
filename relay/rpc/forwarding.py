"""What we do not answer ourselves goes upstream, if there is one, and if it tells nothing of our own users.

Never passed on: what sends or signs, what manages a node, and what names a transaction of our own users by
its hash: the first to ask for a hash that is in no block is most likely who sent it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Container
from typing import Final, Protocol

from relay.rpc.errors import RpcError, method_not_found, not_supported, server_error
from relay.rpc.messages import Call, RawJson

__all__ = ["Forwarding", "Upstream", "needs_upstream", "plain"]

OURS: Final = frozenset(
    ("admin", "dht", "engine", "miner", "net", "personal", "relay", "rpc", "txpool", "web3")
)
"""Namespaces that are about a node, not about the chain: another node's answer would be wrong, or worse."""

_SENDS: Final = re.compile(r"[a-z0-9]+_(re)?(send|submit|cancel|broadcast)", re.IGNORECASE)
_SIGNS: Final = re.compile(r"[a-z0-9]+_sign", re.IGNORECASE)
_HASH: Final = re.compile(r"0[xX][0-9a-fA-F]{64}")

# What geth 1.17 offers in eth and only a chain can answer; other names do not exist.
CHAIN_METHODS: Final = frozenset(
    "eth_" + name
    for name in (
        "baseFee", "blobBaseFee", "call", "capabilities", "config", "createAccessList", "estimateGas",
        "feeHistory", "fillTransaction", "gasPrice", "getBalance", "getBlockByHash", "getBlockByNumber",
        "getBlockReceipts", "getBlockTransactionCountByHash", "getBlockTransactionCountByNumber", "getCode",
        "getFilterChanges", "getFilterLogs", "getHeaderByHash", "getHeaderByNumber", "getLogs", "getProof",
        "getRawTransactionByBlockHashAndIndex", "getRawTransactionByBlockNumberAndIndex", "getStorageAt",
        "getStorageValues", "getTransactionByBlockHashAndIndex", "getTransactionByBlockNumberAndIndex",
        "getUncleByBlockHashAndIndex", "getUncleByBlockNumberAndIndex", "getUncleCountByBlockHash",
        "getUncleCountByBlockNumber", "maxPriorityFeePerGas", "newBlockFilter", "newFilter",
        "newPendingTransactionFilter", "simulateV1", "uninstallFilter",
    )
)  # fmt: skip


class Upstream(Protocol):
    """Nodes that have the chain (`relay.rpc.upstream.upstreams.Upstreams`).

    Both raise RpcError: the node's own error, or ours that says what failed.
    """

    async def call(self, method: str, params: object, /) -> object:
        """Return the result, decoded."""
        ...

    async def call_raw(self, method: str, params: object, /) -> RawJson:
        """Return the result as the node wrote it."""
        ...


class Forwarding:
    """The way of a call to the upstream.

    Args:
        upstream: None where there is none.
        own: hashes of transactions of our own users.
    """

    def __init__(self, upstream: Upstream | None, own: Container[bytes]) -> None:
        self._upstream = upstream
        self._own = own

    @property
    def possible(self) -> bool:
        """Whether there is an upstream."""
        return self._upstream is not None

    async def answer(self, call: Call) -> object:
        """Answer a call that nobody here knows (`relay.rpc.dispatcher.Fallback`)."""
        return await self.call(call.method, call.params)

    def within(self, modules: Container[str]) -> Callable[[Call], Awaitable[object]]:
        """Return `answer` for clients that are offered some namespaces only."""

        async def answer(call: Call) -> object:
            if call.method.partition("_")[0] not in modules:
                raise method_not_found(call.method)
            return await self.answer(call)

        return answer

    async def call(self, method: str, params: object) -> object:
        """Have the upstream answer.

        Args:
            method: its name.
            params: decoded JSON; None for absent.

        Raises:
            RpcError: it must not be asked this, or can't be, or says no.
        """
        self.check(method, params)
        if self._upstream is None:
            raise needs_upstream(method) if method in CHAIN_METHODS else method_not_found(method)
        return await self._upstream.call_raw(method, [] if params is None else params)

    def check(self, method: str, params: object) -> None:
        """Raise RpcError where a call must not leave this machine."""
        if method.partition("_")[0] in OURS:
            raise method_not_found(method)
        if _SENDS.match(method):
            raise not_supported(
                f"{method} is not passed on: eth_sendRawTransaction sends a signed transaction to our peers"
            )
        if _SIGNS.match(method):
            raise not_supported(f"{method} needs an account, and a relay keeps no keys of accounts")
        if self._names_own(params):
            raise server_error(
                f"{method} is not passed on: it names a transaction of our own users, and who asks for one"
                " that others do not know yet has sent it"
            )

    def _names_own(self, params: object) -> bool:
        todo = [params]
        while todo:
            value = todo.pop()
            if isinstance(value, dict):
                todo += value.values()
            elif isinstance(value, list):
                todo += value
            elif isinstance(value, str) and _HASH.fullmatch(value) and bytes.fromhex(value[2:]) in self._own:
                return True
        return False


def plain(result: object) -> object:
    """Return an upstream's result as Python has it.

    Raises:
        RpcError: it is no JSON.
    """
    if not isinstance(result, RawJson):
        return result
    try:
        return json.loads(result.text)
    except (ValueError, RecursionError):
        raise server_error("the upstream's answer is no JSON") from None


def needs_upstream(method: str) -> RpcError:
    """Only a chain could answer, and there is none here."""
    return not_supported(f"{method} needs a node with the chain: start this relay with --rpc-upstream URL")
