"""Writes tests/vectors/rpc-compat anew: what geth answers on the chain of its own test data.

    python -m tests.aids.rpc_compat_recording

The cases are in the format of tests/aids/rpc_compat.py. Everything in them comes out of that chain.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.aids.geth import Geth
from tests.aids.geth_tools import geth_folder
from tests.aids.rpc_compat import until_indexed, write_case

VECTORS = Path(__file__).parents[1] / "vectors" / "rpc-compat"
NOWHERE = "0x" + "77" * 32
NOBODY = "0x" + "77" * 20
KINDS = {"0x0": "legacy", "0x1": "access-list", "0x2": "dynamic-fee", "0x3": "blob", "0x4": "set-code"}


class Recorder:
    def __init__(self, geth: Geth) -> None:
        self._geth = geth

    async def case(
        self, method: str, name: str, *params: object, comment: str = "", spec_only: bool = False
    ) -> Any:
        request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        answer = await _exchange(self._geth.ipc_path, request)
        write_case(VECTORS, f"{method}/{name}", comment or name.replace("-", " "), request, answer, spec_only)
        return json.loads(answer).get("result")

    async def blocks(self) -> None:
        """What is asked of blocks and accounts."""
        head = await self.case("eth_getBlockByNumber", "latest", "latest", True)
        whole = await self.case("eth_getBlockByNumber", "with-transactions", "0x12", True)
        await self.case("eth_getBlockByNumber", "genesis", "earliest", False)
        await self.case("eth_getBlockByNumber", "safe", "safe", False)
        await self.case("eth_getBlockByNumber", "finalized", "finalized", False)
        await self.case("eth_getBlockByNumber", "beyond-the-head", "0xfffff", True)
        await self.case("eth_getBlockByNumber", "leading-zero", "0x012", True)
        await self.case("eth_getBlockByHash", "one", whole["hash"], True)
        await self.case("eth_getBlockByHash", "hashes-only", whole["hash"], False)
        await self.case("eth_getBlockByHash", "unknown", NOWHERE, True)
        await self.case("eth_getBlockByHash", "truncated", NOWHERE[:-2], True)
        await self.case("eth_getBlockReceipts", "by-number", "0x12")
        await self.case("eth_getBlockReceipts", "by-hash", whole["hash"])
        await self.case("eth_getBlockReceipts", "unknown", NOWHERE)
        await self.case("eth_getBlockTransactionCountByNumber", "latest", "latest")
        await self.case("eth_getBlockTransactionCountByHash", "unknown", NOWHERE)
        await self.case("eth_getTransactionByBlockNumberAndIndex", "first", "0x12", "0x0")
        await self.case("eth_getTransactionByBlockNumberAndIndex", "beyond", "0x12", "0xff")
        await self.case("eth_getUncleCountByBlockNumber", "latest", "latest")
        await self.case("eth_feeHistory", "four-blocks", "0x4", "latest", [50])
        await self.case("eth_getLogs", "one-block", {"fromBlock": "0x12", "toBlock": "0x12"})
        await self.case("eth_getLogs", "by-hash", {"blockHash": head["hash"]})
        await self.case("eth_getLogs", "beyond-the-head", {"fromBlock": "0xfffff", "toBlock": "0xffffff"})
        await self.case("eth_blockNumber", "head")

    async def accounts(self) -> None:
        accounts = json.loads((geth_folder() / "testdata" / "accounts.json").read_text())
        rich = sorted(accounts)[0]
        for method in ("eth_getBalance", "eth_getTransactionCount", "eth_getCode"):
            await self.case(method, "somebody", rich, "latest")
            await self.case(method, "nobody", NOBODY, "latest")
            await self.case(method, "truncated", rich[:-2], "latest")
            await self.case(method, "no-block-like-that", rich, "0xfffff")
        await self.case("eth_getTransactionCount", "pending", rich, "pending")
        await self.case("eth_getStorageAt", "nobody", NOBODY, "0x0", "latest")
        await self.case("eth_getProof", "nobody", NOBODY, ["0x0"], "latest")
        await self.case("eth_call", "nobody", {"to": NOBODY}, "latest")
        await self.case("eth_call", "reverts", {"data": "0x60006000fd"}, "latest")
        await self.case("eth_estimateGas", "transfer", {"from": rich, "to": NOBODY, "value": "0x1"})
        await self.case("eth_estimateGas", "too-poor", {"from": NOBODY, "to": rich, "value": "0x1"})
        await self.case("eth_createAccessList", "nobody", {"from": rich, "to": NOBODY}, "latest")

    async def transactions(self) -> None:
        """One of each type, whatever the chain has."""
        head = int(await self._geth.rpc("eth_blockNumber"), 16)
        seen: set[str] = set()
        for number in range(head + 1):
            block = await self._geth.rpc("eth_getBlockByNumber", hex(number), True)
            for tx in block["transactions"]:
                kind = "create" if tx["to"] is None else KINDS[tx["type"]]
                if kind not in seen:
                    seen.add(kind)
                    await self.case("eth_getTransactionByHash", kind, tx["hash"])
                    await self.case("eth_getTransactionReceipt", kind, tx["hash"])
                    await self.case("eth_getRawTransactionByHash", kind, tx["hash"])
        for method in (
            "eth_getTransactionByHash",
            "eth_getTransactionReceipt",
            "eth_getRawTransactionByHash",
        ):
            await self.case(method, "unknown", NOWHERE)
            await self.case(method, "truncated", NOWHERE[:-1])
            await self.case(method, "not-hex", "0x" + "zz" * 32)
            await self.case(method, "nothing")
        await self.case("eth_sendRawTransaction", "empty", "0x")
        await self.case("eth_sendRawTransaction", "garbage", "0x02c0")

    async def node(self) -> None:
        await self.case("eth_chainId", "chain-id")
        await self.case("eth_gasPrice", "price", spec_only=True)
        await self.case("eth_maxPriorityFeePerGas", "fee", spec_only=True)
        await self.case("eth_blobBaseFee", "fee")
        await self.case("eth_accounts", "none")
        await self.case("net_version", "network-id")
        await self.case("net_listening", "listening")
        await self.case("txpool_status", "empty")
        await self.case("txpool_content", "empty")
        await self.case("txpool_inspect", "empty")
        await self.case("txpool_contentFrom", "nobody", NOBODY)
        await self.case("web3_sha3", "empty", "0x")
        await self.case("eth_unheardOf", "no-such-method")


async def _exchange(path: Path, request: str) -> str:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    try:
        writer.write(request.encode() + b"\n")
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


async def main() -> None:
    testdata = geth_folder() / "testdata"
    with tempfile.TemporaryDirectory(prefix="pyrelay-") as folder:
        async with Geth(
            Path(folder) / "geth", testdata / "genesis.json", chain=testdata / "chain.rlp"
        ) as geth:
            await until_indexed(geth)
            recorder = Recorder(geth)
            await recorder.blocks()
            await recorder.accounts()
            await recorder.transactions()
            await recorder.node()


if __name__ == "__main__":
    asyncio.run(main())
