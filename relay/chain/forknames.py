"""What a fork id found in the wild stands for: which known chain, and its newest fork. Spec: EIP-2124."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.chain.forkid import fork_id
from relay.chain.networks import ChainConfig
from relay.primitives.forkid import ForkId

__all__ = ["ForkName", "ForkNames"]


@dataclass(frozen=True, slots=True)
class ForkName:
    """A fork hash in words.

    Attributes:
        chain: the network's name.
        fork: its newest fork that the hash covers; "genesis" for none.
    """

    chain: str
    fork: str


class ForkNames:
    """Names fork hashes. Where two chains share a hash, the one that was given first has it.

    Args:
        chains: the chains that are known.
    """

    __slots__ = ("_names",)

    def __init__(self, chains: Iterable[ChainConfig]) -> None:
        self._names: dict[bytes, ForkName] = {}
        for chain in chains:
            self._names = _names_of(chain) | self._names

    def name(self, fork: ForkId) -> ForkName | None:
        """Return what a fork id stands for; None: a chain or a fork that is unknown here."""
        return self._names.get(fork.hash)


def _names_of(chain: ChainConfig) -> dict[bytes, ForkName]:
    # Of forks at the same height the last one names the hash: nobody stands between them.
    found = {fork_id(chain, 0, 0).hash: ForkName(chain.name, "genesis")}
    for name, block in sorted(chain.block_forks, key=lambda fork: fork[1]):
        found[fork_id(chain, block, 0).hash] = ForkName(chain.name, name)
    for name, time in sorted(chain.time_forks, key=lambda fork: fork[1]):
        found[fork_id(chain, None, time).hash] = ForkName(chain.name, name)
    return found
