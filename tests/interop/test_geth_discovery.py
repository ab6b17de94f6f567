"""Real geth and pyrelay find each other, and others by each other, with nothing but a bootnode and UDP."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.until import until

pytestmark = pytest.mark.geth

DEADLINE = 60.0
WAYS = pytest.mark.parametrize("way", ["v4", "v5"])


def geth_flags(way: str, *bootnodes: str) -> list[str]:
    return [
        f"--discovery.v4={str(way == 'v4').lower()}", f"--discovery.v5={str(way == 'v5').lower()}",
        "--nat", "extip:127.0.0.1", "--bootnodes", ",".join(bootnodes),
    ]  # fmt: skip


async def enr_of(node: Geth | RelayProcess) -> str:
    async def told() -> str:
        return str((await node.rpc("admin_nodeInfo"))["enr"])

    return str(await until(told, "a node tells its record"))


async def until_met(node: Geth, *others: str) -> None:
    """Wait until a geth has all these nodes for peers; by their ids."""

    async def met() -> bool:
        return set(others) <= {each["id"] for each in await node.peers()}

    await until(met, lambda: f"{node.name} has met {others}\n{node.tail()}", DEADLINE, 0.2)


async def id_of(node: Geth | RelayProcess) -> str:
    return str((await node.rpc("admin_nodeInfo"))["id"])


@WAYS
async def test_geths_meet_each_other_and_us_by_a_pyrelay_as_bootnode(
    folder: Path, chain: OwnChain, way: str
) -> None:
    async with AsyncExitStack() as stack:
        relay = RelayProcess(
            folder / f"boot-{way}", "--network", str(chain.genesis), "--discovery", way, "--bootnodes", ""
        )
        await stack.enter_async_context(relay)
        flags = geth_flags(way, await enr_of(relay))
        geths = [
            await stack.enter_async_context(
                Geth(folder / f"{way}-{number}", chain.genesis, flags=flags, discovers=True)
            )
            for number in range(2)
        ]
        ids = [await id_of(each) for each in geths]
        # The one can know of the other by the relay alone.
        await until_met(geths[0], ids[1], await id_of(relay))
        await until_met(geths[1], ids[0], await id_of(relay))

        async def answered() -> bool:
            return int((await relay.rpc("admin_nodeInfo"))["discovery"][way]["live"]) >= 2

        await until(answered, "both geths have answered the relay over udp", DEADLINE, 0.2)


@WAYS
async def test_pyrelay_meets_a_second_geth_by_the_first(folder: Path, chain: OwnChain, way: str) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(
            Geth(folder / f"first-{way}", chain.genesis, flags=geth_flags(way), discovers=True)
        )
        entry = await enr_of(first)
        second = await stack.enter_async_context(
            Geth(folder / f"second-{way}", chain.genesis, flags=geth_flags(way, entry), discovers=True)
        )
        relay = RelayProcess(
            folder / f"relay-{way}", "--network", str(chain.genesis), "--discovery", way, "--bootnodes", entry
        )
        await stack.enter_async_context(relay)
        ids = {await id_of(first), await id_of(second)}

        async def met() -> bool:
            return ids <= {each["id"] for each in await relay.peers()}

        await until(met, "the relay has met both", DEADLINE, 0.2)
        relay.check()
