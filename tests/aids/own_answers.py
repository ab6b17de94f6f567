"""A relay on a virtual loop with the methods that answer from its pool, and an upstream that is a script."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from relay.primitives.hashing import keccak256
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.errors import RpcError
from relay.rpc.forwarding import Forwarding
from relay.rpc.messages import RawJson
from relay.rpc.own_blocks import OwnBlocks
from relay.rpc.own_eth import EthParts, eth_methods, relay_methods
from relay.rpc.txpool import txpool_methods
from tests.aids.relaying import UNIX_NOW, House

__all__ = ["ChainUpstream", "Pool", "make_dispatcher"]


class Pool:
    """`PoolTable` and `HeadView` of a house."""

    def __init__(self, house: House) -> None:
        self._eth = house.relay

    @property
    def latest_block(self) -> int:
        return self._eth.ranges.current.latest

    def transaction(self, tx_hash):
        return self._eth.transaction(tx_hash)

    def signers(self):
        return self._eth.pool.signers()

    def sent_by(self, signer):
        return self._eth.sent_by(signer)


class ChainUpstream:
    """An upstream with a chain of blocks that tests write; it notes what it is asked.

    Attributes:
        answers: fixed answers by method; an RpcError is raised.
        asked: every call.
        chain: of the head, the oldest first.
    """

    def __init__(self, unix: float = UNIX_NOW) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []
        self.chain: list[dict[str, Any]] = []
        self._by_hash: dict[str, dict[str, Any]] = {}
        self._unix = unix

    def mine(self, *hashes: bytes, fork_from: int | None = None, at: float | None = None) -> dict[str, Any]:
        """Add a block with these transactions; fork_from drops the chain from that number on."""
        if fork_from is not None:
            del self.chain[fork_from:]
        number = len(self.chain)
        salt = len(self._by_hash)
        parent = self.chain[-1]["hash"] if self.chain else "0x" + "00" * 32
        block = {
            "hash": "0x" + keccak256(b"block %d %d" % (number, salt)).hex(),
            "parentHash": parent,
            "number": hex(number),
            "timestamp": hex(int(self._unix if at is None else at)),
            "transactions": ["0x" + each.hex() for each in hashes],
        }
        self.chain.append(block)
        self._by_hash[block["hash"]] = block
        return block

    async def call(self, method: str, params: Any) -> Any:
        self.asked.append((method, params))
        await asyncio.sleep(0)  # others run meanwhile
        answer = self.answers.get(method)
        if isinstance(answer, RpcError):
            raise answer
        if answer is not None:
            return answer
        return getattr(self, "_" + method, lambda *_: None)(*params)

    async def call_raw(self, method: str, params: Any) -> RawJson:
        return RawJson(json.dumps(await self.call(method, params)))

    def _eth_getBlockByNumber(self, number: str, whole: bool) -> Any:
        if not self.chain:
            return None
        at = len(self.chain) - 1 if number == "latest" else int(number, 16)
        if at >= len(self.chain):
            return None
        block = self.chain[at]
        if not whole:
            return block
        return block | {
            "transactions": [
                {"hash": each, "blockHash": block["hash"], "blockNumber": block["number"]}
                for each in block["transactions"]
            ]
        }

    def _eth_getBlockByHash(self, block_hash: str, _whole: bool) -> Any:
        return self._by_hash.get(block_hash)

    def _eth_getBlockReceipts(self, number: str) -> Any:
        at = int(number, 16)
        if at >= len(self.chain):
            return None
        block = self.chain[at]
        return [
            {"transactionHash": each, "blockHash": block["hash"], "status": "0x1"}
            for each in block["transactions"]
        ]

    def named(self, tx_hash: bytes) -> bool:
        """Whether any call held this hash."""
        return tx_hash.hex() in json.dumps(self.asked).lower()


def make_dispatcher(house: House, upstream: Any = None) -> Dispatcher:
    own = house.relay.own
    forwarding = Forwarding(upstream, own)
    blocks = upstream and OwnBlocks(upstream, own, unix=lambda: house.unix)
    pool = Pool(house)
    parts = EthParts(head=pool, pool=pool, own=own, forwarding=forwarding, blocks=blocks)
    methods = (*eth_methods(parts), *txpool_methods(pool), *relay_methods(own))
    return Dispatcher(
        {method.name: method for method in methods}, clock=house.loop.time, fallback=forwarding.answer
    )
