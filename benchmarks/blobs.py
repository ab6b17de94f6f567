"""Blob transactions: what verifying costs beyond c-kzg's own time, and how long the event loop is held.

python -m benchmarks.blobs [--transactions 10]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from pathlib import Path
from statistics import median
from typing import Any

import ckzg

from benchmarks.scenarios import Figures
from relay.chain.transactions import decode, wire
from relay.primitives import rlp
from relay.primitives.keys import NodeKey
from relay.protocols.eth.packing import encode_announcement, encode_pooled
from relay.relaying.blobs.process import KzgProcess
from relay.relaying.handler import EthRelay
from relay.relaying.options import RelayOptions
from tests.aids.blobs import SETUP, blob_transaction, real_blob, trusted_setup
from tests.aids.relaying import CHAIN_ID, CONFIG, SilentSession

BLOBS = 6
PROBE = 0.001  # seconds between two looks at how late the loop is


class Peer(SilentSession):
    """A session that answers the relay's request for each transaction."""

    def __init__(self, items: dict[bytes, bytes]) -> None:
        super().__init__(version=71)
        self.relay: EthRelay | None = None
        self._items = items

    def send(self, code: int, payload: bytes) -> None:
        if code == 0x09:
            request_id, hashes = rlp.decode(payload)
            answer = encode_pooled(int.from_bytes(request_id, "big"), [self._items[each] for each in hashes])
            asyncio.get_running_loop().call_soon(self.relay.message, self, 0x0A, answer)


def transactions(count: int) -> dict[bytes, bytes]:
    """Wire items by hash, each with six blobs of another sender."""
    made = {}
    for number in range(count):
        key = NodeKey((number + 1).to_bytes(32, "big"))
        raw = blob_transaction(*range(1, BLOBS + 1), make=real_blob, key=key, chain_id=CHAIN_ID, nonce=0)
        made[decode(raw).hash] = wire(raw)
    return made


def raw_seconds(rounds: int) -> float:
    """What c-kzg itself takes for six blobs: their cells, and 768 proofs in a batch."""
    setup: Any = trusted_setup()
    blobs = [real_blob(number) for number in range(1, BLOBS + 1)]
    commitments = [blob.commitment for blob in blobs for _ in range(128)]
    proofs = [proof for blob in blobs for proof in blob.proofs]
    indices = list(range(128)) * BLOBS
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        cells = [cell for blob in blobs for cell in ckzg.compute_cells(blob.data, setup)]
        assert ckzg.verify_cell_kzg_proof_batch(commitments, indices, cells, proofs, setup)
        times.append(time.perf_counter() - begin)
    return median(times)


async def relayed(items: dict[bytes, bytes]) -> tuple[float, float, float]:
    """Median of seconds from an announcement to the pool; longest stall of the loop; CPU time of the relay.

    The last is of all transactions but the first, the probe and the waiting included.
    """
    loop = asyncio.get_running_loop()
    kzg = KzgProcess(Path(SETUP))
    relay = EthRelay(CONFIG, RelayOptions(), loop, time.time, secrets.token_bytes, kzg)
    peer = Peer(items)
    peer.relay = relay
    relay.joined(peer)
    lateness, times, cpu = [0.0], [], 0.0

    async def probe() -> None:
        while True:
            due = loop.time() + PROBE
            await asyncio.sleep(PROBE)
            lateness.append(loop.time() - due)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(kzg.run()), tasks.create_task(probe())]
        for number, (tx_hash, item) in enumerate(items.items()):
            begin = loop.time()
            size = len(item) - 4  # without the header of the string
            relay.message(peer, 0x08, encode_announcement(b"\x03", [size], [tx_hash]))
            while tx_hash not in relay.pool:
                assert peer.ended is None, peer.ended
                await asyncio.sleep(0.0005)
            if number:  # the first one waits for the process to start
                times.append(loop.time() - begin)
            else:
                lateness.clear()
                cpu = time.process_time()
        cpu_end = time.process_time()
        for task in running:
            task.cancel()
    return median(times), max(lateness), (cpu_end - cpu) / len(times)


LABELS = {
    "blobs.raw_ms": ("c-kzg itself: cells of six blobs, and their 768 proofs in a batch (ms)", ""),
    "blobs.verified_ms": ("from an announcement to the pool (ms)", ""),
    "blobs.ratio": ("the same, beside c-kzg itself", "<= 1.5 x"),
    "blobs.stall_ms": ("longest stall of the event loop meanwhile (ms)", "<= 20 ms"),
    "blobs.loop_cpu_ms": ("CPU of the relay's own process a transaction (ms)", ""),
}
BOUNDS = {"blobs.ratio": 1.5, "blobs.stall_ms": 20.0}


def measure(count: int = 10) -> Figures:
    """Return the figures: milliseconds, and the ratio that has a target."""
    items = transactions(count)
    raw = raw_seconds(count)
    ours, stall, cpu = asyncio.run(relayed(items))
    return {
        "blobs.raw_ms": raw * 1e3,
        "blobs.verified_ms": ours * 1e3,
        "blobs.ratio": ours / raw,
        "blobs.stall_ms": stall * 1e3,
        "blobs.loop_cpu_ms": cpu * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blobs", description=__doc__)
    parser.add_argument("--transactions", type=int, default=10, help="with six blobs each (default: 10)")
    figures = measure(parser.parse_args().transactions)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
