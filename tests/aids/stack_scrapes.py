"""What programs export: their pages of metrics, brought down to names, types and labels, as fixtures.

    python -m tests.aids.stack_scrapes FOLDER     # of `deployment/stack/run_stack.py --scrapes FOLDER`

A line of a fixture: NAME TYPE, then LABEL=VALUE|VALUE for each label whose values are few and are no places.
The first lines, with #, name the program, its version and where the page came from.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from relay.kubernetes.pages import DiscoveryCounts, DiscoveryPages

__all__ = ["FIXTURES", "Exported", "read_fixture", "read_page"]

FIXTURES = Path(__file__).parents[1] / "vectors" / "stack"
MAX_VALUES = 16
LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*) ?(?:\{(.*)\})? \S+$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
RECORDED = {  # page of run_stack: fixture, and what it is
    "geth.txt": (
        "geth",
        "geth 1.17.8, /debug/metrics/prometheus, on a chain of its own with blocks and a peer",
    ),
    "pyrelay.txt": (
        "pyrelay",
        "pyrelay 0.1.0, /debug/metrics/prometheus: geth's peer, and only-onion ones",
    ),
    "peermon.txt": ("peermon", "pyrelay monitor 0.1.0 --export, /metrics, of a geth"),
    "node.txt": ("node", "node_exporter 1.5.0 (Debian 12), /metrics"),
    "prometheus.txt": ("prometheus", "prometheus 2.42.0 (Debian 12), /metrics"),
}


@dataclass(slots=True)
class Exported:
    """A metric.

    Attributes:
        kind: counter, gauge, histogram, summary, untyped.
        labels: values by label; no values where they are many or unknown.
    """

    kind: str
    labels: dict[str, set[str]] = field(default_factory=dict)


def read_page(text: str) -> dict[str, Exported]:
    """Return what stands on a page of metrics, by the names that a query uses."""
    kinds: dict[str, str] = {}
    found: dict[str, Exported] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            kinds[name] = kind
        elif line and not line.startswith("#"):
            match = LINE.match(line)
            assert match, line
            kind = kinds.get(match[1]) or kinds.get(
                re.sub(r"_(bucket|sum|count|total)$", "", match[1]), "untyped"
            )
            metric = found.setdefault(match[1], Exported(kind))
            for name, value in LABEL.findall(match[2] or ""):
                metric.labels.setdefault(name, set()).add(value)
    for name, kind in kinds.items():  # families that have no series before something happens
        found.setdefault(name, Exported(kind))
    return found


def read_fixture(name: str) -> dict[str, Exported]:
    """Return a fixture by the name of its job."""
    found: dict[str, Exported] = {}
    for line in (FIXTURES / f"{name}.txt").read_text().splitlines():
        if not line.startswith("#"):
            metric, kind, *labels = line.split(" ")
            pairs = [each.partition("=") for each in labels]
            found[metric] = Exported(kind, {key: set(values.split("|")) - {""} for key, _, values in pairs})
    return found


def _lines(metrics: dict[str, Exported]) -> Iterable[str]:
    for name, metric in sorted(metrics.items()):
        words = [name, metric.kind]
        for label, values in sorted(metric.labels.items()):
            plain = len(values) <= MAX_VALUES and all(
                re.fullmatch(r"[A-Za-z0-9_.+-]+", each) for each in values
            )
            words.append(f"{label}={'|'.join(sorted(values)) if plain and label not in PRIVATE else ''}")
        yield " ".join(words)


PRIVATE = frozenset(
    {"device", "nodename", "mountpoint", "release", "machine", "domainname", "version", "chip"}
)


def main(folder: Path) -> None:
    """Write the fixtures of the programs that run here; of Prysm and the kubelet they are written by hand."""
    for page, (name, words) in RECORDED.items():
        metrics = read_page((folder / page).read_text())
        more = folder / f"{name}-onion.txt"
        if more.exists():
            for each, metric in read_page(more.read_text()).items():
                labels = metrics.setdefault(each, metric).labels
                for label, values in metric.labels.items():
                    labels.setdefault(label, set()).update(values)
        _write(name, f"# {words}\n", metrics)
    counts = DiscoveryCounts(
        entries=dict.fromkeys(("fresh", "stale", "rejected", "unreached"), 0),
        updates=dict.fromkeys(("accepted", "rejected", "written", "write_failed"), 0),
        conflicts=0, last_sync=0.0, watch_ends={"gone": 0},
    )  # fmt: skip
    text = DiscoveryPages(lambda: counts)._registry
    from prometheus_client import generate_latest

    head = "# pyrelay kubernetes discovery 0.1.0: written by its own code, not scraped\n"
    _write("pyrelay-discovery", head, read_page(generate_latest(text).decode()))


def _write(name: str, head: str, metrics: dict[str, Exported]) -> None:
    FIXTURES.mkdir(exist_ok=True)
    (FIXTURES / f"{name}.txt").write_text(head + "\n".join(_lines(metrics)) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
