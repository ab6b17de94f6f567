"""The keys under which the relays of a chain find each other. Spec: docs/specs/provider-dht.md, "Rendezvous".

One fixed key would be sixteen node ids, ground once, that own the bootstrapping for ever. So the keys change
with each epoch, and in each epoch there are sixteen, of which a node provides at two: whoever wants to own
them grinds 256 ids a day and must keep them alive beside the honest ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeId
from relay.protocols.dht.keys import KEY_SIZE, Key

__all__ = ["EPOCH", "OVERLAP", "PARTS", "SHARE", "RendezvousKeys", "rendezvous_key", "rendezvous_keys"]

EPOCH: Final = 86_400  # seconds
OVERLAP: Final = 7200  # seconds on both sides of the turn in which two epochs count
PARTS: Final = 16  # keys of an epoch
SHARE: Final = 2  # of them that a node provides at
_DOMAIN: Final = b"provider rendezvous v1"
_SHARE_DOMAIN: Final = b"provider rendezvous share v1"


@dataclass(frozen=True, slots=True)
class RendezvousKeys:
    """What to do with the keys of a chain now.

    Attributes:
        find: keys to look at, those of the present epoch first; take them in random order.
        provide: keys to provide at.
        until: unix seconds; when one of the two changes.
    """

    find: tuple[Key, ...]
    provide: tuple[Key, ...]
    until: int


def rendezvous_key(genesis_hash: bytes, chain_id: int, epoch: int, part: int) -> Key:
    """Return one key.

    Args:
        genesis_hash: 32 bytes.
        chain_id: of EIP-155; with the genesis hash it names a chain in all its forks.
        epoch: whole number of the epoch, see `epoch_at`.
        part: from 0 to 15.
    """
    assert len(genesis_hash) == KEY_SIZE
    numbers = chain_id.to_bytes(8, "big") + epoch.to_bytes(8, "big") + bytes((part,))
    return Key(keccak256(_DOMAIN + genesis_hash + numbers))


def rendezvous_keys(genesis_hash: bytes, chain_id: int, unix: float, own_id: NodeId) -> RendezvousKeys:
    """Return the keys of a chain at a time.

    Args:
        genesis_hash: 32 bytes.
        chain_id: of EIP-155.
        unix: seconds of the time of day.
        own_id: whose share of the keys is provided at.
    """
    seconds = int(unix) + offset(genesis_hash)
    epoch, passed = divmod(seconds, EPOCH)
    early, late = passed < OVERLAP, passed >= EPOCH - OVERLAP
    find = [epoch, *([epoch - 1] if early else [epoch + 1] if late else [])]
    provide = [epoch, epoch + 1] if late else [epoch]
    change = next(each for each in (OVERLAP, EPOCH - OVERLAP, EPOCH) if passed < each)
    return RendezvousKeys(
        tuple(rendezvous_key(genesis_hash, chain_id, each, part) for each in find for part in range(PARTS)),
        tuple(
            rendezvous_key(genesis_hash, chain_id, each, part)
            for each in provide
            for part in share_of(own_id, each)
        ),
        int(unix) + change - passed,
    )


def offset(genesis_hash: bytes) -> int:
    """Return seconds by which a chain's epochs begin before midnight UTC: not all chains turn at once."""
    return int.from_bytes(genesis_hash[:4], "big") % EPOCH


def share_of(own_id: NodeId, epoch: int) -> tuple[int, ...]:
    """Return the parts that a node provides at in an epoch; others in the next one."""
    return tuple(sorted(_distinct(own_id, epoch)))


def _distinct(own_id: NodeId, epoch: int) -> set[int]:
    chosen: set[int] = set()
    for byte in _stream(own_id + epoch.to_bytes(8, "big")):
        chosen.add(byte % PARTS)
        if len(chosen) == SHARE:
            break
    return chosen


def _stream(seed: bytes) -> Iterator[int]:
    digest = _SHARE_DOMAIN + seed
    while True:
        digest = keccak256(digest)
        yield from digest
