"""What has to be known of a chain to speak with its nodes: ids, genesis, fork schedule, ways in.

The schedule is configuration, not code: presets are TOML files, a custom chain is geth's genesis.json
(see genesis.py). Fork names are those of geth's chain configuration without their suffix: "londonBlock" is
"london", "bpo1Time" is "bpo1".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from relay.primitives.errors import DecodeError

__all__ = ["BLOCK_FORKS", "TIME_FORKS", "ChainConfig", "Fork", "from_preset"]

Fork: TypeAlias = tuple[str, int]
"""Name, and the block number or unix time that it begins at."""

_T = TypeVar("_T")

# In the order that they must happen in. Spec: go-ethereum params/config.go, ChainConfig.
BLOCK_FORKS: Final = (
    "homestead",
    "daoFork",
    "eip150",
    "eip155",
    "eip158",
    "byzantium",
    "constantinople",
    "petersburg",
    "istanbul",
    "muirGlacier",
    "berlin",
    "london",
    "arrowGlacier",
    "grayGlacier",
    "mergeNetsplit",
)
TIME_FORKS: Final = (
    "shanghai",
    "cancun",
    "prague",
    "osaka",
    "ubt",
    "bpo1",
    "bpo2",
    "bpo3",
    "bpo4",
    "bpo5",
    "amsterdam",
    "bogota",
)
MAX_UINT64: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ChainConfig:
    """One chain.

    Attributes:
        name: for people and logs.
        network_id: what Status carries.
        chain_id: what transactions carry.
        genesis_hash: 32 bytes.
        genesis_time: unix seconds.
        block_forks: forks by block number, those of genesis included.
        time_forks: forks by unix time, those of genesis included.
        bootnodes_v4: enode URLs or records, for discv4.
        bootnodes_v5: records, for discv5.
        dns_tree: enrtree:// URL of an EIP-1459 node list, or empty.
    """

    name: str
    network_id: int
    chain_id: int
    genesis_hash: bytes
    genesis_time: int
    block_forks: tuple[Fork, ...]
    time_forks: tuple[Fork, ...]
    bootnodes_v4: tuple[str, ...] = ()
    bootnodes_v5: tuple[str, ...] = ()
    dns_tree: str = ""

    def forks_at(self, now_unix: float) -> tuple[str, ...]:
        """Return the names of the forks in force at a time, oldest first.

        Forks by block number all count as passed: every live chain is beyond its merge.
        """
        return tuple(name for name, _ in self.block_forks) + tuple(
            name for name, time in self.time_forks if time <= now_unix
        )


def from_preset(preset: Mapping[str, object]) -> ChainConfig:
    """Build the configuration that a preset file (parsed TOML) describes.

    Raises:
        DecodeError: a setting is missing, unknown or has the wrong type; names it.
    """
    unknown = preset.keys() - ChainConfig.__dataclass_fields__.keys()
    if unknown:
        raise DecodeError(f"network preset: unknown setting {min(unknown)!r}")
    return ChainConfig(
        name=_get(preset, "name", str),
        network_id=_whole(preset, "network_id"),
        chain_id=_whole(preset, "chain_id"),
        genesis_hash=_hash(preset, "genesis_hash"),
        genesis_time=_whole(preset, "genesis_time"),
        block_forks=_forks(preset, "block_forks", BLOCK_FORKS),
        time_forks=_forks(preset, "time_forks", TIME_FORKS),
        bootnodes_v4=_texts(preset, "bootnodes_v4"),
        bootnodes_v5=_texts(preset, "bootnodes_v5"),
        dns_tree=_get(preset, "dns_tree", str),
    )


def _get(preset: Mapping[str, object], key: str, kind: type[_T]) -> _T:
    value = preset.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "nothing" if value is None else type(value).__name__
        raise DecodeError(f"network preset: {key} must be of type {kind.__name__}, found {found}")
    return value


def _whole(preset: Mapping[str, object], key: str) -> int:
    value = _get(preset, key, int)
    if not 0 <= value <= MAX_UINT64:
        raise DecodeError(f"network preset: {key} must be between 0 and 2^64-1, found {value}")
    return value


def _hash(preset: Mapping[str, object], key: str) -> bytes:
    text = _get(preset, key, str).removeprefix("0x")
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32 or len(text) != 64:
        raise DecodeError(f"network preset: {key} must be 0x and 64 hex digits")
    return value


def _texts(preset: Mapping[str, object], key: str) -> tuple[str, ...]:
    values: list[object] = _get(preset, key, list)
    texts = tuple(value for value in values if isinstance(value, str))
    if len(texts) != len(values):
        raise DecodeError(f"network preset: {key} must hold strings only")
    return texts


def _forks(preset: Mapping[str, object], key: str, known: tuple[str, ...]) -> tuple[Fork, ...]:
    table: dict[str, object] = _get(preset, key, dict)
    for name in table:
        if name not in known:
            raise DecodeError(f"network preset: {key} holds the unknown fork {name!r}")
    return tuple((name, _whole(table, name)) for name in known if name in table)
