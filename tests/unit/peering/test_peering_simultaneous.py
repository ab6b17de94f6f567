"""Two nodes dial each other at once: whatever the order of events, both keep one connection, the same one."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from relay.peering.session import Phase
from tests.aids.peering import End, Link, ManualLoop, MemoryTransport, connect, make_end, settle, sorted_keys

LOW, HIGH = sorted_keys(2)


class Race:
    """Both connections opened, nothing delivered; choices are taken one by one."""

    def __init__(self, *, shared_loop: bool = True) -> None:
        self.loop = ManualLoop()
        other = self.loop if shared_loop else ManualLoop()
        self.low: End = make_end(LOW, self.loop)
        self.high: End = make_end(HIGH, other)
        self.by_low = connect(self.low, self.high)
        self.by_high = connect(self.high, self.low)
        self.links: list[Link] = [self.by_low, self.by_high]
        self.loops = [self.loop] if shared_loop else [self.loop, other]

    def directions(self) -> list[MemoryTransport]:
        return [each for link in self.links for each in link.directions() if each.deliverable]

    def check(self) -> None:
        assert self.low.bugs == self.high.bugs == []
        near, far = self.low.peers.sessions(), self.high.peers.sessions()
        assert len(near) == len(far) == 1, (near, far)
        kept = [link for link in self.links if near[0] in (link.dialer, link.listener)]
        assert far[0] in (kept[0].dialer, kept[0].listener), "each side kept another connection"
        (other,) = [link for link in self.links if link is not kept[0]]
        assert other.dialer.phase >= Phase.CLOSING
        assert other.listener.phase >= Phase.CLOSING
        for end in (self.low, self.high):
            assert end.eth.names() == ["joined"], "the handler never sees the duplicate"
            assert end.peers.gate.active == 0


def replay(choices: list[int]) -> tuple[Race, int]:
    """Take the choices; return the race and how many ways there are to go on."""
    race = Race()
    race.loop.drain()
    for choice in choices:
        race.directions()[choice].deliver()
        race.loop.drain()
    return race, len(race.directions())


def test_both_sides_keep_the_same_connection_in_every_interleaving() -> None:
    """Depth first over every order in which what was written can arrive."""
    finished = 0
    pending: list[list[int]] = [[]]
    while pending:
        choices = pending.pop()
        race, open_ways = replay(choices)
        while open_ways:
            pending += [[*choices, other] for other in range(1, open_ways)]
            choices = [*choices, 0]
            race.directions()[0].deliver()
            race.loop.drain()
            open_ways = len(race.directions())
        race.check()
        finished += 1
    assert finished > 50


@pytest.mark.parametrize("seed", range(60))
def test_the_same_with_every_write_alone_and_both_event_loops_in_any_order(seed: int) -> None:
    chance = random.Random(seed)
    race = Race(shared_loop=False)
    for _ in range(2000):
        moves = [each.deliver for each in race.directions()]
        moves += [loop.turn for loop in race.loops if loop.soon]
        if not moves:
            break
        move = chance.choice(moves)
        if getattr(move, "__name__", "") == "deliver":
            move(whole=chance.random() < 0.5)
        else:
            move()
    race.check()


def test_dial_of_the_lower_key_has_precedence_when_all_is_even() -> None:
    race = Race()
    settle(race.loops, race.links)
    race.check()
    assert race.by_low.dialer.phase is Phase.JOINED
    assert "already connected" in race.low.tally.categories()


def hold(before_status: Callable[[Race], None] = lambda _: None) -> Race:
    """The connection without precedence is ready to join at the lower node, the other hangs after Hello."""
    race = Race()
    race.loop.drain()
    order = (
        race.by_high.near,  # auth
        race.by_high.far,  # ack, Hello: admitted by both
        race.by_low.near,  # auth
        race.by_low.far,  # ack, Hello: admitted by both as well, with precedence
        race.by_high.near,  # Hello, Status
    )
    for step, transport in enumerate(order):
        if step == len(order) - 1:
            before_status(race)
            race.loop.drain()
        transport.deliver()
        race.loop.drain()
    assert race.by_high.listener.phase is Phase.HELD
    assert race.by_low.dialer.phase is Phase.STATUS
    return race


def test_held_connection_joins_when_the_one_with_precedence_breaks() -> None:
    race = hold()
    race.by_low.near.break_with(ConnectionResetError("cut"))
    race.by_low.far.break_with(ConnectionResetError("cut"))
    settle(race.loops, race.links)
    race.check()
    assert race.by_high.listener.phase is Phase.JOINED


def test_held_connection_keeps_what_came_with_its_status() -> None:
    race = hold(lambda race: race.by_high.dialer.send(2, b"first"))
    assert race.low.eth.seen == []
    race.by_low.near.break_with(ConnectionResetError("cut"))
    race.by_low.far.break_with(ConnectionResetError("cut"))
    settle(race.loops, race.links)
    assert race.low.eth.names() == ["joined", "message"]
    assert race.low.eth.messages() == [(2, b"first")]


def test_held_connection_is_not_held_for_ever() -> None:
    race = hold()
    race.loop.time += 14.9
    race.by_high.listener.check(race.loop.time)
    assert race.by_high.listener.phase is Phase.HELD
    race.loop.time += 0.1
    race.by_high.listener.check(race.loop.time)
    assert race.by_high.listener.phase is Phase.CLOSING


def test_held_connection_gives_up_when_no_room_is_left() -> None:
    race = hold()
    third = make_end(sorted_keys(3)[2], race.loop)
    race.low.peers.trust(third.key.public_key)
    links = [connect(third, race.low)]
    settle(race.loops, links)
    object.__setattr__(race.low.peers.options, "max_peers", 1)
    race.by_low.near.break_with(ConnectionResetError("cut"))
    race.loop.drain()
    assert race.by_high.listener.departure is not None
    assert race.by_high.listener.departure.category == "too many peers"


def test_second_inbound_connection_of_a_key_is_refused() -> None:
    loop = ManualLoop()
    near, far = make_end(LOW, loop), make_end(HIGH, loop)
    links = [connect(near, far)]
    settle([loop], links)
    links.append(connect(near, far))
    settle([loop], links)
    assert links[0].dialer.phase is Phase.JOINED
    assert links[1].dialer.phase is Phase.CLOSED
    assert near.tally.categories() == ["already connected"]
    assert [each.by_remote for each in far.tally.refusals] == [False]
