"""geth's own conformance suite against pyrelay, which has a geth with the suite's chain for a trusted peer.

What passes is listed exactly, so that a change of either kind shows; docs/conformance.md is made of it.
"""

from __future__ import annotations

import json
import os
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import pytest_asyncio

from tests.aids import conformance
from tests.aids.conformance import TESTS, Outcome, run_suite
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.geth_tools import geth_folder, run_devp2p
from tests.aids.until import until

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

HEAD = 600  # of the suite's chain
WRITES = "PYRELAY_WRITE_CONFORMANCE" in os.environ
VERDICTS = {
    "none": frozenset(),
    "upstream": frozenset(),
}
"""What fails with each verdict."""


@asynccontextmanager
async def suite_geth(path):
    """A geth with the suite's chain."""
    testdata = geth_folder() / "testdata"
    async with Geth(path, testdata / "genesis.json", chain=testdata / "chain.rlp") as geth:
        yield geth


@asynccontextmanager
async def suite_relay(path, geth: Geth, *flags: str):
    """A relay that believes a geth, once it names the head."""
    relay = RelayProcess(
        path, "--network", str(geth_folder() / "testdata" / "genesis.json"), *flags, static_nodes=[geth.enode]
    )
    (relay.directory / "trusted-nodes.json").write_text(json.dumps([geth.enode]))
    async with relay:
        [peer] = await relay.until_peers(1)
        assert peer["protocols"]["eth"]["latestBlock"] == HEAD
        yield relay


async def names_head(relay: RelayProcess) -> bool:
    return (await relay.rpc("admin_nodeInfo"))["protocols"]["eth"]["latestBlock"] == HEAD


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outcomes(folder) -> dict[str, Outcome]:
    """What each run came to, by column; each has a geth of its own, as the suite wants it."""
    found: dict[str, Outcome] = {}

    async def alone() -> None:
        async with suite_geth(folder / "alone") as geth:
            found["geth"] = await run_suite(geth.enode, geth)

    async def through(verdict: str) -> None:
        async with AsyncExitStack() as stack:
            geth = await stack.enter_async_context(suite_geth(folder / f"g-{verdict}"))
            flags = [] if verdict == "none" else ["--verdict", verdict, "--rpc-upstream", str(geth.ipc_path)]
            relay = await stack.enter_async_context(suite_relay(folder / f"r-{verdict}", geth, *flags))
            await until(partial(names_head, relay), "the relay names the head", 30.0)
            found[verdict] = await run_suite(relay.enode, geth)
            # Whatever the suite did, nobody else noticed.
            assert geth.drops(relay.node_key.public_key) == []
            assert len(await relay.until_peers(1)) == 1

    await alone()
    for verdict in VERDICTS:
        await through(verdict)
    return found


async def test_devp2p_ping_reads_our_hello(folder):
    async with AsyncExitStack() as stack:
        relay = RelayProcess(folder / "pinged", "--network", str(geth_folder() / "testdata" / "genesis.json"))
        await stack.enter_async_context(relay)
        code, output = await run_devp2p("rlpx", "ping", relay.enode)
        assert code == 0, output
        assert "Version:5 Name:pyrelay/" in output
        assert "Caps:[eth/68 eth/69 eth/70 eth/71 eth/72 pyrelay/1]" in output


async def test_the_suite_passes_on_geth_itself(outcomes):
    assert outcomes["geth"].passed == set(TESTS), outcomes["geth"].output


@pytest.mark.parametrize("verdict", VERDICTS)
async def test_the_suite_passes_exactly_what_is_listed(outcomes, verdict):
    outcome = outcomes[verdict]
    assert outcome.failed == VERDICTS[verdict], outcome.output
    assert outcome.passed == set(TESTS) - VERDICTS[verdict], outcome.output


async def test_the_page_tells_what_came_out(outcomes):
    titles = {"geth": "geth itself"} | {verdict: f"pyrelay, `--verdict {verdict}`" for verdict in VERDICTS}
    version = geth_folder().name.removeprefix("geth-")
    made = conformance.page(version, {titles[each]: outcomes[each] for each in titles})
    if WRITES:
        conformance.PAGE.write_text(made)
    assert conformance.PAGE.read_text() == made
