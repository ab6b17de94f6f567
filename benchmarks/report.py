"""A run as text: tables for a terminal and for docs/performance.md, from the same JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks import blobs, discovery, rpc, serving
from benchmarks.targets import Row
from benchmarks.tor import LABELS

Cells = Sequence[str]

HEAD = ("measure", "unit", "pyrelay", "geth", "ratio", "target", "verdict")


def rows_as_json(rows: Iterable[Row]) -> list[dict[str, object]]:
    return [
        {
            "measure": row.measure.label,
            "unit": row.measure.unit,
            "pyrelay": _plain(row.ours),
            "geth": _plain(row.geth),
            "ratio": _plain(row.ratio),
            "target": row.measure.target.words(row.measure.unit) if row.measure.target else "",
            "verdict": row.verdict,
        }
        for row in rows
    ]


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def number(value: float | None) -> str:
    """Three digits that count, thousands apart."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cells(rows: Iterable[Mapping[str, Any]]) -> list[Cells]:
    return [
        (
            row["measure"],
            row["unit"],
            number(row["pyrelay"]),
            number(row["geth"]),
            number(row["ratio"]),
            row["target"],
            row["verdict"],
        )
        for row in rows
    ]


def tor_cells(figures: Mapping[str, Mapping[str, float]]) -> list[Cells]:
    clearnet, tor = figures["clearnet"], figures["tor"]
    return [(label, number(clearnet[name]), number(tor[name])) for name, label in LABELS.items()]


def micro_cells(cases: Iterable[Mapping[str, Any]]) -> list[Cells]:
    return [
        (
            case["group"],
            case["name"],
            f"{case['best_us']:,.2f}",
            f"{case['per_second']:,.0f}",
            number(case["megabytes_per_second"]) if case["megabytes_per_second"] else "",
        )
        for case in cases
    ]


def discovery_cells(figures: Mapping[str, Any]) -> list[Cells]:
    return [
        (
            row["measure"],
            row["unit"],
            *(number(row[kind]) for kind in discovery.NAMES),
            row["target"],
            row["verdict"],
        )
        for row in figures["rows"]
    ]


def across_cells(figures: Mapping[str, Any]) -> list[Cells]:
    return [(row["pair"], *(number(row[op]) for op in discovery.OPERATIONS)) for row in figures["across"]]


def rpc_cells(figures: Mapping[str, Any]) -> list[Cells]:
    """eth_chainId beside geth's own, and what a call costs that goes on to the geth behind."""
    ours, geth = figures["chain_id"]["pyrelay"], figures["chain_id"]["geth"]
    rows = [
        (f"eth_chainId, {words} (1/s)", number(ours[name]), number(geth[name]), target(ours[name]))
        for name, words, target in (
            ("one_connection", "one connection, one at a time", lambda _: ""),
            ("several_connections", f"{rpc.LOADERS} connections", lambda _: ""),
            (
                "per_cpu_second",
                "by second of the server's CPU",
                lambda rate: _verdict(rate >= 5000, ">= 5,000"),
            ),
        )
    ]
    for name, each in figures["proxied"].items():
        met = _verdict(each["added_p50_us"] <= 500, "added <= 500")
        rows.append((f"{name}, p50 (us)", number(each["proxied_p50_us"]), number(each["direct_p50_us"]), met))
    return rows


def blob_cells(figures: Mapping[str, float]) -> list[Cells]:
    rows = []
    for name, (label, target) in blobs.LABELS.items():
        value = figures[name]
        rows.append((label, number(value), _verdict(value <= blobs.BOUNDS[name], target) if target else ""))
    return rows


def _verdict(met: bool, target: str) -> str:
    return f"{'met' if met else 'MISSED'} ({target})"


SERVING_HEAD = serving.HEAD
RPC_HEAD = ("call", "pyrelay", "geth itself", "target")
BLOB_HEAD = ("a blob transaction with six blobs", "", "target")
DISCOVERY_HEAD = ("measure", "unit", *discovery.NAMES.values(), "target", "verdict")
ACROSS_HEAD = ("round trips a second", "PING", "TALKREQ", "FINDNODE")
TOR_HEAD = ("one connection of the daemon", "clearnet", "Tor")
MICRO_HEAD = ("group", "what", "us", "1/s", "MB/s")


def text_table(head: Cells, body: Sequence[Cells]) -> str:
    """Columns in line; the first two to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
    lines = []
    for row in (head, *body):
        padded = [
            cell.rjust(width) if _is_number(cell) else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").isdigit()


def markdown_table(head: Cells, body: Sequence[Cells]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def text(result: Mapping[str, Any]) -> str:
    """The whole run for a terminal."""
    parts = [machine_words(result)]
    if result["rows"]:
        parts.append(text_table(HEAD, cells(result["rows"])))
    parts += ["\n".join(result["notes"])] if result["notes"] else []
    if served := result.get("serving"):
        parts.append(text_table(SERVING_HEAD, serving.cells(served)))
    if called := result.get("rpc"):
        parts.append(text_table(RPC_HEAD, rpc_cells(called)))
    if verified := result.get("blobs"):
        parts.append(text_table(BLOB_HEAD, blob_cells(verified)))
    if result["tor"]:
        parts.append(text_table(TOR_HEAD, tor_cells(result["tor"])))
    if found := result.get("discovery"):
        parts.append(text_table(DISCOVERY_HEAD, discovery_cells(found)))
        parts.append(text_table(ACROSS_HEAD, across_cells(found)))
    if result["micro"]:
        parts.append(text_table(MICRO_HEAD, micro_cells(result["micro"])))
    return "\n\n".join(parts)


def machine_words(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    rounds = result["rounds"]
    times = f"medians of {rounds} rounds" if rounds > 1 else "one round"
    return (
        f"{result['time']}, {times}: {machine['cores']} cores of {machine['processor']},"
        f" {machine['memory_gb']} GB, {machine['system']}, Python {machine['python']};"
        f" other programs kept {machine['others_cores']:.2f} cores busy meanwhile"
    )
