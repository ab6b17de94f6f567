from __future__ import annotations

import json

from relay.chain.forkid import fork_id
from relay.chain.genesis import from_geth_genesis
from relay.chain.networks import BLOCK_FORKS, TIME_FORKS
from relay.localnet.genesis import throwaway_genesis

ADDRESSES = [bytes([number]) * 20 for number in range(1, 4)]


def chain(timestamp: int = 1_700_000_000):
    text = json.dumps(throwaway_genesis(1234567, ADDRESSES, timestamp))
    return from_geth_genesis(json.loads(text))[0]


def test_every_fork_up_to_osaka_is_active_from_the_start():
    config = chain()
    assert (config.chain_id, config.network_id) == (1234567, 1234567)
    assert {name for name, at in config.block_forks if at == 0} == set(BLOCK_FORKS) - {"daoFork"}
    until_osaka = TIME_FORKS[: TIME_FORKS.index("osaka") + 1]
    assert dict(config.time_forks) == dict.fromkeys(until_osaka, 0)


def test_nothing_is_to_come_that_peers_could_disagree_on():
    assert fork_id(chain(), None, 2_000_000_000).next == 0


def test_each_run_has_a_chain_of_its_own():
    assert chain().genesis_hash != chain(1_700_000_001).genesis_hash


def test_accounts_are_funded():
    genesis = throwaway_genesis(1, ADDRESSES, 0)
    assert genesis["alloc"] == {
        "0x" + address.hex(): {"balance": "0x3635c9adc5dea00000"} for address in ADDRESSES
    }
