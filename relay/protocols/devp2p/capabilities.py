"""Which capabilities two nodes share, and where each one's message codes begin.

Spec: rlpx.md, "Message ID-based Multiplexing".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from relay.protocols.devp2p.snappy import MAX_MESSAGE

__all__ = ["BASE_LENGTH", "Capability", "SharedCapability", "negotiate"]

BASE_LENGTH: Final = 16  # message codes 0x00 to 0x0f belong to "p2p" itself


@dataclass(frozen=True, slots=True, order=True)
class Capability:
    """A capability as Hello lists it. Two are equal when name and version are.

    Attributes:
        name: case matters.
        version: the highest shared one of a name wins.
        length: how many message codes it takes; known of ours only, and not sent.
        max_message: bytes, decompressed; a message that declares more is refused before it is decoded.
    """

    name: str
    version: int
    length: int = field(default=0, compare=False)
    max_message: int = field(default=MAX_MESSAGE, compare=False)


@dataclass(frozen=True, slots=True)
class SharedCapability:
    """A capability both sides have.

    Attributes:
        name: as in Hello.
        version: the highest shared one.
        offset: absolute code of its message 0.
        length: how many codes it takes.
        max_message: bytes of its largest message, decompressed.
    """

    name: str
    version: int
    offset: int
    length: int
    max_message: int = MAX_MESSAGE


def negotiate(ours: Iterable[Capability], theirs: Iterable[Capability]) -> tuple[SharedCapability, ...]:
    """Return the shared capabilities in the order of their codes; empty when there is none.

    Args:
        ours: with their lengths.
        theirs: as received.
    """
    offered = set(theirs)
    best: dict[str, Capability] = {}
    for capability in sorted(ours):
        if capability in offered:
            best[capability.name] = capability
    shared = []
    offset = BASE_LENGTH
    for capability in sorted(best.values()):
        shared.append(
            SharedCapability(
                capability.name, capability.version, offset, capability.length, capability.max_message
            )
        )
        offset += capability.length
    return tuple(shared)
