"""Makes docs/img/localnet.svg, the picture of the live screen, from the figures of a real run.

python docs/img/make_localnet.py            runs `pyrelay localnet --once`, records and draws
python docs/img/make_localnet.py --draw     draws what was recorded (after a change of the screen)
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from relay.localnet.board import Board, RelayRow, TransactionLine
from relay.localnet.run import Localnet, LocalnetOptions
from relay.localnet.scrape import Reading
from relay.localnet.screen import render

HERE: Final = Path(__file__).parent
RECORDED: Final = HERE / "localnet.json"
PICTURE: Final = HERE / "localnet.svg"
WIDTH, HEIGHT = 80, 24


class Recorder:
    """Keeps the last board of a run; its progress goes to standard error."""

    def __init__(self) -> None:
        self._words = ""

    def update(self, board: Board) -> None:
        """Say what goes on."""
        if board.words != self._words:
            self._words = board.words
            print(f"{board.elapsed:5.1f} s  {board.words}", file=sys.stderr)

    def close(self, board: Board) -> None:
        """Write the board down."""
        values = asdict(board) | {"log": [asdict(line) for line in list(board.log)[-HEIGHT:]]}
        RECORDED.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def recorded() -> Board:
    """Read the board of the recorded run."""
    values: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
    rows = [RelayRow(**row | {"reading": Reading(**row["reading"])}) for row in values.pop("rows")]
    lines = values.pop("log")
    board = Board(**values, rows=rows)
    for line in lines:
        latencies = {int(number): latency for number, latency in line["latencies"].items()}
        board.log.append(TransactionLine(**line | {"latencies": latencies}))
    return board


def draw(board: Board) -> None:
    """Write the picture."""
    console = Console(
        width=WIDTH,
        height=HEIGHT,
        file=io.StringIO(),
        record=True,
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(render(board, WIDTH, HEIGHT))
    svg = console.export_svg(title="pyrelay localnet", unique_id="localnet")
    # Whoever looks at the picture must not be made to fetch a font from somebody else.
    svg = re.sub(r"@font-face\s*{[^}]*}", "", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas")
    PICTURE.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


async def record() -> None:
    """Run once."""
    await Localnet(LocalnetOptions(once=True), Recorder(), time.monotonic()).run()


if __name__ == "__main__":
    if sys.argv[1:] != ["--draw"]:
        asyncio.run(record())
    draw(recorded())
