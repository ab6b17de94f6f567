"""The figures as a person reads them: a table in Markdown, and the curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["draw", "table"]


def table(result: dict[str, Any]) -> str:
    """Return the page's tables."""
    head = [
        f"{result['relays']} relays, seed {result['seed']}, {result['worlds']} graphs;"
        f" a blind guess: {result['origins'][0]['guess']:.1%}",
        "",
        "| defence | spies | first spy | best estimator, 95 % | which | precision | delay p50 / p99 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [_row(each) for each in result["origins"]]
    rows += [_row(each, " (greedy)") for each in result["greedy"]]
    links = ["", "| a marked transaction | tags | peers named right | blind |", "| --- | --- | --- | --- |"]
    links += [
        f"| {each['defence']} | {each['tags']} | {each['right']:.0%} | {each['blind']:.0%} |"
        for each in result["links"]
    ]
    counts = list(result["elimination"][0]["left"])
    left = [
        "",
        "| receivers are | " + " | ".join(f"after {count}" for count in counts) + " |",
        "| --- " * (len(counts) + 1) + "|",
    ]
    left += [
        f"| {'strangers first' if each['strangers'] else 'any'} | "
        + " | ".join(f"{each['left'][count]:.0f}" for count in counts)
        + " |"
        for each in result["elimination"]
    ]
    return "\n".join(head + rows + links + left)


def _row(each: dict[str, Any], note: str = "") -> str:
    found, best = each["estimators"], each["best"]
    first, top = found["first spy"], found[best]
    precision = f"{top['precision']:.1%}" if "precision" in top else "-"
    return (
        f"| {each['defence']} | {each['spies']:.0%}{note} | {first['recall']:.1%} | {top['recall']:.1%}"
        f" ({top['low']:.1%} to {top['high']:.1%}) | {best} | {precision}"
        f" | {each['seconds']['p50']:.1f} / {each['seconds']['p99']:.1f} s |"
    )


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw who is found by the share of spies, and what it costs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    found, late = figure.subplots(2, 1, sharex=True)
    names = list(dict.fromkeys(each["defence"] for each in result["origins"]))
    for name in names:
        rows = [each for each in result["origins"] if each["defence"] == name]
        spies = [each["spies"] for each in rows]
        best = [each["estimators"][each["best"]] for each in rows]
        recall = [each["recall"] for each in best]
        bars = (
            [each["recall"] - each["low"] for each in best],
            [each["high"] - each["recall"] for each in best],
        )
        line = found.errorbar(spies, recall, yerr=bars, marker="o", capsize=3, label=name)
        colour = line.lines[0].get_color()
        first = [each["estimators"]["first spy"]["recall"] for each in rows]
        found.plot(spies, first, linestyle=":", marker=".", color=colour)
        late.plot(spies, [each["seconds"]["p50"] for each in rows], marker="o", color=colour, label=name)
        late.plot(spies, [each["seconds"]["p99"] for each in rows], linestyle=":", marker=".", color=colour)
    found.set_ylabel("transactions traced to their relay\n(best estimator; dotted: first spy)")
    found.set_ylim(0, 1.02)
    late.set_ylabel("seconds to half of the relays\n(dotted: to 99 %)")
    late.set_yscale("log")
    late.set_xlabel("share of relays that spy")
    for axes in (found, late):
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    figure.suptitle(f"{result['relays']} relays, {result['worlds']} graphs, seed {result['seed']}")
    figure.savefig(path, dpi=100)
