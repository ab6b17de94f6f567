"""Blob transactions from one geth to another through pyrelay, in every version of eth that geth speaks."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import pytest_asyncio

from relay.chain.transactions import decode
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.rpc.client import CallFailed
from tests.aids.blobs import blob_transaction, real_blob
from tests.aids.chain import GWEI, OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.until import until

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

BLOB_BYTES = 256 * 1024  # with its extension
OLD = "v1.17.0"  # of geth: speaks 68, and no version above 69


class Blobs:
    """Signs blob transactions of accounts that send nothing else."""

    def __init__(self, chain: OwnChain) -> None:
        self._chain, self._next = chain, 150

    def sign(self, *numbers: int, nonce: int = 0, **changes) -> tuple[bytes, bytes]:
        """Return hash and bytes of the first transaction of another account."""
        key = NodeKey(keccak256(b"account %d" % self._next))
        self._next += 1
        fields = {"chain_id": self._chain.chain_id, "protect": self._chain.chain_id, "key": key}
        fields |= {"nonce": nonce, "value": 1, "gas": 100_000, "fee": 30 * GWEI, "tip": GWEI}
        raw = blob_transaction(*numbers, make=real_blob, **(fields | changes))
        return decode(raw).hash, raw


@pytest.fixture(scope="module")
def blobs(chain: OwnChain) -> Blobs:
    return Blobs(chain)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def geths(folder, chain: OwnChain):
    """Two that know of each other through pyrelay only."""
    async with AsyncExitStack() as stack:
        made = [Geth(folder / name, chain.genesis) for name in ("a", "b")]
        await asyncio.gather(*(stack.enter_async_context(geth) for geth in made))
        yield made


@asynccontextmanager
async def relaying(folder, chain: OwnChain, name: str, *peers: Geth, flags: tuple[str, ...] = ()):
    """A relay that dials these."""
    relay = RelayProcess(
        folder / name,
        "--network",
        str(chain.genesis),
        *flags,
        static_nodes=[geth.enode for geth in peers],
    )
    async with relay:
        for geth in peers:
            await geth.until_peer(relay.node_key.public_key)
        yield relay


async def spoken(geth: Geth, relay: RelayProcess) -> int:
    peer = await geth.until_peer(relay.node_key.public_key)
    return peer["protocols"]["eth"]["version"]


async def until_has(geth: Geth, tx_hash: bytes, raw: bytes, deadline: float = 240.0) -> None:
    """Wait until a geth has it in its pool, with these very blobs and proofs."""

    async def there() -> bytes | None:
        return await geth.raw_transaction(tx_hash)

    found = await until(there, lambda: f"{geth.name} has {tx_hash.hex()}\n{geth.tail()}", deadline, 0.1)
    assert found == raw, (len(found), len(raw))


async def check_whole(relay: RelayProcess, *geths: Geth) -> None:
    for geth in geths:
        assert geth.drops(relay.node_key.public_key) == []
        assert await geth.peer(relay.node_key.public_key)


@pytest.mark.parametrize("version", [69, 70, 71, 72])
async def test_blob_transactions_pass_both_ways(folder, chain: OwnChain, blobs: Blobs, geths, version):
    a, b = geths
    flags = ("--eth-versions", str(version))
    async with relaying(folder, chain, f"v{version}", a, b, flags=flags) as relay:
        assert [await spoken(geth, relay) for geth in geths] == [version, version]
        for source, sink, numbers in ((a, b, (1,)), (b, a, (1, 2, 3, 4, 5, 6))):
            tx_hash, raw = blobs.sign(*numbers)
            assert await source.send(raw) == "0x" + tx_hash.hex()
            await until_has(sink, tx_hash, raw)
        # What the two had before, the relay fetches as well, but none of it goes on.
        assert await relay.metric("pyrelay_blobs_verified_total") >= 7
        assert await relay.metric("pyrelay_pool_blob_bytes") >= 7 * BLOB_BYTES
        assert await relay.metric("pyrelay_cells_served_total") == (7 * 64 if version == 72 else 0)
        fetched = await relay.metric("pyrelay_cells_fetched_total")
        assert fetched >= 7 * 65 if version == 72 else fetched == 0
        await check_whole(relay, a, b)


async def test_what_came_in_cells_is_served_whole_to_an_older_geth(
    folder, chain: OwnChain, blobs: Blobs, geths
):
    a = geths[0]
    async with (
        Geth(folder / "c", chain.genesis, version=OLD) as c,
        relaying(folder, chain, "mixed", a, c) as relay,
    ):
        assert [await spoken(geth, relay) for geth in (a, c)] == [72, 69]
        for source, sink in ((a, c), (c, a)):
            tx_hash, raw = blobs.sign(7, 8)
            await source.send(raw)
            await until_has(sink, tx_hash, raw)
        await check_whole(relay, a, c)


async def test_a_new_peer_is_told_of_blob_transactions_that_were_there(
    folder, chain: OwnChain, blobs: Blobs, geths
):
    a, b = geths
    async with relaying(folder, chain, "late", a) as relay:
        tx_hash, raw = blobs.sign(1, 2)
        await a.send(raw)

        async def held() -> bool:
            with suppress(CallFailed):  # it has no chain to look further in
                return bool(await relay.rpc("eth_getTransactionByHash", "0x" + tx_hash.hex()))
            return False

        await until(held, "the relay has it", 240.0, 0.2)
        await b.add_peer(relay.enode)
        await until_has(b, tx_hash, raw)
        await check_whole(relay, a, b)
        await b.remove_peer(relay.enode)


async def test_our_own_users_send_blob_transactions(folder, chain: OwnChain, blobs: Blobs, geths):
    async with relaying(folder, chain, "own", *geths) as relay:
        tx_hash, raw = blobs.sign(3, 4)
        assert await relay.rpc("eth_sendRawTransaction", "0x" + raw.hex()) == "0x" + tx_hash.hex()
        await asyncio.gather(*(until_has(geth, tx_hash, raw) for geth in geths))
        assert await relay.metric("pyrelay_transactions_submitted_total") == 1
        await check_whole(relay, *geths)


async def test_transactions_of_all_types_pass_in_eth_68(folder, chain: OwnChain, blobs: Blobs):
    async with AsyncExitStack() as stack:
        ends = [Geth(folder / f"old{number}", chain.genesis, version=OLD) for number in range(2)]
        await asyncio.gather(*(stack.enter_async_context(geth) for geth in ends))
        flags = ("--eth-versions", "68")
        relay = await stack.enter_async_context(relaying(folder, chain, "v68", *ends, flags=flags))
        assert [await spoken(geth, relay) for geth in ends] == [68, 68]
        plain = chain.sign_many(40, (0, 1, 2, 4))
        large = dict([chain.sign_large()])
        tx_hash, raw = blobs.sign(1)
        await ends[0].send_many([*plain.values(), *large.values()])
        await ends[1].send(raw)
        await ends[1].until_holds(plain | large)
        await until_has(ends[0], tx_hash, raw)
        await check_whole(relay, *ends)


async def test_without_a_pool_for_them_no_blobs_pass(folder, chain: OwnChain, blobs: Blobs, geths):
    a, b = geths
    async with relaying(folder, chain, "none", a, b, flags=("--blob-pool", "0")) as relay:
        tx_hash, raw = blobs.sign(1)
        await a.send(raw)
        await relay.until_metric("pyrelay_announced_refused_total", lambda count: count > 0)
        marker = dict([chain.sign(), chain.sign_large()])
        await a.send_many(marker.values())
        await b.until_holds(marker)  # what came before would have come, too
        assert await b.raw_transaction(tx_hash) is None
        with pytest.raises(CallFailed, match="blob transactions are not relayed"):
            await relay.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        await check_whole(relay, a, b)
