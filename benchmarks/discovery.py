"""discv5 over UDP loopback: ours, @chainsafe/discv5, the Rust crate and go-ethereum's in the same run.

Each implementation asks itself, in two processes; we ask the others and they ask us. All are driven alike, by
the lines that tests/counterparts/README.md describes.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.processes import cpu_seconds, die_with_parent
from benchmarks.scenarios import Figures
from benchmarks.targets import medians
from relay.protocols.discv5 import UDP

ROOT = Path(__file__).parents[1]
OURS = "pyrelay"
OTHERS = {"js": "node", "rust": "cargo", "geth": "go"}
NAMES = {OURS: "pyrelay", "js": "@chainsafe/discv5", "rust": "Rust crate", "geth": "go-ethereum"}
DISTANCES = (256, 255, 254)
CROWD = 64  # nodes that want to enter the table of the one that is asked: 16 live ones fill every answer
WINDOW = 16  # requests at a time
TALK = 100  # bytes
OPERATIONS = ("ping", "talkreq", "findnode")
MEMORY_SECONDS = 300.0


@dataclass(frozen=True)
class DiscoverySizes:
    """How much is asked; seconds of the one that asks."""

    counts: Mapping[str, Mapping[str, int]]
    handshakes: Mapping[str, int]


def _sizes(part: float) -> DiscoverySizes:
    whole = {
        OURS: {"ping": 10_000, "talkreq": 10_000, "findnode": 5_000},
        "js": {"ping": 2_000, "talkreq": 2_000, "findnode": 60},
        "rust": {"ping": 50_000, "talkreq": 50_000, "findnode": 1_500},
        "geth": {"ping": 20_000, "talkreq": 20_000, "findnode": 1_500},
    }
    counts = {name: {op: int(part * count) for op, count in each.items()} for name, each in whole.items()}
    handshakes = {OURS: 3_000, "js": 160, "rust": 3_000, "geth": 3_000}
    return DiscoverySizes(counts, {name: int(part * count) for name, count in handshakes.items()})


FULL, QUICK = _sizes(1.0), _sizes(0.3)


class Node:
    """A process with one node of discv5: a context manager."""

    record: str

    def __init__(self, kind: str, command: Sequence[str]) -> None:
        self.kind = kind
        self._command = command
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            self._command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self.pid = self._child.pid
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()

    def start(self, **options: object) -> None:
        self.record = self.ask("start", key=os.urandom(32).hex(), port=_free_port(), **options)

    def ask(self, do: str, **arguments: object) -> Any:
        """Give a command and wait for its answer."""
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"id": next(self._numbers), "do": do, **arguments}) + "\n")
        stdin.flush()
        answer = json.loads(stdout.readline() or '{"error": "it has ended"}')
        if "error" in answer:
            raise RuntimeError(f"{NAMES[self.kind]}: {do}: {answer['error']}")
        return answer["ok"]


def _free_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def commands() -> dict[str, Sequence[str]]:
    """How each implementation is started; those whose tools are not here are left out."""
    found: dict[str, Sequence[str]] = {OURS: (sys.executable, "-m", "benchmarks.load.discv5")}
    for kind, tool in OTHERS.items():
        if shutil.which(tool):
            script = ROOT / "tools" / f"install-discv5-{kind}.sh"
            path = subprocess.run([script], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
            found[kind] = ("node", path) if kind == "js" else (path,)
    return found


def measure(sizes: DiscoverySizes, rounds: int) -> dict[str, Any]:
    """All figures by who asks and who is asked ("pyrelay", or "rust asks pyrelay"), of each round."""
    programs = commands()
    pairs = [(kind, kind) for kind in programs]
    pairs += [(OURS, kind) for kind in OTHERS if kind in programs]
    pairs += [(kind, OURS) for kind in OTHERS if kind in programs]
    raw: dict[str, list[Figures]] = {_label(*pair): [] for pair in pairs}
    for _ in range(rounds):
        for asker, asked in pairs:
            raw[_label(asker, asked)].append(_pair(programs, asker, asked, sizes))
    raw[OURS][0] |= _memory()
    found = {label: medians(each) for label, each in raw.items()}
    return {"rows": rows(found), "across": _across(found), "medians": found, "raw": raw}


def _label(asker: str, asked: str) -> str:
    return asker if asker == asked else f"{asker} asks {asked}"


def _pair(programs: Mapping[str, Sequence[str]], asker: str, asked: str, sizes: DiscoverySizes) -> Figures:
    figures: Figures = {}
    with ExitStack() as stack:
        server = stack.enter_context(Node(asked, programs[asked]))
        client = stack.enter_context(Node(asker, programs[asker]))
        crowd = stack.enter_context(Node(OURS, programs[OURS]))
        _fill(server, crowd)
        client.start()
        count = sizes.counts[asker if sizes.counts[asker]["ping"] < sizes.counts[asked]["ping"] else asked]
        for op in OPERATIONS:
            arguments = {"op": op, "window": WINDOW, "distances": DISTANCES, "size": TALK}
            before = cpu_seconds(client.pid) + cpu_seconds(server.pid)
            found = client.ask("load", enr=server.record, count=count[op], **arguments)
            used = cpu_seconds(client.pid) + cpu_seconds(server.pid) - before
            figures[f"{op}_cpu_us"] = used / max(1, found["done"]) * 1e6
            figures[op] = found["done"] / found["seconds"]
            figures[f"{op}_failed"] = sum(found["errors"].values())
            if op == "findnode":
                figures["findnode_records"] = found["records"] / max(1, found["done"])
        if asker == asked:
            figures |= _handshakes(server, crowd, sizes.handshakes[asked])
    return figures


def _fill(server: Node, crowd: Node) -> None:
    """Give a node a table: ours gets live nodes, the others take records for it."""
    if server.kind != OURS:
        server.start(fill=CROWD)
        return
    server.start()
    crowd.ask("crowd", enr=server.record, count=CROWD)
    server.ask("prove")


def _handshakes(server: Node, client: Node, count: int) -> Figures:
    """Our identities greet a node: what it can take, and what one of them costs it."""
    before = cpu_seconds(server.pid)
    found = client.ask("greet", enr=server.record, count=count, window=WINDOW)
    used = cpu_seconds(server.pid) - before
    return {
        "handshakes": found["done"] / found["seconds"],
        "handshakes_failed": sum(found["errors"].values()),
        "handshake_cpu_us": used / max(1, found["done"]) * 1e6,
    }


def _memory() -> Figures:
    entry, cold, warm = (_weighed(name) for name in ("entry", "cold", "warm"))
    return {
        "entry_bytes": entry,
        "session_cold_bytes": cold,
        "session_warm_bytes": warm,
        "session_bytes": (UDP.warm_sessions * warm + (UDP.sessions - UDP.warm_sessions) * cold)
        / UDP.sessions,
    }


def _weighed(name: str) -> float:
    command = [sys.executable, "-m", "benchmarks.load.discv5_memory", name]
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=MEMORY_SECONDS).stdout
    return float(out)


@dataclass(frozen=True)
class Bound:
    """A target: of our own value, or of it divided by another's in the same run."""

    bound: float
    other: str | None = None
    at_most: bool = False

    def words(self, unit: str) -> str:
        sign = "<=" if self.at_most else ">="
        of = f"{self.bound:g} x {NAMES[self.other]}" if self.other else f"{self.bound:g} {unit}"
        return f"{sign} {of}"

    def verdict(self, values: Mapping[str, float]) -> str:
        value = values.get(OURS, math.nan)
        if self.other:
            value /= values.get(self.other) or math.nan
        if math.isnan(value):
            return "not measured"
        return "met" if (value <= self.bound if self.at_most else value >= self.bound) else "MISSED"


MEASURES: Sequence[tuple[str, str, str, Bound | None]] = (
    ("PING round trips", "ping", "/s", Bound(3.0, "js")),
    ("TALKREQ round trips, 100 bytes", "talkreq", "/s", Bound(3.0, "js")),
    ("FINDNODE round trips, 16 live records", "findnode", "/s", Bound(1.0, "rust")),
    ("CPU a PING round trip, both ends", "ping_cpu_us", "us", None),
    ("CPU a FINDNODE round trip, both ends", "findnode_cpu_us", "us", None),
    ("records that FINDNODE returns to the caller", "findnode_records", "", None),
    ("handshakes, each by another identity of ours", "handshakes", "/s", Bound(1000.0)),
    ("CPU a handshake, the one that is greeted", "handshake_cpu_us", "us", None),
    ("memory of a table entry, of 10,000", "entry_bytes", "bytes", Bound(1024.0, at_most=True)),
    ("memory of a session, default bounds", "session_bytes", "bytes", Bound(4096.0, at_most=True)),
    ("memory of a session with keys alone", "session_cold_bytes", "bytes", None),
    ("memory of a session with its ciphers", "session_warm_bytes", "bytes", None),
)
FAILED = ("ping_failed", "talkreq_failed", "findnode_failed", "handshakes_failed")


def rows(found: Mapping[str, Figures]) -> list[dict[str, Any]]:
    """The table, one row for each measure; a target says whether it was met."""
    table = []
    for label, figure, unit, target in MEASURES:
        values = {kind: each[figure] for kind, each in found.items() if kind in NAMES and figure in each}
        if OURS in values:
            table.append(
                {"measure": label, "unit": unit, **{kind: values.get(kind) for kind in NAMES}}
                | {"target": target.words(unit) if target else ""}
                | {"verdict": target.verdict(values) if target else ""}
            )
    return table


def _across(found: Mapping[str, Figures]) -> list[dict[str, Any]]:
    return [{"pair": label, **{op: each[op] for op in OPERATIONS}} for label, each in found.items()]


def failed(result: Mapping[str, Any]) -> list[str]:
    """Say which requests were not answered, summed over the rounds."""
    lines = []
    for label, rounds in result.get("raw", {}).items():
        for name in FAILED:
            count = sum(figures.get(name, 0) for figures in rounds)
            if count:
                lines.append(f"NOT ANSWERED: {label}: {name.removesuffix('_failed')}: {count:,.0f}")
    return lines
