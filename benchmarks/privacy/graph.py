"""Relays and their links, as pyrelay forms them, some of them spies."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from math import exp, log

from relay.peering.options import PeeringOptions

JITTER = 0.03  # mean seconds that a message is late, at random


@dataclass
class World:
    """Who dialed whom, and how long a message takes.

    Attributes:
        size: relays; the last `spies` of them are the spy's.
        dialed: by relay, whom it dialed; came: who dialed it.
        latency: by pair, seconds one way without jitter.
    """

    size: int
    spies: int
    dialed: list[list[int]]
    came: list[list[int]]
    latency: dict[tuple[int, int], float]
    neighbours: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.neighbours = [[*out, *came] for out, came in zip(self.dialed, self.came, strict=True)]

    @property
    def honest(self) -> range:
        return range(self.size - self.spies)

    def is_spy(self, relay: int) -> bool:
        return relay >= self.size - self.spies


def make_world(size: int, share: float, median: float, seed: int, *, greedy: bool = False) -> World:
    """Let each relay dial strangers until it has enough, where they have room; spies do the same.

    Args:
        size: relays.
        share: of them that are the spy's.
        median: latency one way, seconds.
        seed: the same graph for each defence.
        greedy: the spy dials everybody, many times over, until nobody has room.
    """
    draw, options = random.Random(f"graph {seed}"), PeeringOptions()
    spies = round(size * share)
    dialed: list[list[int]] = [[] for _ in range(size)]
    came: list[list[int]] = [[] for _ in range(size)]
    turns = [relay for relay in range(size) for _ in range(options.max_dialed)]
    draw.shuffle(turns)
    for relay in turns:
        _dial(relay, dialed, came, range(size), draw, options.max_inbound)
    if greedy:
        for target in range(size - spies):
            for _ in range(options.max_inbound):
                spy = draw.randrange(size - spies, size)
                _link(spy, target, dialed, came, options.max_inbound)
    latency = {}
    for relay, others in enumerate(dialed):
        for other in others:
            latency[relay, other] = latency[other, relay] = exp(draw.gauss(log(median), 0.4))
    return World(size, spies, dialed, came, latency)


def _dial(
    relay: int,
    dialed: list[list[int]],
    came: list[list[int]],
    among: range,
    draw: random.Random,
    room: int,
) -> None:
    for _ in range(50):
        if _link(relay, draw.choice(among), dialed, came, room):
            return


def _link(one: int, other: int, dialed: list[list[int]], came: list[list[int]], room: int) -> bool:
    taken = other in dialed[one] or one in dialed[other]
    if one == other or taken or len(came[other]) >= room:
        return False
    dialed[one].append(other)
    came[other].append(one)
    return True
