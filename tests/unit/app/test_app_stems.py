"""A stem between two real daemons: over a connection, by the capability that relays have among them."""

from __future__ import annotations

import pytest

from tests.aids.chain import OwnChain
from tests.aids.running import running
from tests.aids.until import until


@pytest.mark.parametrize("how", ["auto", "off"])
async def test_what_a_user_sends_is_first_gossiped_by_the_relay_that_was_dialed(settings_of, tmp_path, how):
    chain = OwnChain(tmp_path)
    near = settings_of(network=chain.genesis, datadir=tmp_path / "near", dandelion=how)
    far = settings_of(network=chain.genesis, datadir=tmp_path / "far")
    async with running(far) as second, running(near) as first:
        await first.rpc("admin_addPeer", (await second.rpc("admin_nodeInfo"))["enode"])
        await until(lambda: len(first.daemon.main.eth.roster) == 1, "the relays are peers", 30.0)
        tx_hash, raw = chain.sign()
        assert await first.rpc("eth_sendRawTransaction", "0x" + raw.hex()) == "0x" + tx_hash.hex()
        ours, theirs = first.daemon.main.eth, second.daemon.main.eth
        assert (tx_hash in ours.pool) is (how == "off")
        assert (tx_hash in ours.stems) is (how == "auto")
        # The second dialed nobody, so the stem ends there.
        await until(lambda: tx_hash in theirs.pool, "the second has it", 30.0)
        assert ours.counters.stems.begun == (how == "auto")
        assert theirs.counters.stems.ended["fluffed"] == (how == "auto")
        assert await first.metric("pyrelay_stem_passed_total") == (how == "auto")
