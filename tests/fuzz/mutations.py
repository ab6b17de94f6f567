"""Changes to an input that keep much of it: flips, cuts, repeats, numbers of note, pieces of other inputs."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

NUMBERS: Final = (0, 1, 0x37, 0x38, 0x7F, 0x80, 0xB7, 0xB8, 0xBF, 0xC0, 0xF7, 0xF8, 0xFF)
"""Among them the ends of RLP's ranges."""


def mutate(data: bytes, chance: Random, others: Sequence[bytes]) -> bytes:
    """Change a few places."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 5)):
        _change(out, chance, others)
    return bytes(out)


def _change(out: bytearray, chance: Random, others: Sequence[bytes]) -> None:
    at = chance.randrange(len(out) + 1)
    match chance.randrange(7):
        case 0 if at < len(out):
            out[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(out):
            out[at] = chance.choice(NUMBERS)
        case 2:
            del out[at : at + chance.randrange(40)]
        case 3:
            out[at:at] = out[max(0, at - chance.randrange(60)) : at]
        case 4:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            out[at:at] = other[start : start + chance.randrange(80)]
        case 5:
            out[at : at + 4] = chance.choice(NUMBERS).to_bytes(chance.choice((1, 2, 4)), "big")
        case _:
            out[at:at] = chance.randbytes(chance.randrange(20))
