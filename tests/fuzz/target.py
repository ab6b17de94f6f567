"""What a target of the fuzzer is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relay.primitives.errors import DecodeError, PeerError

__all__ = ["Target", "tried"]


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        seeds: inputs that it takes, or nearly.
        run: feeds it; whatever it raises but `allowed` is a crash.
        allowed: errors by which hostile input is refused.
    """

    seeds: tuple[bytes, ...]
    run: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = (DecodeError,)


def tried(parse: Callable[..., object], data: bytes | str, *errors: type[Exception]) -> None:
    """Feed one parser of several: what it refuses must not keep the input from the next."""
    allowed = errors or (DecodeError, PeerError)
    try:
        parse(data)
    except allowed:
        return
