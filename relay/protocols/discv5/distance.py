"""The metric of the network: XOR of node ids. Spec: discv5-theory.md, "Nodes, Records and Distances"."""

from __future__ import annotations

from itertools import count
from typing import Final

__all__ = ["ID_BITS", "log_distance", "lookup_distances", "xor_distance"]

ID_BITS: Final = 256


def xor_distance(a: bytes, b: bytes) -> int:
    """Return the distance of two ids as a number."""
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def log_distance(a: bytes, b: bytes) -> int:
    """Return the logarithmic distance: 0 for equal ids, 256 where the first bit differs."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_length()


def lookup_distances(target: bytes, asked: bytes, wanted: int = 3) -> tuple[int, ...]:
    """Return distances to ask a node for, nearest to the target first: d, d+1, d-1, ... where they exist."""
    middle = log_distance(target, asked)
    found = [middle]
    for step in count(1):
        if len(found) >= wanted:
            break
        found += [each for each in (middle + step, middle - step) if 0 < each <= ID_BITS]
    return tuple(found[:wanted])
