"""Fork ids of a chain: our own, and the judgement of a peer's. Spec: EIP-2124, EIP-6122."""

from __future__ import annotations

from typing import Final
from zlib import crc32

from relay.chain.networks import ChainConfig
from relay.primitives.errors import UselessPeer
from relay.primitives.forkid import ForkId

__all__ = ["ForkFilter", "ForkMismatch", "IncompatibleChain", "RemoteStale", "fork_id"]

# Mainnet's birth: a larger "next" of a chain that still counts blocks can only be a time. Spec: EIP-6122.
TIMESTAMP_THRESHOLD: Final = 1438269973
_NEVER: Final = 2**64 - 1


class ForkMismatch(UselessPeer):
    """The peer's fork id does not fit our chain."""


class RemoteStale(ForkMismatch):
    """The peer does not know of a fork that has happened: it needs an update."""


class IncompatibleChain(ForkMismatch):
    """The peer is on another chain, or our own schedule lacks a fork that has happened."""


def fork_id(config: ChainConfig, head_block: int | None, head_time: float) -> ForkId:
    """Return the fork id of a node of this chain.

    Args:
        config: the chain.
        head_block: number of its newest block; None for one beyond every fork by number.
        head_time: that block's time, unix seconds.
    """
    blocks, times = _schedule(config)
    checksum = crc32(config.genesis_hash)
    head = max(blocks, default=0) if head_block is None else head_block
    for fork, reached in [(block, head) for block in blocks] + [(time, head_time) for time in times]:
        if reached < fork:
            return ForkId(checksum.to_bytes(4, "big"), fork)
        checksum = crc32(fork.to_bytes(8, "big"), checksum)
    return ForkId(checksum.to_bytes(4, "big"), 0)


class ForkFilter:
    """Judges fork ids by a chain's whole schedule, with "now" as the time of our head.

    A relay has no chain of its own: it takes the forks by number as passed and the clock for its head.
    """

    __slots__ = ("_block_count", "_forks", "_head", "_sums")

    def __init__(self, config: ChainConfig) -> None:
        blocks, times = _schedule(config)
        checksum = crc32(config.genesis_hash)
        self._sums = [checksum.to_bytes(4, "big")]
        for fork in blocks + times:
            checksum = crc32(fork.to_bytes(8, "big"), checksum)
            self._sums.append(checksum.to_bytes(4, "big"))
        # A last fork that never comes; without forks by time it is one by number.
        self._forks = [*blocks, *times, _NEVER]
        self._block_count = len(blocks) + (not times)
        self._head = max(blocks, default=0)

    def check(self, remote: ForkId, now_unix: float, head_block: int | None = None) -> None:
        """Accept or refuse a peer's fork id.

        Args:
            remote: what the peer's record or Status says.
            now_unix: unix seconds.
            head_block: number of our newest block; None for one beyond every fork by number.

        Raises:
            RemoteStale: rule 2 of EIP-2124: it misses a fork that has happened.
            IncompatibleChain: rules 1a and 4.
        """
        block = self._head if head_block is None else head_block
        heads = [block] * self._block_count + [now_unix] * (len(self._forks) - self._block_count)
        state = next(i for i, fork in enumerate(self._forks) if heads[i] < fork)
        if remote.hash == self._sums[state]:
            passed = heads[state] >= remote.next or TIMESTAMP_THRESHOLD < remote.next <= now_unix
            if remote.next and passed:
                raise IncompatibleChain(f"peer expects a fork at {remote.next} that this chain did not have")
        elif remote.hash in self._sums[:state]:
            if self._forks[self._sums.index(remote.hash)] != remote.next:
                raise RemoteStale(f"peer's fork id {remote} lacks a fork that has happened")
        elif remote.hash not in self._sums[state:]:
            raise IncompatibleChain(f"peer's fork id {remote} is not of this chain")


def _schedule(config: ChainConfig) -> tuple[list[int], list[int]]:
    """Return the forks after genesis by number and by time, each value once, in order."""
    blocks = sorted({at for _, at in config.block_forks if at > 0})
    times = sorted({at for _, at in config.time_forks if at > config.genesis_time})
    return blocks, times
