"""The range of blocks that our Status and updates name: learned from peers, never invented.

Geth tells of its range every 32 blocks only, so two peers seldom name the same hash, and relays echo each
other. So what a peer says is a hint, and what it serves counts: the second-highest latest block is the
candidate, and its header is fetched by hash from peers until two of different groups, or a trusted one, had
it. From there the tip is followed by number, each block served by two groups or a trusted peer again.
A chain that takes another way is walked back, up to a bound. An anchor, of a beacon node say, goes before all
peers, whose part is then to have its header.

Updates go out every 32 blocks, as geth's do, and not soon after Status: a peer has just been told then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from relay.protocols.eth.messages import BlockRangeUpdate
from relay.relaying.claims import BlockRange, Claims
from relay.relaying.head import HeadChain
from relay.relaying.witnesses import HeaderSource, Poll, Question

if TYPE_CHECKING:
    from relay.chain.headers import Header
    from relay.relaying.counters import RelayCounters
    from relay.relaying.roster import RelayPeer

__all__ = ["BlockRange", "RangeKeeper", "RangeOptions"]

_FIRST_VERSION: Final = 69  # of eth, with BlockRangeUpdate
_FIRST_STEP: Final = 8  # blocks below the head; each further step doubles


@dataclass(frozen=True, slots=True)
class RangeOptions:
    """How the head is found and told.

    Attributes:
        step: blocks between two updates of our range (setting --range-step; geth: 32).
        quiet: seconds after Status in which no update of our range is sent.
        poll: seconds between two looks at the tip.
        reach: blocks above the head that are asked for by number, and by which a peer may be ahead of what it
            told; a candidate beyond is asked for by hash.
        attempts: peers asked in one look.
        reorg: blocks that a reorganization is walked back at most.
        doubts: looks that must fail, one after the other, before a lower candidate may replace the head.
        retry: seconds for which nobody listens to who named a candidate that was not confirmed.
        quarantine: seconds before a peer that came in by itself is asked: it may be a tester that knows no
            requests.
        anchor: seconds for which an anchor holds.
    """

    step: int = 32
    quiet: float = 60.0
    poll: float = 6.0
    reach: int = 64
    attempts: int = 6
    reorg: int = 128
    doubts: int = 3
    retry: float = 30.0
    quarantine: float = 30.0
    anchor: float = 120.0


@dataclass(frozen=True, slots=True)
class _Anchor:
    number: int
    hash: bytes
    until: float


class RangeKeeper:
    """What peers say and serve, and what follows for our range.

    Attributes:
        current: what we name.
        source: fetches headers; until it is set, nothing is confirmed.
        on_blocks: told of the headers that have become part of the chain, in order. The last one is the head;
            it comes alone, and again, where the chain was set back.
    """

    __slots__ = (
        "_anchor",
        "_chain",
        "_claims",
        "_counters",
        "_depth",
        "_doubts",
        "_due",
        "_log",
        "_now",
        "_options",
        "_polling",
        "_tries",
        "current",
        "on_blocks",
        "source",
    )

    def __init__(
        self,
        genesis_hash: bytes,
        options: RangeOptions,
        counters: RelayCounters,
        rand: Callable[[int], bytes],
    ) -> None:
        self._options = options
        self._counters = counters
        self._chain = HeadChain(genesis_hash, options.reorg + options.reach)
        self._claims = Claims(options.reach, options.quarantine, rand)
        self._anchor: _Anchor | None = None
        self._tries = 0  # to get the header of the anchor
        self._polling = False
        self._due = 0.0
        self._now = 0.0
        self._depth = 0
        self._doubts = 0
        self._log = structlog.get_logger("relay.relaying")
        self.current = BlockRange(0, 0, genesis_hash)
        self.source: HeaderSource | None = None
        self.on_blocks: Callable[[Sequence[Header]], None] | None = None

    @property
    def head(self) -> Header | None:
        """The header of the latest block; None while it is genesis."""
        return self._chain.header

    # -- what peers and others say ---------------------------------------------------------------------

    def joined(self, peer: RelayPeer) -> None:
        """Take a peer."""
        self._claims.join(peer)
        self._hurry()

    def learn(self, peer: RelayPeer, claim: BlockRange) -> None:
        """Take what a peer says of its range; its former word does not count any more."""
        self._claims.learn(peer, claim)
        self._hurry()

    def left(self, peer: RelayPeer) -> None:
        """Forget a peer; what was confirmed stays until others say otherwise."""
        self._claims.leave(peer)

    def anchor(self, number: int, block_hash: bytes, now: float) -> None:
        """Take the head from somebody who is trusted more than all peers; it holds for a while.

        Args:
            number: of the block.
            block_hash: of it.
            now: monotonic seconds.
        """
        known = self._anchor
        if known is None or known.hash != block_hash:
            self._tries = 0
            self._due = now
        self._anchor = _Anchor(number, block_hash, now + self._options.anchor)

    def _hurry(self) -> None:
        """Look at the next tick: as long as nothing is known, whoever says something new may be the one."""
        if self._chain.header is None:
            self._due = self._now

    def tell(self, peers: Iterable[RelayPeer], now: float) -> int:
        """Send updates to whom they are due; returns to how many."""
        options, latest = self._options, self.current.latest
        told = 0
        for peer in peers:
            news = latest - peer.told_latest
            due = news < 0 or news >= options.step
            if due and peer.version >= _FIRST_VERSION and now - peer.joined_at >= options.quiet:
                peer.told_latest = latest
                update = BlockRangeUpdate(self.current.earliest, latest, self.current.latest_hash)
                peer.session.send(BlockRangeUpdate.CODE, update.encode(peer.version))
                told += 1
        return told

    # -- looking for the head --------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look for news, if it is time. To be called every second or so; now is monotonic seconds."""
        self._now = now
        if self._polling or now < self._due or self.source is None or not self._claims:
            return
        self._due = now + self._options.poll
        anchor = self._fresh_anchor()
        if anchor is not None:
            self._fetch_anchor(anchor)
            return
        candidate = self._claims.candidate(self._now)
        if candidate is not None and self._is_to_be_fetched(candidate):
            question = Question(candidate.latest_hash, 1)
            # Noted now: by the time that nobody had the block, a liar says something else.
            behind = self._claims.who_name(candidate.latest_hash)
            self._ask(question, candidate.latest, partial(self._candidate_answered, candidate, behind))
        else:
            self._follow()

    def _fresh_anchor(self) -> _Anchor | None:
        """Return the anchor while it holds and is worth a try: if it is another chain's, nobody has it."""
        anchor = self._anchor
        if anchor is None or self._now >= anchor.until or self._tries >= self._options.doubts:
            return None
        return anchor

    def _fetch_anchor(self, anchor: _Anchor) -> None:
        if anchor.hash == self._chain.hash:
            return
        gap = anchor.number - self._chain.number
        amount = gap + 1 if 0 < gap <= self._options.reach else 1
        self._tries += 1
        question = Question(anchor.hash, amount, reverse=True)
        self._ask(question, None, partial(self._anchor_answered, anchor), alone=True)

    def _anchor_answered(self, anchor: _Anchor, run: Sequence[Header]) -> None:
        if run and run[-1].number == anchor.number:
            self._tries = 0
            self._adopt(run)
        elif self._tries >= self._options.doubts:
            self._log.warning("no peer has the anchor's block", block=anchor.number)

    def _is_to_be_fetched(self, candidate: BlockRange) -> bool:
        chain = self._chain
        if candidate.latest_hash == chain.hash_at(candidate.latest):
            return False
        far = candidate.latest > chain.number + self._options.reach
        return far or (chain.number == 0 and candidate.latest > 0) or self._doubts >= self._options.doubts

    def _candidate_answered(
        self, candidate: BlockRange, behind: Sequence[RelayPeer], run: Sequence[Header]
    ) -> None:
        if run and run[0].number == candidate.latest:
            self._doubts = self._depth = 0
            self._adopt(run)
            self._due = self._now  # it was told some blocks ago
            return
        self._counters.range_refused += 1
        self._claims.mute(behind, self._now + self._options.retry)
        self._due = self._now

    def _follow(self) -> None:
        """Ask for what comes after the head, from some blocks below it on while it is being walked back."""
        origin = max(self._chain.number - self._depth, 0)
        question = Question(origin, self._chain.number - origin + 1 + self._options.reach)
        self._ask(question, self._chain.number, self._followed)

    def _followed(self, run: Sequence[Header]) -> None:
        chain, options = self._chain, self._options
        known = chain.hash_at(run[0].number) if run else None
        if known is not None and known != run[0].hash and self._depth < options.reorg:
            self._go_deeper()
            self._due = self._now
        elif run and (run[-1].number >= chain.number or chain.contradicted_by(run)):
            self._take(run)
        else:
            self._doubt(run)

    def _take(self, run: Sequence[Header]) -> None:
        """Take a run that goes on from our head, or takes another way."""
        chain = self._chain
        self._doubts = self._depth = 0
        if chain.contradicted_by(run):
            self._counters.reorgs += 1
            self._log.info("chain took another way", block=run[-1].number, was=chain.number)
        elif run[-1].number == chain.number:
            return
        self._adopt(run)

    def _doubt(self, run: Sequence[Header]) -> None:
        """Nobody had our head. When it stays so, the chain ends where peers say: somebody set it back."""
        self._doubts += 1
        if run and self._doubts >= self._options.doubts:
            self._doubts = self._depth = 0
            self._adopt(run)
        elif not run:
            self._go_deeper()

    def _go_deeper(self) -> None:
        """Begin further below the head the next time, or at the head again after the lowest."""
        lowest = self._options.reorg
        self._depth = 0 if self._depth >= lowest else min(max(_FIRST_STEP, 2 * self._depth), lowest)

    def _adopt(self, run: Sequence[Header]) -> None:
        first = self._chain.header is None
        new = self._chain.adopt(run)
        self._counters.heads += 1
        self._conclude()
        if first:
            self._log.info("head confirmed", block=self._chain.number)
        if self.on_blocks is not None:
            self.on_blocks(new or run[-1:])

    def _conclude(self) -> None:
        chain = self._chain
        earliest = self._claims.earliest(chain.number)
        self.current = BlockRange(
            min(self.current.earliest if earliest is None else earliest, chain.number),
            chain.number,
            chain.hash,
        )

    # -- asking ----------------------------------------------------------------------------------------

    def _ask(
        self,
        question: Question,
        number: int | None,
        then: Callable[[Sequence[Header]], None],
        *,
        alone: bool = False,
    ) -> None:
        """Put a question to peers who may know, and go on with what counts of their answers.

        Args:
            question: for headers.
            number: of a block that they have to be able to have; None: whatever they told.
            then: takes the headers, none where it came to nothing.
            alone: one answer is enough.
        """

        def done(run: Sequence[Header]) -> None:
            self._polling = False
            then(run)

        assert self.source is not None
        self._polling = True
        self._counters.range_polls += 1
        peers = self._claims.witnesses(number, self._now, strangers=alone)[: self._options.attempts]
        Poll(self.source, question, peers, done, alone=alone).start()
