"""Progress as plain lines, for pipes, logs and terminals that can do no better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TextIO

from relay.localnet.words import totals, transaction_text

if TYPE_CHECKING:
    from relay.localnet.board import Board

__all__ = ["PlainLines"]

TOTALS_SECONDS: Final = 5.0
FIRST_LINES: Final = 3  # transactions that are told one by one


class PlainLines:
    """Writes a line where something changed. file: gets them, and nothing beyond ASCII."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._words = ""
        self._states: dict[int, str] = {}
        self._told = 0  # number of the last transaction looked at
        self._next_totals = 0.0

    def update(self, board: Board) -> None:
        """Write what is new."""
        self._tell_tor(board)
        self._tell_relays(board)
        self._tell_transactions(board)
        if board.sent and board.elapsed >= self._next_totals:
            self._next_totals = board.elapsed + TOTALS_SECONDS
            self._say(board, "transactions: " + ", ".join(totals(board)))

    def close(self, board: Board) -> None:
        """Write what is new, and the totals."""
        self._next_totals = 0.0
        self.update(board)

    def _tell_tor(self, board: Board) -> None:
        if board.words != self._words:
            self._words = board.words
            self._say(board, f"Tor {board.percent}%: {board.words}")

    def _tell_relays(self, board: Board) -> None:
        for row in board.rows:
            state = row.state
            # Tor's percents are told above.
            if state.startswith("Tor") or self._states.get(row.number, "waiting") == state:
                continue
            self._states[row.number] = state
            self._say(board, f"relay {row.number} {row.onion} {state}")

    def _tell_transactions(self, board: Board) -> None:
        for line in board.log:
            if line.number > self._told:
                self._told = line.number
                if line.overdue or line.number <= FIRST_LINES:
                    self._say(board, transaction_text(line))

    def _say(self, board: Board, text: str) -> None:
        print(f"{board.elapsed:6.1f} s  {text}", file=self._file, flush=True)
