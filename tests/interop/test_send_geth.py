"""``pyrelay send`` between two geths that know each other: one is left out, and echoes what it heard."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from relay.primitives.enode import parse
from tests.aids.chain import OwnChain
from tests.aids.daemon import ROOT, RelayProcess
from tests.aids.geth import Geth

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

SECONDS = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def triangle(folder, chain: OwnChain):
    async with AsyncExitStack() as stack:
        geths = [await stack.enter_async_context(Geth(folder / name, chain.genesis)) for name in "ab"]
        await geths[0].add_peer(geths[1].enode)
        relay = RelayProcess(
            folder / "relay", "--network", str(chain.genesis), static_nodes=[geth.enode for geth in geths]
        )
        await stack.enter_async_context(relay)
        for geth in geths:
            await geth.until_peer(relay.node_key.public_key)
        await geths[0].until_peer(parse(geths[1].enode).public_key)
        await relay.until_peers(2)
        yield geths, relay


async def _send(relay: RelayProcess, *words: str, stdin: bytes = b"") -> tuple[int, list[dict[str, object]]]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", "send", *words, "--json", "--ipcpath", str(relay.ipc_path),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(SECONDS):
        out, _ = await child.communicate(stdin)
    assert child.returncode is not None
    return child.returncode, [json.loads(line) for line in out.splitlines()]


async def test_an_echo_comes_by_the_peer_that_was_left_out(triangle, chain: OwnChain):
    geths, relay = triangle
    tx_hash, raw = chain.sign()
    code, events = await _send(relay, raw.hex(), "--wait", "30")
    assert code == 0, events
    assert {each["hash"] for each in events} == {"0x" + tx_hash.hex()}
    assert [events[0]["event"], events[-1]["event"]] == ["sent", "echo"]
    assert (events[0]["sent"], events[0]["announced"], events[0]["listening"]) == (1, 0, 1)
    for geth in geths:
        await geth.until_holds({tx_hash: raw})


async def test_many_of_every_type_come_through(triangle, chain: OwnChain):
    geths, relay = triangle
    sent = chain.sign_many(12, (0, 1, 2, 4)) | dict([chain.sign_large()])
    lines = "\n".join(raw.hex() for raw in sent.values()).encode()
    code, events = await _send(relay, "-", "--wait", "30", stdin=lines)
    assert code == 0, events
    echoed = {each["hash"] for each in events if each["event"] == "echo"}
    assert echoed == {"0x" + tx_hash.hex() for tx_hash in sent}
    for geth in geths:
        await geth.until_holds(sent)


async def test_what_geth_would_refuse_is_refused_before_it_is_sent(triangle, chain: OwnChain):
    _, relay = triangle
    _, raw = chain.sign(gas=20_000)
    code, events = await _send(relay, raw.hex())
    words = "intrinsic gas too low: gas 20000, minimum needed 21000"
    assert (code, events) == (1, [{"event": "refused", "where": "RAWTX", "reason": words}])
