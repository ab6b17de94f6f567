"""--verdict upstream: a node of our user rules on transactions of peers, by taking them or not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from relay.relaying.verdict import Outcome, Ruling
from relay.rpc.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError

__all__ = ["NodeJudge", "ruling_of"]

log = structlog.get_logger("relay.app")

SUBMIT: Final = "eth_sendRawTransaction"
ASK_SECONDS: Final = 15.0
_UNANSWERED: Final = frozenset({-32002, -32005, -32603, METHOD_NOT_FOUND})
"""EIP-1474: resource unavailable, limit exceeded; JSON-RPC: internal error: nothing about a transaction."""
# In the words of geth, reth, Nethermind, Besu and Erigon.
_HELD: Final = re.compile(
    r"already ?(known|imported|exists)|known ?transaction|same hash was already imported", re.I
)
_STALE: Final = re.compile(
    r"nonce ?(is )?too ?low|old ?nonce|already mined|underpriced|replacement|fee ?too ?low|pool ?is ?full"
    r"|pool (limit|overflow)|exceeds .*pool|max fee per gas less than block base fee",
    re.I,
)


class Caller(Protocol):
    """Upstreams, as far as a judge looks (`relay.rpc.upstream`)."""

    async def call(self, method: str, params: object = None, *, timeout: float | None = None) -> object:
        """Ask; raises RpcError."""


class NodeJudge:
    """Shows transactions to a node (`relay.relaying.verdict.Judge`).

    Args:
        node: is asked; its connections carry nothing else.
        tasks: where questions live.
    """

    def __init__(self, node: Caller, tasks: asyncio.TaskGroup) -> None:
        self._node = node
        self._tasks = tasks
        self._told = False

    def __call__(self, raws: Sequence[bytes], done: Callable[[Sequence[Ruling]], None], /) -> None:
        """Ask about each; see `Judge`."""
        self._tasks.create_task(self._ask(raws, done), name="verdicts")

    async def _ask(self, raws: Sequence[bytes], done: Callable[[Sequence[Ruling]], None]) -> None:
        async with asyncio.TaskGroup() as questions:
            asked = [questions.create_task(self._rule(raw)) for raw in raws]
        done([each.result() for each in asked])

    async def _rule(self, raw: bytes) -> Ruling:
        try:
            await self._node.call(SUBMIT, ["0x" + raw.hex()], timeout=ASK_SECONDS)
        except RpcError as error:
            ruling = ruling_of(error)
        else:
            ruling = Ruling(Outcome.GOOD)
        self._tell(ruling)
        return ruling

    def _tell(self, ruling: Ruling) -> None:
        """Say once when the node does not rule, and once when it does again: nothing goes on meanwhile."""
        silent = ruling.outcome is Outcome.UNKNOWN
        if silent is not self._told:
            self._told = silent
            if silent:
                log.warning("no verdicts: transactions of peers wait, then are dropped", cause=ruling.reason)
            else:
                log.info("verdicts again")


def ruling_of(error: RpcError) -> Ruling:
    """Read what a node says against a transaction."""
    words = error.message[:200]
    if _HELD.search(words):
        return Ruling(Outcome.GOOD, words)
    if error.code in _UNANSWERED or error.code == INVALID_PARAMS:
        return Ruling(Outcome.UNKNOWN, words)
    return Ruling(Outcome.STALE if _STALE.search(words) else Outcome.BAD, words)
