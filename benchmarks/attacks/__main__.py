"""`python -m benchmarks.attacks [PART...]`: run the simulations; figures as JSON, merged into --json FILE."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from benchmarks.attacks import eclipse, sybil

PARTS = ("siege", "restarts", "sybil")


def main() -> int:
    """Run what was asked for, telling of each step on standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--hours", type=int, default=8, help="of the siege (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each siege (default: %(default)s)")
    parser.add_argument("--restarts", type=int, default=4, help="of the relay (default: %(default)s)")
    parser.add_argument("--relays", type=int, default=20, help="that restart (default: %(default)s)")
    parser.add_argument(
        "--nodes", type=int, default=200, help="honest ones of the DHT (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="merge the figures into this file")
    args = parser.parse_args()
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    work: dict[str, Callable[[], Any]] = {
        "siege": lambda: eclipse.measure(args.hours, args.seeds, _tell),
        "restarts": lambda: eclipse.measure_restarts(args.restarts, args.relays, _tell),
        "sybil": lambda: sybil.measure(args.nodes, _tell),
    }
    found = {part: work[part]() for part in args.parts or PARTS}
    if args.json is not None:
        before = json.loads(args.json.read_text()) if args.json.exists() else {}
        args.json.write_text(json.dumps(before | found, indent=1) + "\n", encoding="ascii")
    print(json.dumps(found, indent=1))
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
