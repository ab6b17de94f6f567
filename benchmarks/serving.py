"""Chain data next to geth: what it answers from its own chain, what we answer from the cache, and through us.

`python -m benchmarks.serving [--blocks N] [--json]`. One connection on eth/69, one question at a time and 16
under way. "cached": everything was asked before. "through": a fresh relay each time, so that every answer is
asked for at the geth behind; of blocks whose bodies or receipts are asked it was asked the headers before, as
one is by who syncs. They take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load.asker import Asked, Asker, Question
from benchmarks.load.loop import Target
from benchmarks.load.remote import Remote
from benchmarks.processes import cpu_seconds
from benchmarks.transactions import TransferSet
from relay.primitives.enode import parse
from relay.protocols.eth import messages as m
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.until import until

ROOT = Path(__file__).parents[1]
BLOCKS = 6000
ROUNDS = 3
WINDOWS = (1, 16)
GETH, CACHED, THROUGH = "geth", "cached", "through"
Row = dict[str, dict[str, float]]


class Kind:
    """One form of question.

    Args:
        label: for people.
        items: how many blocks each asks for.
        count: how many questions a round has.
        make: the question with this id, for these blocks.
    """

    def __init__(
        self, label: str, items: int, count: int, make: Callable[[int, int, Sequence[bytes]], Question]
    ) -> None:
        self.label, self.items, self.count, self._make = label, items, count, make

    def questions(self, hashes: Sequence[bytes]) -> list[Question]:
        """Questions for blocks spread over the chain, none of them asked for twice."""
        places = max(1, (len(hashes) - 1) // self.items)
        found = []
        for number in range(min(self.count, places)):
            first = 1 + number * self.items
            found.append(self._make(number, first, hashes[first : first + self.items]))
        return found


def _headers(amount: int) -> Callable[[int, int, Sequence[bytes]], Question]:
    return lambda number, first, _: m.GetBlockHeaders(number, first, amount)


KINDS = (
    Kind("1 header", 1, 4000, _headers(1)),
    Kind("192 headers", 192, 400, _headers(192)),
    Kind("1 body", 1, 4000, lambda number, _, hashes: m.GetBlockBodies(number, tuple(hashes))),
    Kind("32 bodies", 32, 800, lambda number, _, hashes: m.GetBlockBodies(number, tuple(hashes))),
    Kind("32 receipts", 32, 400, lambda number, _, hashes: m.GetReceipts(number, tuple(hashes))),
)
HEADERS = KINDS[1]


def measure(blocks: int = BLOCKS, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Return a row for each kind of question and number under way."""
    if not os.environ.get("PYRELAY_TEST_GETH"):
        script = subprocess.run([ROOT / "tools" / "install-geth.sh"], check=True, stdout=subprocess.PIPE)
        os.environ["PYRELAY_TEST_GETH"] = script.stdout.decode().strip()
    with tempfile.TemporaryDirectory(prefix="pr-") as place:
        return asyncio.run(_measure(Path(place), blocks, rounds))


async def _measure(place: Path, blocks: int, rounds: int) -> list[dict[str, Any]]:
    chain = OwnChain(place)
    async with AsyncExitStack() as stack:
        geth = await stack.enter_async_context(Geth(place / "geth", chain.genesis, verbosity=2))
        await geth.grow(chain.sign_many(blocks - 1, (2, 0, 1)).values())
        await geth.build()
        found = await geth.rpc_many("eth_getHeaderByNumber", [hex(each) for each in range(blocks + 1)])
        hashes = [bytes.fromhex(each["hash"][2:]) for each in found]
        askers = {GETH: (_asker(stack, geth.enode), geth.pid)}
        relay = await _relay(stack, place / CACHED, chain, geth.enode, blocks)
        askers[CACHED] = (_asker(stack, relay.enode), relay.pid)
        bench = _Bench(place, chain, geth.enode, hashes, askers, rounds)
        return [await bench.row(kind, window) for kind in KINDS for window in WINDOWS]


class _Bench:
    """A geth, a relay whose cache holds everything, and fresh ones."""

    def __init__(
        self,
        place: Path,
        chain: OwnChain,
        behind: str,
        hashes: Sequence[bytes],
        askers: dict[str, tuple[Remote, int]],
        rounds: int,
    ) -> None:
        self._place, self._chain, self._behind = place, chain, behind
        self._hashes, self._askers, self._rounds = hashes, askers, rounds
        self._numbers = count()

    async def row(self, kind: Kind, window: int) -> dict[str, Any]:
        questions = kind.questions(self._hashes)
        samples: dict[str, list[dict[str, float]]] = {GETH: [], CACHED: [], THROUGH: []}
        self._askers[CACHED][0].call("ask", questions, 16)  # fills the cache
        for _ in range(self._rounds):
            for name, (remote, pid) in self._askers.items():
                samples[name].append(_ask(kind, questions, window, remote, pid))
            samples[THROUGH].append(await self._through(kind, questions, window))
        row: dict[str, Any] = {"kind": kind.label, "window": window}
        for name, each in samples.items():
            row[name] = {key: median(sample[key] for sample in each) for key in each[0]}
        return row

    async def _through(self, kind: Kind, questions: Sequence[Question], window: int) -> dict[str, float]:
        async with AsyncExitStack() as stack:
            path = self._place / f"fresh-{next(self._numbers)}"
            relay = await _relay(stack, path, self._chain, self._behind, len(self._hashes) - 1)
            remote = _asker(stack, relay.enode)
            if not isinstance(questions[0], m.GetBlockHeaders):
                remote.call("ask", HEADERS.questions(self._hashes), 16)
            return _ask(kind, questions, window, remote, relay.pid)


async def _relay(stack: AsyncExitStack, path: Path, chain: OwnChain, behind: str, head: int) -> RelayProcess:
    """Start a relay that believes the geth behind, and wait until it names that one's head."""
    relay = RelayProcess(
        path, "--network", str(chain.genesis), "--chain-cache", "256", verbosity=3, static_nodes=[behind]
    )
    (relay.directory / "trusted-nodes.json").write_text(json.dumps([behind]))
    await stack.enter_async_context(relay)
    await relay.until_peers(1)

    async def reached() -> bool:
        told: int = (await relay.rpc("admin_nodeInfo"))["protocols"]["eth"]["latestBlock"]
        return told == head

    await until(reached, f"{relay.name} names block {head}", 60.0)
    return relay


def _asker(stack: AsyncExitStack, enode: str) -> Remote:
    remote = stack.enter_context(Remote(TransferSet([]), Asker))
    node = parse(enode)
    remote.call("join", Target(node.public_key, str(node.host), node.tcp))
    return remote


def _ask(
    kind: Kind, questions: Sequence[Question], window: int, remote: Remote, pid: int
) -> dict[str, float]:
    cpu = cpu_seconds(pid)
    asked: Asked = remote.call("ask", questions, window)
    return _figures(kind, asked, cpu_seconds(pid) - cpu)


def _figures(kind: Kind, asked: Asked, cpu: float) -> dict[str, float]:
    expected = kind.items * len(asked.waits)
    if asked.items != expected:
        raise RuntimeError(f"{kind.label}: {asked.items} of {expected} items came")
    waits = sorted(asked.waits)
    return {
        "rate": len(waits) / asked.seconds,
        "p50_us": waits[len(waits) // 2] * 1e6,
        "p99_us": waits[len(waits) * 99 // 100] * 1e6,
        "cpu_us": cpu / len(waits) * 1e6,
    }


# -- what is told ----------------------------------------------------------------------------------------

HEAD = (
    "question, under way",
    "geth, 1/s",
    "cached, 1/s",
    "ratio",
    "target",
    "through us, 1/s",
    "ratio",
    "target",
    "geth p50, ms",
    "through p50, ms",
    "added, ms",
    "target",
)
CACHE_TARGETS = {"1 header": 0.5, "192 headers": 2.0, "32 bodies": 2.0}
THROUGH_TARGET = ("192 headers", 16, 0.5)
ADDED_MS = 1.0


def cells(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of a table, with a verdict for what has a target."""
    return [_cells(row) for row in rows]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    geth, cached, through = (row[name] for name in (GETH, CACHED, THROUGH))
    from_cache, behind = cached["rate"] / geth["rate"], through["rate"] / geth["rate"]
    added = (through["p50_us"] - geth["p50_us"]) / 1000
    kind, window, bound = THROUGH_TARGET
    return (
        f"{row['kind']}, {row['window']}",
        f"{geth['rate']:,.0f}",
        f"{cached['rate']:,.0f}",
        f"{from_cache:.2f}",
        _verdict(from_cache, CACHE_TARGETS.get(row["kind"])),
        f"{through['rate']:,.0f}",
        f"{behind:.2f}",
        _verdict(behind, bound if (row["kind"], row["window"]) == (kind, window) else None),
        f"{geth['p50_us'] / 1000:.2f}",
        f"{through['p50_us'] / 1000:.2f}",
        f"{added:.2f}",
        ("met" if added <= ADDED_MS else "MISSED") + f" (<= {ADDED_MS:g})" if row["window"] == 1 else "",
    )


def _verdict(ratio: float, bound: float | None) -> str:
    if bound is None:
        return ""
    return f"{'met' if ratio >= bound else 'MISSED'} (>= {bound:g} x)"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--blocks", type=int, default=BLOCKS, help=f"of the chain (default: {BLOCKS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    options = parser.parse_args()
    rows = measure(options.blocks, options.rounds)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in (HEAD, *cells(rows)):
        print(" | ".join(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
