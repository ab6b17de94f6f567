"""Private broadcast to three real geths: a connection, a transaction each; the echo of an ordinary peer."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from relay.chain.transactions import decode
from relay.primitives.enode import Enode, parse
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey
from relay.rpc.client import CallFailed
from tests.aids.blobs import blob_transaction, real_blob
from tests.aids.chain import GWEI, OwnChain
from tests.aids.daemon import ROOT, RelayProcess
from tests.aids.geth import Geth
from tests.aids.socks_server import SocksServer
from tests.aids.until import stays, until

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

SECONDS = 60.0


class Street:
    """Three geths, each behind an onion of the scripted proxy."""

    def __init__(self, geths: list[Geth], proxy: SocksServer) -> None:
        self.geths, self.proxy = geths, proxy
        self.nodes = []
        for geth in geths:
            at = parse(geth.enode)
            onion = OnionKey.generate(secrets.token_bytes).address
            proxy.routes[onion, 30303] = ("127.0.0.1", at.tcp)
            self.nodes.append(Enode(at.public_key, onion, 30303, 0).url)

    @asynccontextmanager
    async def relay(self, folder: Path, chain: OwnChain, *flags: str, nodes: int = 3):
        """A relay that sees nothing of the world but the proxy."""
        relay = RelayProcess(
            folder, "--network", str(chain.genesis), "--only-onion", "--tor-proxy", self.proxy.address,
            "--tor-control", "127.0.0.1:1", "--onion-service", "off", "--private-broadcast", "auto", *flags,
            clearnet=False, static_nodes=self.nodes[:nodes],
        )  # fmt: skip
        async with relay:
            yield relay


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def street(folder, chain: OwnChain):
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(SocksServer())
        made = [Geth(folder / name, chain.genesis) for name in "abc"]
        await asyncio.gather(*(stack.enter_async_context(geth) for geth in made))
        yield Street(made, proxy)


async def _deliveries(street: Street, relay: RelayProcess, count: int) -> None:
    await relay.until_metric("pyrelay_private_delivered_total", count, SECONDS)


async def test_each_of_three_gets_one_connection_and_the_transaction(street, folder, chain: OwnChain):
    asked = len(street.proxy.asked)
    async with street.relay(folder / "hidden", chain, "--maxpeers", "0") as relay:
        tx_hash, raw = chain.sign()
        await relay.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        await _deliveries(street, relay, 3)
        for geth in street.geths:
            await geth.until_holds({tx_hash: raw})
        dials = street.proxy.asked[asked:]
        assert len({each.host for each in dials}) == len({each.password for each in dials}) == len(dials) == 3
        assert await relay.metric("pyrelay_private_dials_total") == 3
        for geth in street.geths:
            (joined,) = geth.lines("Adding p2p peer")
            assert joined.rstrip().endswith("name=pyrelay")
            await geth.until_logged("Removing p2p peer", 'err="disconnect requested"')
        (entry,) = await relay.rpc("relay_privateTransactions")
        assert (entry["confirmed"], entry["rounds"]) == (3, 1)


async def test_a_blob_transaction_is_fetched_by_each(street, folder, chain: OwnChain):
    key = NodeKey(keccak256(b"account %d" % 180))
    fields = {"chain_id": chain.chain_id, "protect": chain.chain_id, "key": key, "nonce": 0, "value": 1}
    raw = blob_transaction(1, make=real_blob, gas=100_000, fee=30 * GWEI, tip=GWEI, **fields)
    tx_hash = decode(raw).hash
    async with street.relay(folder / "blobs", chain, "--maxpeers", "0") as relay:
        await relay.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        await _deliveries(street, relay, 3)
        for geth in street.geths:
            await until(lambda geth=geth: _holds(geth, tx_hash), "geth holds it", SECONDS)
        assert await relay.metric("pyrelay_private_dials_total") == 3


async def test_the_echo_comes_by_an_ordinary_peer_and_send_waits_for_it(street, folder, chain: OwnChain):
    async with street.relay(folder / "known", chain, nodes=1) as relay:
        await relay.until_peers(1)
        sent = dict(chain.sign() for _ in range(2))
        lines = "\n".join(raw.hex() for raw in sent.values()).encode()
        code, events = await _send(relay, "-", "--wait", "50", stdin=lines)
        assert code == 0, events
        assert {each["hash"] for each in events if each["event"] == "echo"} == {
            "0x" + tx_hash.hex() for tx_hash in sent
        }
        assert any(each.get("private") == "waits for its echo" or each["event"] == "echo" for each in events)
        await street.geths[0].until_holds(sent)
        assert await relay.rpc("relay_privateTransactions") == []
        for each in sent:
            assert (await relay.rpc("relay_trackTransaction", "0x" + each.hex()))["held"]


async def test_private_list_and_abort(street, folder, chain: OwnChain):
    async with street.relay(folder / "alone", chain, "--maxpeers", "0", nodes=1) as relay:
        tx_hash, raw = chain.sign()
        await relay.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        await _deliveries(street, relay, 1)
        code, out = await _command(relay, "private", "list")
        assert code == 0
        assert ("0x" + tx_hash.hex()) in out
        assert "waits for its echo" in out
        code, out = await _command(relay, "private", "abort", tx_hash.hex())
        assert (code, out) == (0, f"0x{tx_hash.hex()}  is sent no more\n")
        assert await _command(relay, "private", "list") == (0, "nothing waits\n")
        code, _ = await _command(relay, "private", "abort", tx_hash.hex())
        assert code == 1
        dials = len(street.proxy.asked)
        await stays(lambda: len(street.proxy.asked) == dials, "it goes out no more", 0.5)


async def _holds(geth: Geth, tx_hash: bytes) -> bool:
    with suppress(CallFailed):  # it indexes its chain, it says for a while
        return await geth.rpc("eth_getTransactionByHash", "0x" + tx_hash.hex()) is not None
    return False


async def _send(relay: RelayProcess, *words: str, stdin: bytes = b"") -> tuple[int, list[dict[str, object]]]:
    code, out = await _command(relay, "send", *words, "--json", stdin=stdin)
    return code, [json.loads(line) for line in out.splitlines()]


async def _command(relay: RelayProcess, *words: str, stdin: bytes = b"") -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", *words, "--ipcpath", str(relay.ipc_path),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(SECONDS):
        out, _ = await child.communicate(stdin)
    assert child.returncode is not None
    return child.returncode, out.decode()
