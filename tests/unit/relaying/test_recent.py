"""The memory of hashes that were dropped."""

from __future__ import annotations

from relay.relaying.recent import RecentHashes


def test_a_hash_survives_one_rotation_and_not_two():
    recent = RecentHashes(limit=3, max_age=100.0)
    recent.add(b"a")
    recent.add(b"b")
    recent.add(b"c")
    assert b"a" in recent
    for name in (b"d", b"e", b"f"):
        recent.add(name)
    assert b"a" not in recent
    assert b"d" in recent


def test_memory_is_bounded_by_two_generations():
    recent = RecentHashes(limit=100, max_age=100.0)
    for n in range(10_000):
        recent.add(b"%d" % n)
    assert len(recent) <= 200


def test_generations_grow_old_by_the_clock():
    recent = RecentHashes(limit=100, max_age=10.0)
    recent.tick(0.0)
    recent.add(b"a")
    recent.tick(9.0)
    assert b"a" in recent
    recent.tick(10.0)
    assert b"a" in recent
    recent.tick(20.0)
    assert b"a" not in recent


def test_a_hash_can_be_forgotten_on_purpose():
    recent = RecentHashes(limit=2, max_age=10.0)
    for name in (b"a", b"b", b"c"):
        recent.add(name)
    recent.discard(b"a")
    recent.discard(b"c")
    assert b"a" not in recent
    assert b"c" not in recent
