from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.relaying.head import HeadChain
from tests.aids.chain_headers import made_chain

MAIN = made_chain(60)
FORK = MAIN[:20] + made_chain(30, MAIN[19], b"fork")


def chain_with(*runs, count=50):
    chain = HeadChain(MAIN[0].hash, count)
    for run in runs:
        chain.adopt(run)
    return chain


def test_it_begins_with_genesis():
    chain = chain_with()
    assert (chain.number, chain.hash, chain.header, len(chain)) == (0, MAIN[0].hash, None, 1)


def test_blocks_that_link_are_added():
    chain = chain_with()
    assert chain.adopt(MAIN[:5]) == MAIN[1:5]
    assert chain.adopt(MAIN[5:9]) == MAIN[5:9]
    assert chain.adopt(MAIN[7:11]) == MAIN[9:11]
    assert (chain.number, chain.header, len(chain)) == (10, MAIN[10], 11)


def test_a_block_that_does_not_link_begins_anew():
    chain = chain_with(MAIN[:5])
    assert chain.adopt([MAIN[40]]) == [MAIN[40]]
    assert (chain.number, len(chain), chain.hash_at(4)) == (40, 1, None)


def test_another_branch_takes_the_place_of_what_was_there():
    chain = chain_with(MAIN[:30])
    assert not chain.contradicted_by(MAIN[10:40])
    assert chain.contradicted_by(FORK[18:22])
    assert chain.adopt(FORK[18:25]) == FORK[20:25]
    assert [chain.hash_at(number) for number in range(31)] == [each.hash for each in FORK[:25]] + [None] * 6


def test_a_lower_block_may_become_the_head():
    chain = chain_with(MAIN[:30])
    assert chain.adopt([MAIN[9]]) == []
    assert (chain.number, chain.hash, len(chain)) == (9, MAIN[9].hash, 10)


@given(
    st.lists(st.tuples(st.sampled_from([MAIN, FORK]), st.integers(0, 49), st.integers(1, 30)), max_size=12),
    st.integers(1, 20),
)
def test_whatever_is_adopted_it_is_one_linked_and_bounded_chain(runs, count):
    chain = HeadChain(MAIN[0].hash, count)
    known = {each.hash: each for each in MAIN + FORK}
    for source, start, length in runs:
        run = source[start : start + length] or source[-1:]
        chain.adopt(run)
        assert chain.header is run[-1]
        assert (chain.number, chain.hash) == (run[-1].number, run[-1].hash)
        assert 1 <= len(chain) <= count
        hashes = [chain.hash_at(chain.number - depth) for depth in range(len(chain))]
        for child, parent in pairwise(hashes):
            assert known[child].parent_hash == parent
