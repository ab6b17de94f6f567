"""Who gives way to a newcomer when all places for inbound peers are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.peering import eviction
from relay.peering.acquaintance import LONG, MAX_AGE, Acquaintances
from relay.peering.eviction import Candidate, Merit, Stranger, choose, network_group
from relay.peering.options import EvictionOptions, PeeringOptions
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.keys import PublicKey
from relay.protocols.devp2p.messages import DisconnectReason
from relay.transports.listener import Label
from tests.aids.peering import End, Link, connect, key_of, make_end, settle

SECRET = b"s" * 16


def candidate(number: int, **how: Any) -> Candidate:
    """Peer `number` joined at that second."""
    how = {"joined_at": float(number), "network": Network.ONION} | how
    return Candidate(f"peer {number}", **how)  # type: ignore[arg-type]


def chosen(*candidates: Candidate, quota: int = 1) -> object:
    found = choose(candidates, quota, SECRET)
    return found and found.session


class TestChoice:
    def test_among_equals_the_youngest_of_the_younger_half_goes(self) -> None:
        assert chosen(*map(candidate, range(6))) == "peer 5"

    def test_a_single_peer_is_not_old_enough_to_stay(self) -> None:
        assert chosen(candidate(1)) == "peer 1"
        assert chosen() is None

    @pytest.mark.parametrize(
        "worth",
        [
            {"merit": Merit(included=0.5)},
            {"merit": Merit(brought=3)},
            {"first_seen": 1e9},
            {"introducer": "dns"},
            {"group": "ipv4:0808", "network": Network.IPV4},
        ],
    )
    def test_each_measure_keeps_who_has_it(self, worth: dict[str, Any]) -> None:
        others = [candidate(number) for number in range(5)]
        assert chosen(*others, candidate(9, **worth)) == "peer 4"
        if "merit" not in worth and "group" not in worth:  # those count even where none is kept for them
            assert chosen(*others, candidate(9, **worth), quota=0) == "peer 9"

    def test_the_first_seen_of_those_known_is_kept(self) -> None:
        known = [candidate(number, first_seen=1e9 - number) for number in range(5, 9)]
        assert chosen(*map(candidate, range(2)), *known) == "peer 7", "8 was seen first of all"

    def test_who_brings_what_no_block_takes_goes_before_who_is_of_use(self) -> None:
        useful = [candidate(number, merit=Merit(0.1 * number, 1)) for number in range(10, 20)]
        junk = [candidate(number, merit=Merit(0.0, 1000)) for number in range(30, 33)]
        assert chosen(*useful, *junk) == "peer 32"

    def test_the_least_useful_goes_when_all_are_of_use(self) -> None:
        useful = [candidate(number, merit=Merit(1.0 + number % 7, 1)) for number in range(8)]
        assert chosen(*useful) == "peer 7"

    def test_half_of_the_rest_stays_by_age_whatever_else(self) -> None:
        old = [candidate(number) for number in range(4)]
        young = [candidate(number, merit=Merit(float(number), 1)) for number in range(10, 14)]
        assert chosen(*old, *young, quota=0) == "peer 10", "the least useful of the younger half"

    def test_the_largest_group_gives_way(self) -> None:
        crowd = [candidate(number, group="ipv4:0101", network=Network.IPV4) for number in range(10, 22, 2)]
        others = [
            candidate(number, group=f"ipv4:02{number}", network=Network.IPV4) for number in range(11, 23, 2)
        ]
        assert chosen(*crowd, *others) == "peer 20", "21 is the youngest, but alone of its group"

    def test_networks_with_few_peers_keep_a_place_for_their_oldest(self) -> None:
        many = [candidate(number, network=Network.IPV4) for number in range(12)]
        few = [candidate(number, network=Network.ONION) for number in (20, 21)]
        survivors: list[Candidate] = [*many, *few]
        while len(survivors) > 4 and (gone := choose(survivors, 0, SECRET)) is not None:
            survivors.remove(gone)
        assert few[0] in survivors

    def test_which_groups_are_kept_is_secret(self) -> None:
        peers = [candidate(number, group=f"ipv4:{number:04x}", network=Network.IPV4) for number in range(40)]
        gone = {choose(peers, 8, bytes((seed,)) * 16) for seed in range(12)}
        assert len(gone) > 1

    @given(
        st.lists(
            st.builds(
                candidate,
                st.integers(0, 50),
                merit=st.builds(Merit, st.sampled_from([0.0, 0.5, 2.0]), st.integers(0, 9)),
                network=st.sampled_from([Network.ONION, Network.IPV4, Network.I2P]),
                group=st.sampled_from([None, "ipv4:0101", "ipv4:0202"]),
                first_seen=st.none() | st.floats(1, 2e9),
                introducer=st.sampled_from([None, "v5", "dns"]),
            ),
            max_size=40,
        ),
        st.integers(0, 6),
    )
    def test_nobody_better_goes_while_somebody_worse_is_there(
        self, candidates: list[Candidate], quota: int
    ) -> None:
        gone = choose(candidates, quota, SECRET)
        if gone is None:
            assert len(candidates) <= 6 * quota + 1
            return
        assert gone in candidates
        most = sorted((each.merit.included for each in candidates), reverse=True)[:quota]
        assert not gone.merit.any or gone.merit.included <= (most[-1] if most else 2.0)


class TestGroups:
    @pytest.mark.parametrize(
        ("host", "group"),
        [
            ("8.8.4.4", "ipv4:0808"),
            ("2001:4860:4860::8888", "ipv6:20014860"),
            ("192.168.1.1", None),
            ("127.0.0.1", None),
            ("a" * 56 + ".onion", None),
        ],
    )
    def test_free_addresses_are_of_no_group(self, host: str, group: str | None) -> None:
        network = Network.ONION if host.endswith("onion") else Endpoint.parse(host, 1).network
        assert network_group(Endpoint(network, host, 1)) == group
        assert network_group(None) is None


class Known(Stranger):
    """A reputation that a test writes."""

    def __init__(self) -> None:
        self.merit: dict[PublicKey, Merit] = {}
        self.seen: dict[PublicKey, float] = {}
        self.wants: set[PublicKey] = set()

    def merits(self) -> Mapping[PublicKey, Merit]:
        return self.merit

    def first_seen(self, public_key: PublicKey) -> float | None:
        return self.seen.get(public_key)

    def wanted(self, public_key: PublicKey) -> bool:
        return public_key in self.wants


class Full:
    """A node whose places for inbound peers are all taken; peer n has key n."""

    def __init__(self, places: int = 8, **options: Any) -> None:
        self.known = Known()
        self.end = make_end(
            key_of(1),
            options=PeeringOptions(
                max_peers=places + 1, dial_ratio=places + 1, eviction=EvictionOptions(**options)
            ),
        )
        self.end.peers.eviction.reputation = self.known
        self.links: list[Link] = []
        for number in range(100, 100 + places):
            assert self.knock(number)
            self.end.loop.time += 1
        assert self.end.peers.inbound == places

    def knock(self, number: int, **how: Any) -> bool:
        dialing: End = make_end(key_of(number), self.end.loop)
        link = connect(dialing, self.end, **({"label": Label.ONION} | how))
        self.links.append(link)
        settle([self.end.loop], self.links[-40:])
        assert self.end.bugs == []
        return self.end.peers.get(key_of(number).public_key) is not None

    def has(self, *numbers: int) -> list[bool]:
        return [self.end.peers.get(key_of(each).public_key) is not None for each in numbers]

    def wait(self, seconds: float = 120.0) -> None:
        self.end.loop.time += seconds


class TestPeerSet:
    def test_full_set_makes_room_and_tells_the_one_that_goes(self) -> None:
        full = Full()
        full.wait()
        assert full.knock(200)
        assert len(full.end.peers) == full.end.peers.inbound == 8
        assert full.has(107) == [False]
        assert full.end.tally.departures[0].text == "gave its place to a newcomer"
        gone = full.links[7].dialer
        assert gone.departure is not None
        assert gone.departure.reason == DisconnectReason.TOO_MANY_PEERS
        assert gone.departure.by_remote

    def test_nobody_goes_in_the_time_of_grace(self) -> None:
        full = Full()
        assert not full.knock(200)
        assert full.end.tally.refusals[-1].category == "too many peers"
        assert full.links[-1].dialer.hello is None, "told before our Hello, as before"

    def test_without_eviction_a_full_set_refuses(self) -> None:
        full = Full(enabled=False)
        full.wait(1e6)
        assert not full.knock(200)

    def test_trusted_wanted_and_dialed_peers_never_go(self) -> None:
        full = Full(places=3)
        full.end.peers.trust(key_of(100).public_key)
        full.known.wants = {key_of(101).public_key, key_of(102).public_key}
        full.wait()
        assert not full.knock(200)
        full.known.wants.clear()
        assert full.knock(201)
        assert full.has(100) == [True]

    def test_trusted_newcomers_push_nobody_out(self) -> None:
        full = Full()
        full.wait()
        full.end.peers.trust(key_of(200).public_key)
        assert full.knock(200)
        assert full.end.peers.inbound == 9

    def test_a_flood_of_strangers_turns_few_places_over_at_a_bounded_rate(self) -> None:
        full = Full(places=16)
        for number in range(100, 116):
            full.known.merit[key_of(number).public_key] = Merit(1.0, 5)
        joined = 0
        for number in range(400):
            full.wait(1.5)
            joined += full.knock(1000 + number)
        # Ten minutes: one stranger (half of the door of two) in each time of grace.
        assert joined <= 10 * 60 / 120 + 1
        assert sum(full.has(*range(100, 116))) >= 14

    def test_acquaintances_pass_the_flood(self) -> None:
        full = Full(places=16)
        full.wait()
        assert full.knock(200)
        assert not full.knock(201), "another stranger"
        full.known.seen[key_of(202).public_key] = 1e9
        assert full.knock(202)
        full.known.seen[key_of(203).public_key] = 1e9
        assert not full.knock(203), "the door is full"
        full.wait()
        assert full.knock(201)

    def test_who_was_sent_away_makes_nobody_give_way_for_an_hour(self) -> None:
        full = Full()
        full.wait()
        assert full.knock(200)
        (gone,) = [number for number in range(100, 108) if full.has(number) == [False]]
        for _ in range(5):
            full.wait(600)
            assert not full.knock(gone)
        full.wait(601)
        assert full.knock(gone)

    def test_a_network_group_that_was_sent_away_rests_too(self) -> None:
        full = Full(places=2)
        addresses = {200: "8.8.1.1", 201: "9.9.1.1", 202: "7.7.1.1"}
        for number, address in addresses.items():
            full.wait()
            assert full.knock(number, label=Label.CLEARNET, address=address)
        (gone,) = [number for number in addresses if full.has(number) == [False]]
        full.wait()
        assert not full.knock(300, label=Label.CLEARNET, address=addresses[gone][:3] + ".2.2")
        assert full.knock(301, label=Label.CLEARNET, address="6.6.2.2")

    def test_one_group_has_one_place_in_the_door(self) -> None:
        full = Full(places=32)
        full.wait()
        assert full.knock(200, label=Label.CLEARNET, address="8.8.1.1")
        assert not full.knock(201, label=Label.CLEARNET, address="8.8.2.2")
        assert full.knock(202, label=Label.CLEARNET, address="7.7.2.2")

    def test_memory_of_who_was_sent_away_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(eviction, "MAX_EXILED", 3)
        full = Full(grace=0.0)
        for number in range(200, 210):
            full.wait(1)
            assert full.knock(number)
        assert len(full.end.peers.eviction._exiled) == 3
        assert full.end.peers.eviction.evicted == 10


class TestAcquaintances:
    def test_long_and_useful_peers_are_remembered(self) -> None:
        full = Full(places=3)
        sessions = full.end.peers.sessions()
        known = Acquaintances()
        known.note(sessions, {}, full.end.loop.time, 1e9)
        assert len(known) == 0, "not long enough"
        now = full.end.loop.time + LONG
        merits = {key_of(100).public_key: Merit(1.0), key_of(101).public_key: Merit(0.0, 99)}
        known.note(sessions, merits, now, 1e9)
        assert list(known.seen) == [key_of(100).public_key]
        assert known.first_seen(key_of(100).public_key) == 1e9 - (now - sessions[0].joined_at)
        assert known.first_seen(key_of(101).public_key) is None

    def test_where_nobody_has_merit_time_is_enough(self) -> None:
        full = Full(places=3)
        known = Acquaintances()
        known.note(full.end.peers.sessions(), {}, full.end.loop.time + LONG, 1e9)
        assert len(known) == 3

    def test_first_time_stays_and_the_old_and_too_many_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("relay.peering.acquaintance.MAX_KEYS", 3)
        old, older, recent = (key_of(number).public_key for number in (1, 2, 100))
        seen = {recent: (5.0, 1e9 - 1), old: (7.0, 1e9 - 10), older: (6.0, 1e9 - MAX_AGE - 1)}
        full = Full(places=2)
        known = Acquaintances(seen)
        known.note(full.end.peers.sessions(), {}, full.end.loop.time + LONG, 1e9)
        assert list(known.seen) == [old, recent, key_of(101).public_key]
        assert known.first_seen(recent) == 5.0
