"""Peers with chains for tests of the block range: a source of headers on a virtual clock that takes notes."""

from __future__ import annotations

from collections import defaultdict

from relay.primitives.endpoint import Endpoint
from relay.relaying.blockrange import BlockRange, RangeKeeper, RangeOptions
from relay.relaying.counters import RelayCounters
from relay.relaying.pace import PaceOptions
from relay.relaying.roster import RelayPeer
from relay.relaying.witnesses import group_of
from tests.aids.relaying import RecordingSession, VirtualLoop, seeded

ONION = "a" * 55 + "d"


def endpoint(number):
    """Return an IP of a group of its own."""
    return Endpoint.parse(f"{20 + number // 200}.{number % 200}.1.2", 30303)


class ChainPeer:
    """A peer and what it would answer.

    Attributes:
        chain: headers from genesis on.
        mood: "good", "empty" (has nothing), "silent" (the source gives up), "short" (one header of many),
            "garbage", "unlinked" or "other" (not what was asked).
        delay: seconds an answer takes.
    """

    def __init__(self, chain, relay_peer, mood="good", delay=0.1):
        self.chain = chain
        self.peer = relay_peer
        self.mood = mood
        self.delay = delay

    def answer(self, origin, amount, reverse):
        numbers = {each.hash: each.number for each in self.chain}
        start = numbers.get(origin) if isinstance(origin, bytes) else origin
        if self.mood in ("empty", "silent") or start is None or start >= len(self.chain):
            return ()
        found = self.chain[start::-1] if reverse else self.chain[start:]
        raws = [each.raw for each in found[:amount]]
        if self.mood == "short":
            return tuple(raws[:1])
        if self.mood == "garbage":
            return (b"\xc0", *raws[1:])
        if self.mood == "unlinked":
            return tuple(raws[::2])
        if self.mood == "other":
            return tuple(raws[1:])
        return tuple(raws)


class Peers:
    """A keeper with its peers; the source of headers is this object.

    Attributes:
        questions: (peer, origin, amount, reverse) that were asked.
        served: by hash, the groups that a header came from; "trusted" for a trusted peer.
        under_way: questions that wait.
    """

    def __init__(self, genesis_hash, **options):
        self.loop = VirtualLoop()
        self.counters = RelayCounters()
        self.keeper = RangeKeeper(genesis_hash, RangeOptions(**options), self.counters, seeded())
        self.keeper.source = self
        self.blocks = []
        self.keeper.on_blocks = self.blocks.extend
        self.members = {}
        self.questions = []
        self.served = defaultdict(set)
        self.under_way = 0

    def join(self, chain, place=None, *, claim=None, mood="good", delay=0.1, **session):
        """Add a peer that tells the end of its chain, or something else."""
        where = endpoint(place) if isinstance(place, int) else place
        recording = RecordingSession(endpoint=where, **session)
        peer = RelayPeer(recording, 1 << len(self.members), self.loop.now, PaceOptions())
        member = ChainPeer(chain, peer, mood, delay)
        self.members[peer] = member
        self.keeper.joined(peer)
        if claim is None:
            claim = BlockRange(0, chain[-1].number, chain[-1].hash)
        if peer.version > 68:
            self.keeper.learn(peer, claim)
        return member

    def leave(self, member):
        del self.members[member.peer]
        self.keeper.left(member.peer)

    def headers(self, origin, amount, *, reverse=False, skip=0, among=None, done):
        assert skip == 0
        (peer,) = among
        self.questions.append((peer, origin, amount, reverse))
        self.under_way += 1
        member = self.members.get(peer)
        delay = 5.0 if member is None or member.mood == "silent" else member.delay

        def finish():
            self.under_way -= 1
            there = self.members.get(peer)
            found = () if there is None else there.answer(origin, amount, reverse)
            self._note(peer, found)
            done(found, peer if found else None)

        if delay:
            self.loop.call_later(delay, finish)
        else:
            finish()

    def _note(self, peer, found):
        for each in self.members[peer].chain if found else ():
            if each.raw in found:
                self.served[each.hash].add("trusted" if peer.session.trusted else group_of(peer.session))

    def run(self, seconds):
        """Let time pass, with the ticks of the handler."""
        for _ in range(int(seconds)):
            self.loop.advance(1.0)
            self.keeper.tick(self.loop.now)
        self.loop.settle()

    @property
    def latest(self):
        return self.keeper.current.latest
