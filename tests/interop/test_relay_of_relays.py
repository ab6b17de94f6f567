"""Relays behind relays: a question goes from one to the next by `pyrelay/1`, and never in circles.

geth <- relay one <- relay two <- relay three <- relay four, and each knows its neighbours only. Three is two
hops from the one that knows a geth, which is as far as a question goes.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from relay.protocols.eth import messages as m
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.proxy_peer import ANSWERS
from tests.aids.scripted_peer import ScriptedPeer

pytestmark = [pytest.mark.geth, pytest.mark.asyncio]

BLOCKS = 40


async def ask(enode: str, chain: OwnChain, *requests: m.EthMessage) -> list[Any]:
    answers = []
    async with await ScriptedPeer.dial(enode, chain.config, versions=(71,)) as peer:
        await peer.join()
        for request in requests:
            peer.say(request)
            answers.append(await peer.expect(ANSWERS[type(request)]))
    return answers


async def test_a_question_goes_two_relays_far_and_no_further(tmp_path, chain: OwnChain):
    async with AsyncExitStack() as stack:
        geth = await stack.enter_async_context(Geth(tmp_path / "geth", chain.genesis))
        await geth.grow(chain.sign_many(BLOCKS, (2, 0)).values())
        blocks = await geth.rpc_many("eth_getHeaderByNumber", [hex(number) for number in range(BLOCKS)])
        hashes = [bytes.fromhex(each["hash"][2:]) for each in blocks]
        relays, before = [], geth.enode
        for name in ("one", "two", "three", "four"):
            relay = RelayProcess(tmp_path / name, "--network", str(chain.genesis), static_nodes=[before])
            (relay.directory / "trusted-nodes.json").write_text(json.dumps([before]))
            await stack.enter_async_context(relay)
            await relay.until_peers(1)
            relays.append(relay)
            before = relay.enode
        questions = [
            m.GetBlockHeaders(1, hashes[-1], 9, 0, True),
            m.GetBlockHeaders(2, 7, 3),
            m.GetBlockBodies(3, tuple(hashes[5:9])),
            m.GetReceipts(4, tuple(hashes[5:9])),
        ]
        right = await ask(geth.enode, chain, *questions)
        # The fourth asks first, while nobody holds anything: its question ends at the second.
        nothing = await ask(relays[3].enode, chain, questions[0])
        assert nothing == [m.BlockHeaders(1, ())]
        assert await ask(relays[2].enode, chain, *questions) == right
        assert await ask(relays[1].enode, chain, *questions) == right
        for relay in relays:
            assert await relay.metric("pyrelay_chain_lies_total") == 0
            assert "pyrelay_offences_total" not in await relay.metrics()
