"""Command line: `python -m benchmarks.profile [--sinks N] [--out FILE]`: a flame graph of pyrelay."""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

from benchmarks import flamegraph
from benchmarks.__main__ import RESULTS, _load
from benchmarks.pyrelay import Pyrelay
from benchmarks.scenarios import Sizes, running
from benchmarks.transactions import genesis

SHOWN = 25


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--sinks", type=int, default=1, metavar="N", help="1 (default) or 25, say")
    parser.add_argument("--rate", type=float, default=0.0, help="transactions a second (default: full speed)")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/profile-N-sinks.svg")
    options = parser.parse_args()
    sizes, transfers = Sizes(), _load()
    speed = f"{options.rate:g} a second" if options.rate else "full speed"
    with tempfile.TemporaryDirectory(prefix="pyrelay-profile-") as directory:
        folded = Path(directory) / "stacks"
        relay = Pyrelay(genesis(), module=("benchmarks.profiled", str(folded)))
        with running(relay, transfers) as setup:
            setup.connect(1, options.sinks)
            setup.warm_up(sizes.warm)
            os.kill(relay.pid, signal.SIGUSR1)
            time.sleep(0.1)
            if options.rate:
                setup.paced("profile", "pace", options.rate, sizes.fast_seconds)
            else:
                figures = setup.full_speed("profile", sizes.full_1 if options.sinks == 1 else sizes.full_25)
                print(f"{figures['profile.rate']:,.0f} transactions/s while it was profiled")
            relay.stop()
        root = flamegraph.read(folded.read_text())
    out = options.out or RESULTS / f"profile-{options.sinks}-sinks.svg"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        flamegraph.svg(root, f"pyrelay, {options.sinks} sinks, {speed}: {root.count} samples of CPU time")
    )
    print(f"{'own':>6} {'whole':>6}  function")
    for name, own, whole in flamegraph.hottest(root, SHOWN):
        print(f"{own / root.count:6.1%} {whole / root.count:6.1%}  {name}")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
