"""Wallets whose only endpoint is pyrelay, with a geth behind it: web3.py and ethers send, wait and look.

What pyrelay asks geth is kept, since that no transaction of theirs is named there is half of the purpose.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3RPCError

from relay.primitives.hashing import keccak256
from relay.rpc.client import CallFailed
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.line_process import LineProcess, installed
from tests.aids.rpc_tap import RpcTap
from tests.aids.until import until

pytestmark = [
    pytest.mark.geth,
    pytest.mark.asyncio(loop_scope="module"),
]

# A contract that logs 42 under the topic 7 whenever it is called, and returns it.
RUNTIME = "602a600052600760206000a160206000f3"
INIT = "70" + RUNTIME + "6000526011600ff3"
TO = Web3.to_checksum_address("0x" + "ab" * 20)
GWEI = 10**9


@dataclass
class Stand:
    """A geth with the chain, pyrelay as its peer and before it, and an account that owns something."""

    geth: Geth
    relay: RelayProcess
    tap: RpcTap
    url: str
    ws_url: str

    async def mine(self, *hashes: str) -> None:
        """Have geth make blocks of transactions that reached it by the P2P network."""
        wanted = [bytes.fromhex(each.removeprefix("0x")) for each in hashes]
        raws: list[bytes] = []

        async def all_there() -> bool:
            found = await self.geth.raw_transactions(wanted)
            raws[:] = [raw for raw in found if raw is not None]
            return len(raws) == len(wanted)

        await until(all_there, "geth holds what a wallet sent", 20.0)
        await self.geth.grow(raws)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand(folder: Path, chain: OwnChain) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        geth = await stack.enter_async_context(Geth(folder / "geth", chain.genesis))
        tap = await stack.enter_async_context(RpcTap(folder / "tap.ipc", geth.ipc_path))
        relay = RelayProcess(
            folder / "relay", "--network", str(chain.genesis), "--rpc-upstream", str(tap.path),
            "--http", "--http.port", "0", "--http.api", "eth,net,web3,txpool", "--ws", "--ws.port", "0",
            static_nodes=[geth.enode],
        )  # fmt: skip
        await stack.enter_async_context(relay)
        await geth.until_peer(relay.node_key.public_key)
        await relay.until_peers(1)
        addresses = [str(event["address"]) for event in relay.events("serving")]
        _, port = [each for each in addresses if not each.startswith("unix:")]  # one for both
        yield Stand(geth, relay, tap, f"http://{port}", f"ws://{port}")


def account(number: int) -> str:
    """The key of an account that the other tests of this chain do not use."""
    return "0x" + keccak256(b"account %d" % number).hex()


# -- web3.py -------------------------------------------------------------------------------------------


class Web3Wallet:
    """Its calls block, so each runs in a thread."""

    def __init__(self, url: str, number: int) -> None:
        self.w3 = Web3(Web3.HTTPProvider(url, request_kwargs={"timeout": 30}))
        self.account = self.w3.eth.account.from_key(account(number))

    def looks(self) -> dict[str, Any]:
        eth = self.w3.eth
        return {
            "connected": self.w3.is_connected(),
            "client": self.w3.client_version,
            "chain": eth.chain_id,
            "block": eth.block_number,
            "gas price": eth.gas_price,
            "fees": eth.fee_history(1, "latest")["baseFeePerGas"][0],
            "balance": eth.get_balance(self.account.address),
            "nonce": self.nonce(),
        }

    def nonce(self, block: str = "pending") -> int:
        return self.w3.eth.get_transaction_count(self.account.address, block)

    def send(self, **changes: Any) -> str:
        transaction = {
            "chainId": self.w3.eth.chain_id,
            "nonce": self.nonce(),
            "maxFeePerGas": 30 * GWEI,
            "maxPriorityFeePerGas": GWEI,
            "value": 0,
        } | changes
        transaction.setdefault(
            "gas", self.w3.eth.estimate_gas({"from": self.account.address, **_estimated(transaction)}) * 2
        )
        signed = self.account.sign_transaction(transaction)
        return "0x" + self.w3.eth.send_raw_transaction(signed.raw_transaction).hex()

    def receipt(self, tx_hash: str) -> Any:
        try:
            return self.w3.eth.get_transaction_receipt(tx_hash)
        except TransactionNotFound:
            return None


def _estimated(transaction: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in transaction.items() if name in ("to", "data", "value")}


async def test_web3_sends_and_hears_what_became_of_it(stand: Stand):
    wallet = Web3Wallet(stand.url, 180)
    seen = await asyncio.to_thread(wallet.looks)
    assert seen["connected"]
    assert seen["client"].startswith("pyrelay/")
    assert seen["balance"] == 1000 * 10**18
    assert (seen["nonce"], seen["chain"]) == (0, int(await stand.geth.rpc("eth_chainId"), 16))

    made = await asyncio.to_thread(wallet.send, data="0x" + INIT)
    paid = await asyncio.to_thread(wallet.send, to=TO, value=5)
    assert await asyncio.to_thread(wallet.nonce) == 2
    assert await asyncio.to_thread(wallet.nonce, "latest") == 0
    pending = await asyncio.to_thread(wallet.w3.eth.get_transaction, made)
    assert pending["blockHash"] is None
    assert await asyncio.to_thread(wallet.receipt, made) is None

    await stand.mine(made, paid)
    receipt = await asyncio.to_thread(wallet.w3.eth.wait_for_transaction_receipt, made, 30, 0.1)
    assert receipt["status"] == 1
    address = receipt["contractAddress"]
    mined = await asyncio.to_thread(wallet.w3.eth.get_transaction, made)
    assert mined["blockHash"] == receipt["blockHash"]
    block = await asyncio.to_thread(wallet.w3.eth.get_block, receipt["blockNumber"])
    assert block["transactions"] == [receipt["transactionHash"]]
    assert await asyncio.to_thread(wallet.nonce) == 2

    called = await asyncio.to_thread(wallet.send, to=address)
    await stand.mine(called)
    receipt = await asyncio.to_thread(wallet.w3.eth.wait_for_transaction_receipt, called, 30, 0.1)
    assert [int.from_bytes(log["data"], "big") for log in receipt["logs"]] == [42]
    logs = await asyncio.to_thread(wallet.w3.eth.get_logs, {"address": address, "fromBlock": 0})
    assert [log["transactionHash"].hex() for log in logs] == [called.removeprefix("0x")]
    answer = await asyncio.to_thread(wallet.w3.eth.call, {"to": address})
    assert int.from_bytes(answer, "big") == 42

    assert not any(stand.tap.named(each) for each in (made, paid, called))
    assert "eth_sendRawTransaction" not in stand.tap.methods()


async def test_web3_is_told_what_is_refused(stand: Stand):
    wallet = Web3Wallet(stand.url, 181)
    with pytest.raises(Web3RPCError, match="intrinsic gas too low: gas 20000, minimum needed 21000"):
        await asyncio.to_thread(wallet.send, to=TO, gas=20_000)
    with pytest.raises(TransactionNotFound):
        await asyncio.to_thread(wallet.w3.eth.get_transaction, "0x" + "77" * 32)
    with pytest.raises(Web3RPCError, match="eth_sendTransaction is not passed on"):
        await asyncio.to_thread(wallet.w3.eth.send_transaction, {"to": TO, "from": wallet.account.address})


async def test_web3_sends_a_replacement(stand: Stand):
    wallet = Web3Wallet(stand.url, 182)
    first = await asyncio.to_thread(wallet.send, to=TO, value=1)
    with pytest.raises(Web3RPCError, match="replacement transaction underpriced"):
        await asyncio.to_thread(wallet.send, to=TO, value=2, nonce=0)
    fees = {"maxFeePerGas": 60 * GWEI, "maxPriorityFeePerGas": 2 * GWEI}
    second = await asyncio.to_thread(wallet.send, to=TO, value=2, nonce=0, **fees)
    await stand.mine(second)
    receipt = await asyncio.to_thread(wallet.w3.eth.wait_for_transaction_receipt, second, 30, 0.1)
    assert receipt["status"] == 1
    with pytest.raises(TransactionNotFound):
        await asyncio.to_thread(wallet.w3.eth.get_transaction, first)
    assert not any(stand.tap.named(each) for each in (first, second))


# -- ethers --------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["http", "ws"])
async def ethers(request, stand: Stand, folder: Path) -> AsyncIterator[tuple[LineProcess, int, bool]]:
    program = await asyncio.to_thread(installed, "install-ethers.sh")
    by_ws = request.param == "ws"
    url = stand.ws_url if by_ws else stand.url
    wallet = LineProcess(["node", program, url], folder / f"ethers-{request.param}.log")
    await wallet.open()
    yield wallet, 184 + by_ws, by_ws
    await wallet.close()


async def test_ethers_sends_and_hears_what_became_of_it(stand: Stand, ethers: tuple[LineProcess, int, bool]):
    wallet, number, by_ws = ethers
    network = await wallet.ask("network")
    assert int(network["chainId"]) == int(await stand.geth.rpc("eth_chainId"), 16)
    made = await wallet.ask("send", key=account(number), transaction={"data": "0x" + INIT})
    assert (made["nonce"], made["same"]) == (0, True)
    pending = await wallet.ask("transaction", hash=made["hash"])
    assert (pending["block"], pending["type"]) == (None, 2)
    assert await wallet.ask("receipt", hash=made["hash"]) is None
    sender = pending["from"]
    assert await wallet.ask("nonce", address=sender, block="pending") == 1
    assert await wallet.ask("nonce", address=sender, block="latest") == 0

    await stand.mine(made["hash"])
    assert (await wallet.ask("wait", hash=made["hash"]))["status"] == 1
    contract = (await wallet.ask("receipt", hash=made["hash"]))["contract"]
    assert int(await wallet.ask("call", to=contract), 16) == 42
    if by_ws:
        assert await wallet.ask("listen", address=contract)
    called = await wallet.ask("send", key=account(number), transaction={"to": contract})
    await stand.mine(called["hash"])
    assert (await wallet.ask("wait", hash=called["hash"]))["status"] == 1
    (log,) = await wallet.ask("logs", address=contract)
    assert (int(log["data"], 16), log["hash"]) == (42, called["hash"])
    mined = await wallet.ask("transaction", hash=called["hash"])
    assert called["hash"] in (await wallet.ask("block", number=mined["block"]))["transactions"]
    if by_ws:
        await until(lambda: _heard(wallet, called["hash"]), "ethers is told by its subscriptions", 20.0)
    assert not any(stand.tap.named(each["hash"]) for each in (made, called))


async def _heard(wallet: LineProcess, tx_hash: str) -> bool:
    heard = await wallet.ask("heard")
    return tx_hash in heard["pending"] and tx_hash in heard["logs"] and bool(heard["block"])


async def test_ethers_is_told_what_is_refused(ethers: tuple[LineProcess, int, bool]):
    wallet, _, _ = ethers
    with pytest.raises(Exception, match="hex string has length 2, want 64"):
        await wallet.ask("raw", method="eth_getTransactionByHash", params=["0x12"])


# -- the unix socket -----------------------------------------------------------------------------------


async def test_tracing_an_own_transaction_is_refused(stand: Stand, chain: OwnChain):
    tx_hash, raw = chain.sign()
    await stand.relay.rpc("eth_sendRawTransaction", "0x" + raw.hex())
    with pytest.raises(CallFailed, match="names a transaction of our own users"):
        await stand.relay.rpc("debug_traceTransaction", "0x" + tx_hash.hex())
    assert not stand.tap.named(tx_hash.hex())
