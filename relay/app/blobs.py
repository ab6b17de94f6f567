"""What blob transactions need of the daemon: the process that verifies them, and their share of memory."""

from __future__ import annotations

from typing import Final

from relay.app.networks import shipped_config
from relay.app.spreading import own_listen_seconds, stem_options, trickle_options
from relay.relaying.blobs.options import BlobOptions
from relay.relaying.blobs.process import KzgProcess
from relay.relaying.blockrange import RangeOptions
from relay.relaying.chain_data.options import ProxyOptions
from relay.relaying.options import RelayOptions
from relay.relaying.pace import PaceOptions
from relay.settings import Settings

MIB: Final = 1 << 20
BURST: Final = 8  # seconds' worth of transactions that may come at once: a pool announced to us at joining


def relay_options(settings: Settings) -> RelayOptions:
    """The options of relaying that settings have a say in."""
    patience = float(settings.request_patience)
    return RelayOptions(
        blobs=BlobOptions(pool_bytes=settings.blob_pool * MIB),
        chain_data=ProxyOptions(
            patience=patience,
            header_patience=min(ProxyOptions().header_patience, patience),
            cache_bytes=settings.chain_cache * MIB,
        ),
        range=RangeOptions(step=settings.range_step),
        stem=stem_options(settings),
        trickle=trickle_options(settings),
        own_listen_seconds=own_listen_seconds(settings),
        pace=PaceOptions(
            peer_rate=float(settings.peer_tx_rate),
            peer_burst=float(settings.peer_tx_rate * BURST),
            total_rate=float(settings.tx_rate),
            total_burst=float(settings.tx_rate * BURST),
        ),
    )


def blob_verifier(settings: Settings) -> KzgProcess | None:
    """Who verifies blobs, once it runs; None where no blob transactions are relayed."""
    return KzgProcess(shipped_config() / "kzg_trusted_setup.txt") if settings.blob_pool else None
