"""The address book: what is believed, who is alive, what is told of."""

from __future__ import annotations

from relay.kubernetes.book import SUMMARY, AddressBook, Conflict
from relay.kubernetes.following import SyncClock
from relay.primitives.keys import NodeKey
from tests.aids.kubernetes import CLUSTER_KEY, Pod, pod

ME, BOB, CAROL = pod("relay-0"), pod("relay-1"), pod("relay-2")


class Watched:
    def __init__(self) -> None:
        self.rejected: list[tuple[str, str]] = []
        self.conflicts: list[Conflict] = []
        self.book = AddressBook(
            ME.place, ME.node.public_key, CLUSTER_KEY, stale_after=100.0,
            on_rejected=lambda name, why: self.rejected.append((name, why)),
            on_conflict=self.conflicts.append,
        )  # fmt: skip

    def names(self, now: float = 0.0) -> list[str]:
        return [entry.place.pod for entry in self.book.peers(now)]


def texts(*pods: Pod, sequence: int = 1) -> dict[str, str]:
    return {each.name: each.text(sequence) for each in pods}


def test_others_are_peers_and_we_are_not() -> None:
    watched = Watched()
    watched.book.replace("map", texts(CAROL, ME, BOB), 0.0)
    assert watched.names() == ["relay-1", "relay-2"]
    assert watched.book.counts(0.0).fresh == 2
    assert watched.book.size == 3


def test_an_entry_grows_stale_without_changes_and_comes_back_with_one() -> None:
    watched = Watched()
    watched.book.replace("map", texts(BOB), 0.0)
    assert watched.names(100.0) == ["relay-1"]
    assert watched.names(100.1) == []
    assert watched.book.counts(100.1).stale == 1
    watched.book.replace("map", texts(BOB, sequence=2), 150.0)
    assert watched.names(250.0) == ["relay-1"]


def test_the_same_entry_again_is_no_sign_of_life() -> None:
    watched = Watched()
    for now in range(0, 200, 20):
        watched.book.replace("map", texts(BOB), float(now))
    assert watched.names(180.0) == []


def test_timestamps_of_others_count_for_nothing() -> None:
    """A pod whose clock is years off is as alive as any other."""
    watched = Watched()
    assert "2026-01-01" in BOB.text()
    watched.book.replace("map", texts(BOB), 5.0)
    assert watched.names(6.0) == ["relay-1"]


def test_a_book_that_is_emptied_keeps_its_peers_until_they_are_old() -> None:
    watched = Watched()
    watched.book.replace("map", texts(BOB, CAROL), 0.0)
    watched.book.replace("map", {}, 10.0)
    assert watched.names(90.0) == ["relay-1", "relay-2"]
    watched.book.forget(101.0)
    assert watched.names(101.0) == []
    assert watched.book.size == 0


def test_an_entry_edited_into_nonsense_leaves_the_one_before_in_force() -> None:
    watched = Watched()
    watched.book.replace("map", texts(BOB), 0.0)
    for nonsense in ("", "{}", "[]", "hello", BOB.text()[:-1], "\x00" * 50, "{" * 9999):
        watched.book.replace("map", {"relay-1": nonsense}, 1.0)
        assert watched.names(50.0) == ["relay-1"]
    assert watched.book.counts(50.0).rejected == 1
    assert watched.book.rejections == 7
    watched.book.replace("map", texts(BOB, sequence=2), 60.0)
    assert watched.book.counts(60.0).rejected == 0


def test_an_unchanged_text_is_not_checked_twice() -> None:
    watched = Watched()
    for _ in range(5):
        watched.book.replace("map", {"relay-1": "nonsense"}, 0.0)
    assert watched.book.rejections == 1


def test_a_replayed_entry_is_refused() -> None:
    watched = Watched()
    watched.book.replace("map", texts(BOB, sequence=9), 0.0)
    watched.book.replace("map", texts(BOB, sequence=3), 90.0)
    assert "older than 9" in watched.rejected[0][1]
    assert watched.names(101.0) == []


def test_a_pod_that_lost_its_volume_gets_its_new_identity_at_once() -> None:
    watched = Watched()
    watched.book.replace("map", texts(BOB, sequence=900), 0.0)
    fresh = Pod("relay-1", CAROL.node, CAROL.onion)
    watched.book.replace("map", {"relay-1": fresh.text(1)}, 10.0)
    assert [entry.onion for entry in watched.book.peers(10.0)] == [CAROL.onion.address]
    assert watched.conflicts == []


def test_a_copied_entry_is_refused_under_the_copiers_name() -> None:
    watched = Watched()
    watched.book.replace("map", {"relay-1": BOB.text(), "relay-2": BOB.text()}, 0.0)
    assert watched.names() == ["relay-1"]
    assert watched.rejected[0][0] == "relay-2"
    assert "copied" in watched.rejected[0][1]


def test_two_pods_with_the_same_keys_are_told_of_once() -> None:
    watched = Watched()
    twin = Pod("relay-2", BOB.node, BOB.onion)
    for sequence in (1, 2, 3):
        watched.book.replace("map", texts(BOB, twin, sequence=sequence), 0.0)
    assert len(watched.names()) == 1
    assert watched.book.conflicts == 1
    assert "relay-1 and relay-2 have the same keys" in watched.conflicts[0].words
    assert not watched.conflicts[0].own


def test_another_pod_with_our_own_keys_is_told_of_and_never_dialed() -> None:
    watched = Watched()
    twin = Pod("relay-2", ME.node, ME.onion)
    watched.book.replace("map", texts(ME, twin), 0.0)
    assert watched.names() == []
    assert watched.conflicts[0].own
    assert "share a volume" in watched.conflicts[0].words


def test_two_nodes_of_one_onion_are_a_conflict_too() -> None:
    watched = Watched()
    other = Pod("relay-2", NodeKey(b"\x01" * 32), BOB.onion)
    watched.book.replace("map", texts(BOB, other), 0.0)
    assert watched.book.conflicts == 1


def test_both_sources_are_one_book() -> None:
    watched = Watched()
    watched.book.replace("map", {"relay-1": BOB.text(3), "relay-2": f'{SUMMARY}"lease/x"}}'}, 0.0)
    watched.book.put("objects", "relay-2", CAROL.text(1), 0.0)
    watched.book.put("objects", "relay-1", BOB.text(3), 0.0)
    assert watched.names() == ["relay-1", "relay-2"]
    assert watched.rejected == []
    watched.book.remove("objects", "relay-2")
    assert watched.names() == ["relay-1", "relay-2"]


def test_a_summary_alone_makes_no_peer() -> None:
    watched = Watched()
    watched.book.replace("map", {"relay-2": f'{SUMMARY}"lease/x","onion":"{CAROL.onion.address}"}}'}, 0.0)
    assert watched.names() == []
    assert watched.rejected == []


def test_a_huge_book_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr("relay.kubernetes.book.MAX_ENTRIES", 10)
    watched = Watched()
    watched.book.replace("map", {f"x-{number}": "nonsense" for number in range(50)}, 0.0)
    assert watched.book.counts(0.0).rejected == 10
    assert any("more than 10 entries" in why for _, why in watched.rejected)


def test_our_highest_sequence_in_the_book_is_known() -> None:
    watched = Watched()
    assert watched.book.sequence() == 0
    watched.book.replace("map", texts(ME, sequence=41), 0.0)
    assert watched.book.sequence() == 41
    other = Pod("relay-0", BOB.node, BOB.onion)
    watched.book.replace("map", texts(other, sequence=77), 0.0)
    assert watched.book.sequence() == 0


def test_the_clock_of_staleness_stands_still_while_nothing_can_be_seen() -> None:
    now = [1000.0]
    clock = SyncClock(lambda: now[0])
    assert (clock(), clock.running) == (0.0, False)
    clock.run(True)
    now[0] += 50
    clock.run(True)
    assert clock() == 50.0
    clock.run(False)
    now[0] += 600  # the API server is away for ten minutes
    assert clock() == 50.0
    clock.run(True)
    now[0] += 1
    assert clock() == 51.0
