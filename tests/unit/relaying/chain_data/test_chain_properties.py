"""Whatever order of answers, failures, lies, cancellations and disconnects: one answer to each request."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocols.eth import messages as m
from tests.aids.blocks import chain
from tests.aids.chain_peers import World, flip

BLOCKS = chain(40)
FORK = chain(40, seed=b"fork", fork_from=(40,), fork_at=20)
UNKNOWN = b"\x77" * 32
HASHES = [block.hash for block in BLOCKS] + [UNKNOWN, FORK[30].hash]

blocks = st.integers(0, 11) | st.integers(0, 11) | st.integers(0, len(HASHES) - 1)  # positions in HASHES
groups = st.lists(blocks, max_size=6)
origins = blocks.map(lambda at: ("hash", at)) | st.tuples(
    st.just("number"), st.integers(0, 45) | st.just(2**64 - 1)
)
wishes = st.one_of(
    st.tuples(
        st.just("headers"),
        origins,
        st.sampled_from([0, 1, 3, 10, 2**64 - 1]),
        st.sampled_from([0, 0, 1, 5, 2**64 - 1]),
        st.booleans(),
    ),
    st.tuples(st.just("bodies"), groups),
    st.tuples(st.just("receipts"), groups, st.sampled_from([0, 0, 1, 9])),
    st.tuples(st.just("access lists"), groups),
)


def request_of(request_id, kind, what, *more):
    if kind == "headers":
        unit, value = what
        return m.GetBlockHeaders(request_id, HASHES[value] if unit == "hash" else value, *more)
    kinds = {"bodies": m.GetBlockBodies, "receipts": m.GetReceipts, "access lists": m.GetBlockAccessLists}
    return kinds[kind](request_id, tuple(HASHES[at] for at in what), *more)


def check_answer(request, answer, by_hash):
    """Everything in an answer is right, whoever it came from."""
    if isinstance(answer, m.BlockHeaders):
        if isinstance(request.origin, bytes) and answer.headers:
            assert by_hash[request.origin].raw == answer.headers[0]
        assert set(answer.headers) <= {block.raw for block in by_hash.values()}
        assert len(answer.headers) <= request.amount
    elif isinstance(answer, m.BlockBodies):
        expected = [by_hash[each].body if each in by_hash else None for each in request.hashes]
        assert list(answer.bodies) == expected[: len(answer.bodies)]
    elif isinstance(answer, m.BlockAccessLists):
        assert len(answer.access_lists) == len(request.hashes)
        for each, found in zip(request.hashes, answer.access_lists, strict=True):
            assert found in (b"\x80", by_hash[each].access_list if each in by_hash else b"\x80")
    else:
        for number, (each, found) in enumerate(zip(request.hashes, answer.blocks, strict=False)):
            if number or not request.first_index:
                assert found == by_hash[each].receipts


ANSWER_OF = {0x03: m.BlockHeaders, 0x05: m.BlockBodies, 0x0F: m.Receipts, 0x12: m.BlockAccessLists}

answers = st.tuples(
    st.just("answer"),
    st.integers(0, 3),
    st.sampled_from(["well", "well", "well", "well", "short", "empty", "lie", "twice"]),
)
steps = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 2), wishes),
    answers,
    answers,
    answers,
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.3, 0.7, 1.4, 4.0, 20.0]), st.none()),
    st.tuples(st.just("leave"), st.integers(0, 20), st.none()),
    st.tuples(st.just("join"), st.booleans(), st.sampled_from([68, 69, 70, 71])),
)


class Story:
    def __init__(self, cost):
        self.world = World(BLOCKS, cost=cost, per_upstream=2, requester_active=2, requester_queue=4, queue=3)
        self.by_hash = {block.hash: block for block in (*BLOCKS, *FORK)}
        self.askers = [self.world.join(71, inbound=True) for _ in range(3)]
        self.sources = [self.world.join(71, BLOCKS, trusted=True), self.world.join(70, BLOCKS)]
        self.pending = {asker: [] for asker in self.askers}
        self.asked = 0
        self.held = {}  # questions that a source has not answered
        self.collect()

    def collect(self):
        """See what went out: no more answers than requests, no question twice at once to one peer."""
        world = self.world
        for source in self.sources:
            self.held.setdefault(source, []).extend(source.asked())
            live = {ask.query for ask in self.asks(source) if not ask.late}
            assert len(live) == sum(not ask.late for ask in self.asks(source))
            assert len(self.asks(source)) <= world.proxy.options.owed + world.proxy.options.per_upstream
        for asker in self.askers:
            for answer in asker.answers():
                self.take(asker, answer)
        questions = Counter(
            (ask.kind, each)
            for upstream in world.proxy.upstreams
            for ask in upstream.asks.values()
            if not ask.late and hasattr(ask.query, "hashes")
            for each in ask.query.hashes
        )
        assert all(count == 1 for count in questions.values())

    def asks(self, source):
        upstream = self.world.proxy.upstreams.get(source.relay)
        return [] if upstream is None else list(upstream.asks.values())

    def take(self, asker, answer):
        found = next(each for each in self.pending[asker] if each.request_id == answer.request_id)
        assert isinstance(answer, ANSWER_OF[found.CODE])
        check_answer(found, answer, self.by_hash)
        self.pending[asker].remove(found)

    def ask(self, number, wish):
        asker = self.askers[number]
        if not asker.relay.gone:
            self.asked += 1
            request = request_of(self.asked, *wish)
            self.pending[asker].append(request)
            asker.ask(request)

    def answer(self, number, how):
        asked = [each for each in self.sources if self.held.get(each) and not each.session.ended]
        if not asked:
            return
        source = asked[number % len(asked)]
        request = self.held[source].pop(0)
        answer = source.source.answer(request, source.relay.version, 1 if how == "short" else None)
        if how == "empty":
            answer = source.source.answer(request, source.relay.version, 0)
            if isinstance(answer, m.BlockHeaders):
                answer = m.BlockHeaders(answer.request_id, ())
        by_number = isinstance(answer, m.BlockHeaders) and isinstance(request.origin, int)
        if by_number and source.session.trusted:
            how = "well"  # what it says of a number above our head is believed
        if how == "lie" and any(
            len(each) > 1
            for each in next(
                getattr(answer, name)
                for name in answer.__slots__
                if name in ("headers", "bodies", "blocks", "access_lists")
            )
        ):
            answer = flip(answer, bit=1 << self.sources.index(source))  # no two liars agree
        source.say(answer)
        if how == "twice" and not source.relay.gone:
            source.say(answer)
            assert source.session.ended

    def leave(self, number):
        everybody = [*self.askers, *self.sources]
        if number < len(everybody) and not everybody[number].relay.gone:
            everybody[number].leave()
            if everybody[number] in self.pending:
                everybody[number].answers()
                self.pending[everybody[number]] = []

    def join(self, trusted, version):
        if len(self.sources) < 4:
            self.sources.append(self.world.join(version, BLOCKS, trusted=trusted))

    def play(self, step):
        kind, *arguments = step
        if kind == "wait":
            self.world.loop.advance(arguments[0])
        elif kind == "leave":
            self.leave(arguments[0])
        else:
            getattr(self, kind)(*arguments)
        self.collect()
        self.world.loop.settle()
        self.collect()

    def end(self):
        """When patience is over, nobody waits and nothing is kept."""
        self.world.loop.advance(10.0)
        self.collect()
        assert not any(self.pending.values())
        assert self.world.proxy.waiting == 0
        self.world.loop.advance(400.0)
        self.collect()
        assert self.world.idle
        assert not any(self.asks(source) for source in self.sources)


@settings(max_examples=150)
@given(st.lists(steps, min_size=8, max_size=60), st.sampled_from([0.0, 0.002]))
def test_each_request_gets_one_right_answer_unless_its_peer_leaves(story, cost):
    told = Story(cost)
    for step in story:
        told.play(step)
    told.end()
