"""The throwaway chain that the relays live on: a genesis.json as `geth init` takes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["throwaway_genesis"]

_BLOCK_FORKS: Final = (
    "homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg", "istanbul",
    "muirGlacier", "berlin", "london", "arrowGlacier", "grayGlacier", "mergeNetsplit",
)  # fmt: skip
_TIME_FORKS: Final = ("shanghai", "cancun", "prague", "osaka")
_BLOBS: Final = {  # params/config.go: DefaultCancunBlobConfig and the following; geth demands them
    "cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3_338_477},
    "prague": {"target": 6, "max": 9, "baseFeeUpdateFraction": 5_007_716},
    "osaka": {"target": 6, "max": 9, "baseFeeUpdateFraction": 5_007_716},
}
GAS_LIMIT: Final = 36_000_000
BALANCE: Final = 10**21  # wei


def throwaway_genesis(chain_id: int, funded: Iterable[bytes], timestamp: int) -> dict[str, object]:
    """Return a genesis with every fork up to Osaka active from the start.

    Args:
        chain_id: also the network id.
        funded: addresses that own a thousand ether each.
        timestamp: Unix seconds.
    """
    forks = {f"{name}Block": 0 for name in _BLOCK_FORKS} | {f"{name}Time": 0 for name in _TIME_FORKS}
    return {
        "config": {"chainId": chain_id, **forks, "terminalTotalDifficulty": 0, "blobSchedule": _BLOBS},
        "nonce": "0x0",
        "timestamp": hex(timestamp),
        "extraData": "0x",
        "gasLimit": hex(GAS_LIMIT),
        "difficulty": "0x0",
        "alloc": {"0x" + address.hex(): {"balance": hex(BALANCE)} for address in funded},
    }
