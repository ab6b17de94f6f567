"""JSON-RPC cases in the format of ethereum/execution-apis, by pyrelay to a geth that has their chain.

tests/vectors/rpc-compat was recorded from geth itself, on the chain of its own test data. The cases of
ethereum/execution-apis run as well where PYRELAY_TEST_EXECUTION_APIS names a copy of its folder `tests`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.geth_tools import geth_folder
from tests.aids.rpc_compat import Case, difference, read_cases, until_indexed

OWN = Path(__file__).parents[1] / "vectors" / "rpc-compat"
THEIRS = os.environ.get("PYRELAY_TEST_EXECUTION_APIS", "")
pytestmark = [
    pytest.mark.geth,
    pytest.mark.asyncio(loop_scope="module"),
]

# Not a wallet's business, and never passed on: testing_ makes blocks.
OTHERS = ("testing_",)


@dataclass
class Pair:
    """A geth with a chain, and pyrelay in front of it."""

    geth: Geth
    relay: RelayProcess

    async def check(self, case: Case) -> None:
        """Compare pyrelay's answer with the case; where geth itself differs from it, with geth's.

        Where not even two answers of geth are the same, because they tell the time, only shapes are compared.
        """
        for request, expected in case.exchanges:
            got = await exchange(self.relay.ipc_path, request)
            if not difference(expected, got, spec_only=case.spec_only):
                continue
            geths = await exchange(self.geth.ipc_path, request)
            await asyncio.sleep(1.1)  # a second more on geth's clock
            moved = geths != await exchange(self.geth.ipc_path, request)
            if different := difference(geths, got, spec_only=moved):
                pytest.fail(different)


async def exchange(path: Path, request: Any) -> Any:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        async with asyncio.timeout(30):
            return json.loads(await reader.readline())
    finally:
        writer.close()


async def _pair(folder: Path, name: str, genesis: Path, chain: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        geth = Geth(folder / f"geth-{name}", genesis, chain=chain, flags=["--rpc.evmtimeout", "60s"])
        await stack.enter_async_context(geth)
        await until_indexed(geth)
        relay = RelayProcess(
            folder / f"relay-{name}", "--network", str(genesis), "--rpc-upstream", str(geth.ipc_path),
            "--rpc-allow", "debug_*",  # which upstreams are not asked else
        )  # fmt: skip
        await stack.enter_async_context(relay)
        yield Pair(geth, relay)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own(folder: Path) -> AsyncIterator[Pair]:
    testdata = geth_folder() / "testdata"
    async for pair in _pair(folder, "own", testdata / "genesis.json", testdata / "chain.rlp"):
        yield pair


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def theirs(folder: Path) -> AsyncIterator[Pair]:
    async for pair in _pair(folder, "theirs", Path(THEIRS) / "genesis.json", Path(THEIRS) / "chain.rlp"):
        yield pair


def cases_of(folder: Path) -> list[Any]:
    found = [case for case in read_cases(folder) if not case.name.startswith(OTHERS)]
    return [pytest.param(case, id=case.name) for case in found]


@pytest.mark.parametrize("case", cases_of(OWN))
async def test_answers_are_those_of_geth(own: Pair, case: Case) -> None:
    await own.check(case)


if THEIRS:

    @pytest.mark.parametrize("case", cases_of(Path(THEIRS)))
    async def test_answers_are_those_of_the_execution_apis(theirs: Pair, case: Case) -> None:
        await theirs.check(case)
