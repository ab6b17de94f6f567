"""Which block stands at which number, and the cache beneath."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.relaying.chain_data.cache import ChainCache, Shelf
from relay.relaying.chain_data.canonical import Canonical
from tests.aids.blocks import chain

MAIN = chain(64)
FORKS = (
    MAIN,
    chain(64, seed=b"one", fork_from=(64,), fork_at=30),
    chain(64, seed=b"two", fork_from=(64,), fork_at=45),
)


def made(count=1000):
    headers = Shelf(1 << 20)
    return Canonical(MAIN[0].hash, headers, count), headers


def put(headers, blocks):
    for block in blocks:
        headers.put(block.hash, block.raw)


def known(canonical, upto=70):
    return {number: found for number in range(upto) if (found := canonical.linked(number)) is not None}


def test_at_first_only_genesis_is_known():
    canonical, _ = made()
    assert known(canonical) == {0: MAIN[0].hash}
    assert canonical.head == 0


def test_blocks_link_downwards_as_they_come_and_at_last_to_genesis():
    canonical, headers = made()
    canonical.confirm(MAIN[20].header)
    assert known(canonical) == {0: MAIN[0].hash, 19: MAIN[19].hash, 20: MAIN[20].hash}
    put(headers, MAIN[5:20])
    canonical.extend()
    assert canonical.floor == 5
    put(headers, MAIN[1:5])
    canonical.extend()
    assert known(canonical) == {block.number: block.hash for block in MAIN[:21]}
    assert canonical.run(range(20, -1, -1)) == [block.hash for block in MAIN[20::-1]]


def test_a_gap_is_closed_by_what_stands_below_it():
    canonical, headers = made()
    put(headers, MAIN[10:20])
    canonical.confirm(MAIN[19].header)
    canonical.confirm(MAIN[30].header)
    assert canonical.floor == 30
    put(headers, MAIN[20:30])
    canonical.extend()
    assert canonical.floor == 10


def test_numbers_vouched_for_stand_where_nothing_links_and_far_below_the_head_only():
    canonical, _ = made()
    canonical.confirm(MAIN[60].header)
    canonical.vouch(3, 1, [block.hash for block in MAIN[3:6]], 20)
    canonical.vouch(45, 1, [MAIN[45].hash], 20)
    assert [canonical.hash_at(number) for number in (3, 5, 6, 45)] == [MAIN[3].hash, MAIN[5].hash, None, None]
    assert canonical.linked(3) is None


def test_the_count_is_bounded_from_below():
    canonical, headers = made(count=10)
    put(headers, MAIN)
    for block in MAIN[1:]:
        canonical.confirm(block.header)
        assert len(canonical) <= 10
    assert canonical.floor == 54
    assert canonical.linked(53) == MAIN[53].hash  # its child names it


@given(
    st.lists(
        st.tuples(st.sampled_from(["confirm", "put"]), st.integers(0, 2), st.integers(1, 63)), max_size=40
    )
)
def test_whatever_comes_what_is_known_is_one_chain_up_to_the_head(story):
    canonical, headers = made(count=25)
    for kind, which, number in story:
        block = FORKS[which][number]
        if kind == "confirm":
            canonical.confirm(block.header)
            head = (which, number)
        else:
            put(headers, FORKS[which][max(0, number - 8) : number])
            canonical.extend()
        if canonical.head:
            right = {each.number: each.hash for each in FORKS[head[0]][: head[1] + 1]}
            assert known(canonical).items() <= right.items()
            assert canonical.linked(canonical.head) == canonical.head_hash == right[head[1]]
            assert canonical.run(range(canonical.floor, canonical.head + 1)) is not None
        assert len(canonical) <= 25


def test_a_shelf_keeps_what_was_used_last_within_its_budget():
    shelf = Shelf(4 * 400)
    for number in range(4):
        shelf.put(bytes([number]), bytes(100))
    assert len(shelf) == 4
    shelf.get(b"\x00")
    assert shelf.get_all([b"\x01", b"\x02"]) == [bytes(100)] * 2
    assert shelf.get_all([b"\x01", b"\x09"]) is None
    shelf.put(b"\x04", bytes(100))
    assert b"\x03" not in shelf
    assert b"\x00" in shelf
    shelf.put(b"\x05", bytes(4 * 400))
    assert b"\x05" not in shelf
    assert (shelf.size, shelf.evicted) == (1600, 1)


def test_the_shares_of_the_cache_are_its_budget():
    cache = ChainCache(16_000)
    for kind, shelf in cache.by_kind.items():
        for number in range(100):
            shelf.put(bytes([number]), kind.value.encode())
    assert 12_000 < cache.size <= 16_000
