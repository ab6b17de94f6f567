"""Draws the panels of each dashboard from what a Prometheus answers, as PNG: no Grafana is needed.

    make run-stack                                          # in one terminal; it prints where Prometheus is
    .venv/bin/python tools/draw_panels.py --prometheus URL  # in another: writes docs/img/dashboard-*.png

Titles, queries, legends, units and places are those of the JSON that Grafana is given; the look is
matplotlib's.
A panel whose query has no series says so: nothing is made up.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator

ROOT: Final = Path(__file__).parents[1]
DASHBOARDS: Final = ROOT / "deployment" / "monitoring" / "dashboards"
COLUMN, ROW = 0.62, 0.36  # inches of one unit of Grafana's grid
STEPS: Final = 120  # points of a line
LEGENDS: Final = 8  # lines that are named
BINARY: Final = ("bytes", "Bps")
SECONDS: Final = {"s": 1.0, "ms": 1e-3, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Line:
    """A series.

    Attributes:
        name: its legend.
        times: seconds before the end, negative.
        values: of these moments.
    """

    name: str
    times: list[float]
    values: list[float]


def main(words: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--minutes", type=float, default=5.0, help="until now (default 5)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "img", metavar="FOLDER")
    given = parser.parse_args(words)
    try:
        for file in sorted(DASHBOARDS.glob("*.json")):
            board = json.loads(file.read_text())
            place = given.out / f"dashboard-{file.stem}.png"
            empty = draw(board, given.prometheus, given.minutes * 60, place)
            print(f"{place.name}: {len(board['panels'])} panels, {empty} of them without series")
    except (urllib.error.URLError, OSError) as error:
        print(f"draw_panels: {given.prometheus}: {error}", file=sys.stderr)
        return 1
    return 0


def draw(board: dict[str, Any], prometheus: str, seconds: float, place: Path) -> int:
    """Draw a dashboard; returns how many panels have nothing to show."""
    panels = board["panels"]
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels)
    figure = plt.figure(figsize=(24 * COLUMN, height * ROW + 0.7), facecolor="white")
    top = 1.0 - 0.6 / (height * ROW + 0.7)
    figure.text(0.01, 0.5 + top / 2, board["title"], fontsize=15, weight="bold", va="center")
    figure.text(
        0.99, 0.5 + top / 2, "drawn from the answers of a real Prometheus; not a picture of Grafana",
        fontsize=9, color="0.4", ha="right", va="center",
    )  # fmt: skip
    empty = 0
    for panel in panels:
        lines = ask(panel, prometheus, seconds)
        empty += not lines
        at = panel["gridPos"]
        corner = (at["x"] / 24, top * (1 - (at["y"] + at["h"]) / height))
        frame = (corner[0] + 0.048, corner[1] + 0.35 * top / height * 2.4)
        axes = figure.add_axes((*frame, at["w"] / 24 - 0.06, top * (at["h"] - 1.9) / height))
        axes.set_title(panel["title"], fontsize=9.5, loc="left", weight="bold")
        unit = panel["fieldConfig"]["defaults"]["unit"]
        if not lines:
            nothing(axes)
        elif panel["type"] == "stat":
            number(axes, lines, unit)
        else:
            graph(axes, lines, unit)
    place.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(place, dpi=80)
    plt.close(figure)
    return empty


def ask(panel: dict[str, Any], prometheus: str, seconds: float) -> list[Line]:
    """Run a panel's queries."""
    end, found = time.time(), []
    for target in panel.get("targets", []):
        expression = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
        words = {"query": expression, "start": end - seconds, "end": end, "step": seconds / STEPS}
        url = f"{prometheus.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - the address that a person gave
            told = json.load(answer)
        for series in told["data"]["result"]:
            points = [(float(at) - end, float(value)) for at, value in series["values"]]
            points = [each for each in points if math.isfinite(each[1])]  # a share of nothing is no number
            if not points:
                continue
            name = legend(target.get("legendFormat", ""), series["metric"])
            found.append(Line(name, [at for at, _ in points], [value for _, value in points]))
    return found


def legend(form: str, labels: dict[str, str]) -> str:
    """Fill a legend in, as Grafana does."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), form).strip()


def nothing(axes: Any) -> None:  # noqa: ANN401 - matplotlib's Axes
    """Say that there are no series."""
    axes.axis("off")
    axes.text(
        0.0,
        0.5,
        "no series: it does not run here,\nor it never happened",
        fontsize=8.5,
        color="0.45",
    )


def number(axes: Any, lines: list[Line], unit: str) -> None:  # noqa: ANN401
    """Show the last values."""
    axes.axis("off")
    shown = "   ".join(f"{spelled(each.values[-1], unit)} {each.name}".strip() for each in lines[:3])
    axes.text(0.0, 0.45, shown, fontsize=13 if len(shown) < 30 else 9, va="center")


def graph(axes: Any, lines: list[Line], unit: str) -> None:  # noqa: ANN401
    """Draw lines over time."""
    for each in lines:
        axes.plot(each.times, each.values, linewidth=1.2, label=each.name)
    highest = max(max(each.values) for each in lines)
    axes.set_ylim(min(0.0, *(min(each.values) for each in lines)), highest * 1.25 or 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 4, 5, 8, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: spelled(value, unit)))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value / 60:+.0f} min" if value else "now")
    )
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, linewidth=0.3)
    axes.legend(handles=axes.lines[:LEGENDS], fontsize=6.5, loc="upper left", framealpha=0.7, ncols=2)


def spelled(value: float, unit: str) -> str:
    """Spell a number with its unit, for an axis."""
    if unit == "percent":
        return f"{value:.3g} %"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit in SECONDS:
        value *= SECONDS[unit]
        for size, name in ((1.0, "s"), (1e-3, "ms")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return f"{value / 1e-6:.3g} µs" if value else "0 s"
    step, names = (
        (1024, ("", " Ki", " Mi", " Gi", " Ti")) if unit in BINARY else (1000, ("", " k", " M", " G", " T"))
    )
    for name in names:
        if abs(value) < step or name == names[-1]:
            text = f"{value:.4g}{name}"
            break
        value /= step
    suffix = {"bytes": "B", "Bps": "B/s", "reqps": "/s", "ops": "/s"}.get(unit, "")
    return f"{text}{'' if name or not suffix else ' '}{suffix}"


if __name__ == "__main__":
    sys.exit(main())
