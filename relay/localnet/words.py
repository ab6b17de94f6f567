"""Short texts that the screen and the plain lines share."""

from __future__ import annotations

from typing import Final

from relay.localnet.board import Board, TransactionLine

__all__ = ["milliseconds", "onion_text", "size_text", "totals", "transaction_text"]

_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_LISTED: Final = 3  # receivers whose latencies are told one by one
_SHOWN: Final = 10  # hex digits of a hash
_BRIEF: Final = 6


def size_text(count: int) -> str:
    """Write a number of bytes with three digits or so."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 99.95 else f"{value:.1f} {_UNITS[unit]}"


def onion_text(address: str, dots: str) -> str:
    """Shorten an onion address to what tells three relays apart. dots: an ellipsis that can be printed."""
    return f"{address[:8]}{dots}.onion" if address else ""


def milliseconds(value: float | None) -> str:
    """Write a latency."""
    if value is None:
        return "-"
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def transaction_text(line: TransactionLine, *, brief: bool = False) -> str:
    """Tell where a transaction got to, and how fast. brief: in some 30 characters, for three relays."""
    if brief:
        told = ", ".join(f"{number}: {latency:.0f} ms" for number, latency in line.latencies.items())
        return f"0x{line.hash[:_BRIEF]}  " + (f"LOST {told}" if line.overdue else told)
    return f"0x{line.hash[:_SHOWN]}  " + (
        f"LOST, arrived only at: {_where(line)}" if line.overdue else _where(line)
    )


def _where(line: TransactionLine) -> str:
    told = line.latencies
    if len(told) > _LISTED:
        return f"{len(told)} relays {milliseconds(min(told.values()))} to {milliseconds(max(told.values()))}"
    return ", ".join(f"relay {number} {milliseconds(value)}" for number, value in told.items()) or "none"


def totals(board: Board) -> list[str]:
    """Return the figures of the whole run, in pieces that may be put on one line or several."""
    pieces = [f"sent {board.sent}", f"arrived {board.arrived} ({board.rate:.1f}/s)"]
    if board.overdue:
        pieces.append(f"LOST {board.overdue}")
    pieces += [f"p50 {milliseconds(board.p50)}", f"p99 {milliseconds(board.p99)}"]
    return pieces
