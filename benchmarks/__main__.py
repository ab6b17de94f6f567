"""Command line: `python -m benchmarks [--quick] [--only NAME ...] [--json FILE] [--write-docs]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import blobs, discovery, docs, machine, report, rpc, serving, targets, tor
from benchmarks.geth import Geth
from benchmarks.pyrelay import Pyrelay
from benchmarks.scenarios import QUICK, SCENARIOS, Figures, Relay, Sizes, ceiling
from benchmarks.transactions import CHAIN_ID, COUNT, WIRE, TransferSet, genesis, load_transfers

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
ROUNDS = 3
FURTHER = ("ceiling", "serving", "rpc", "blobs", "tor", "discovery", "micro")
ALONE = {"serving", "rpc", "blobs", "discovery", "micro"}  # bring what they need themselves
MICRO_SECONDS = 300
MICRO_ROUNDS = 15
QUIET = 0.1  # cores that others may use


def main() -> int:
    options = _parser().parse_args()
    # SIGTERM is to end what we started as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.report:
            result, file = _joined(options.report), options.report[0]
        else:
            result = _measure(options)
            file = _save(result, options)
    except KeyboardInterrupt:
        print("interrupted; nothing is left running", file=sys.stderr)
        return 130
    print(report.text(result))
    if options.write_docs:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(docs.page(result, file.name))
        print(f"\nwrote {PAGE.relative_to(ROOT)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    names = [*SCENARIOS, *FURTHER]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures pyrelay next to geth."
    )
    parser.add_argument("--quick", action="store_true", help="one round, smaller: below three minutes")
    parser.add_argument("--rounds", type=int, help=f"rounds of each scenario (default: {ROUNDS}, quick: 1)")
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="NAME", help=f"some of: {' '.join(names)}"
    )
    parser.add_argument("--no-geth", action="store_true", help="without geth, so without ratios")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="where the result goes (benchmarks/results/)"
    )
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md")
    parser.add_argument(
        "--report",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing, show this result; with parts of later ones in place of its own",
    )
    return parser


def _joined(files: Sequence[Path]) -> dict[str, Any]:
    """One result of several: later ones add rows, and replace the parts that they measured, saying when."""
    result: dict[str, Any] = json.loads(files[0].read_text())
    for file in files[1:]:
        later = json.loads(file.read_text())
        known = {row["measure"] for row in result["rows"]}
        result["rows"] += [row for row in later["rows"] if row["measure"] not in known]
        for part in FURTHER:
            if found := later.get(part):
                result[part] = found
                result.setdefault("apart", {})[part] = report.machine_words(later)
    return result


def _save(result: dict[str, Any], options: argparse.Namespace) -> Path:
    stamp = result["time"].replace(":", "")
    path: Path = options.json or RESULTS / f"{stamp}{'-quick' if options.quick else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    _say(f"result: {path}")
    return path


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    chosen = options.only or [*SCENARIOS, *FURTHER]
    sizes = QUICK if options.quick else Sizes()
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    transfers, relays = (_load(), _relays(options.no_geth)) if {*chosen} - ALONE else (TransferSet([]), [])
    others, began = machine.Others(), time.monotonic()
    raw = _rounds(relays, transfers, sizes, [name for name in SCENARIOS if name in chosen], rounds)
    top = _step("ceiling", lambda: ceiling(transfers, sizes)) if "ceiling" in chosen else {}
    served = _step("serving", lambda: _serving(options.quick)) if "serving" in chosen else []
    called = _step("rpc", lambda: rpc.measure(rpc.CALLS)) if "rpc" in chosen else {}
    verified = _step("blobs", blobs.measure) if "blobs" in chosen else {}
    beside = _step("tor", lambda: _tor(transfers, options.quick)) if "tor" in chosen else {}
    found = _step("discovery", lambda: _discovery(options.quick, rounds)) if "discovery" in chosen else {}
    micro = _step("micro", _micro) if "micro" in chosen else []
    busy = others.cores()
    medians = {name: targets.medians(figures) for name, figures in raw.items()}
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": options.quick,
        "rounds": rounds,
        "seconds": round(time.monotonic() - began, 1),
        "machine": machine.facts() | {"others_cores": round(busy, 3)},
        "transfers": f"{COUNT:,} EIP-1559 transfers of {WIRE} bytes each",
        "relays": {each.name: {"version": each.version(), "flags": _shown(each.flags)} for each in relays},
        "rows": report.rows_as_json(targets.judge(medians.get("pyrelay", {}), medians.get("geth", {}))),
        "notes": [*_notes(raw, top, medians, busy), *discovery.failed(found)],
        "medians": medians,
        "raw": raw,
        "ceiling": top,
        "serving": served,
        "rpc": called,
        "blobs": verified,
        "tor": beside,
        "discovery": found,
        "micro": micro,
    }


def _load() -> TransferSet:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrelay" / "bench"
    transfers = load_transfers(cache)
    # Made here, so that the load's processes share them.
    assert len(transfers.index) == len(transfers.index_by_hash) == COUNT
    return transfers


def _relays(without_geth: bool) -> list[Relay]:
    chain = genesis()
    found: list[Relay] = [Pyrelay(chain)]
    if without_geth:
        return found
    folder = os.environ.get("PYRELAY_TEST_GETH")
    if not folder:
        folder = subprocess.run(
            [ROOT / "tools" / "install-geth.sh"], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
    return [Geth(Path(folder) / "geth", chain, CHAIN_ID), *found]


def _rounds(
    relays: Sequence[Relay], transfers: TransferSet, sizes: Sizes, names: Sequence[str], rounds: int
) -> dict[str, list[Figures]]:
    """Each scenario with each relay in turn, round after round."""
    raw: dict[str, list[Figures]] = {relay.name: [{} for _ in range(rounds)] for relay in relays}
    for number in range(rounds):
        for name in names:
            for relay in relays:
                label = f"round {number + 1} of {rounds}: {name}, {relay.name}"
                figures = _step(label, lambda: SCENARIOS[name](relay, transfers, sizes))  # noqa: B023
                raw[relay.name][number] |= figures
    return raw if names else {}


def _step(label: str, run: Callable[[], Any]) -> Any:
    began = time.monotonic()
    found = run()
    _say(f"{label} ({time.monotonic() - began:.0f} s)")
    return found


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _tor(transfers: TransferSet, quick: bool) -> dict[str, Figures]:
    return asyncio.run(tor.measure(transfers, tor.QUICK if quick else tor.TorSizes()))


def _serving(quick: bool) -> list[dict[str, Any]]:
    return serving.measure(*((serving.BLOCKS, 1) if quick else ()))


def _discovery(quick: bool, rounds: int) -> dict[str, Any]:
    return discovery.measure(discovery.QUICK if quick else discovery.FULL, rounds)


def _micro() -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.micro", "--json", f"--rounds={MICRO_ROUNDS}"]
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=MICRO_SECONDS).stdout
    cases: list[dict[str, Any]] = json.loads(out)["cases"]
    return cases


def _notes(
    raw: dict[str, list[Figures]], top: Figures, medians: dict[str, Figures], busy: float
) -> list[str]:
    lost = [f"LOST OR CHANGED: {name}: {count:,.0f}" for name, count in targets.lost(raw).items()]
    if raw and not lost:
        lost = ["every sink got every transaction, byte for byte as it was sent"]
    return [*lost, *targets.ceiling_words(top, medians), *_noise(busy)]


def _noise(busy: float) -> list[str]:
    if busy < QUIET:
        return []
    return [f"NOT QUIET: other programs kept {busy:.2f} cores busy meanwhile; do not trust these figures"]


def _shown(flags: Sequence[str]) -> list[str]:
    """Without keys, and without ports that change from start to start."""
    return [flag for flag in flags if not any(word in flag for word in ("nodekey", "port="))]


if __name__ == "__main__":
    sys.exit(main())
