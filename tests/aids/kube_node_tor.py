"""A private Tor network on an address that pods reach.

``python -m tests.aids.kube_node_tor FOLDER ADDRESS`` runs in the node's network. Once the network is up, it
writes FOLDER/torrc, by which a Tor joins; it ends with its standard input.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from relay.localnet.network import PrivateTor


async def _run(folder: Path, address: str) -> None:
    network = PrivateTor(folder / "network", address=address)
    await network.start()
    try:
        ready = folder / "torrc.new"
        ready.write_text("\n".join(network.client_lines) + "\n")
        ready.rename(folder / "torrc")
        await asyncio.to_thread(_until_closed)
    finally:
        await network.stop()


def _until_closed() -> None:
    while os.read(0, 1024):
        pass


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), sys.argv[2]))
