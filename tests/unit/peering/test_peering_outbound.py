"""Places of dialed peers under attack: shares of sources, anchors, and the moment when Tor is back."""

from __future__ import annotations

import pytest

from relay.peering.anchors import AnchorOptions, Anchors, choose_anchors
from relay.primitives.errors import ProxyFailed
from relay.primitives.keys import PublicKey
from relay.primitives.node import Node
from relay.transports.policy import Mode, Way
from tests.aids.dialing import ONION, Bench, Source, node_of
from tests.aids.peering import connect, key_of, make_end


class Named(Source):
    """A source that says who it is."""

    def __init__(self, name: str, *numbers: int) -> None:
        super().__init__([node_of(number) for number in numbers])
        self.name = name
        self.named = {node.public_key for node in self.nodes}

    def why(self, public_key: PublicKey) -> str | None:
        return f"{self.name}: met on a walk" if public_key in self.named else None


def bench_with(*sources: Named, max_peers: int = 24, **options: float) -> Bench:
    bench = Bench(max_peers=max_peers, **options)
    for source in sources:
        for node in source.nodes:
            number = next(each for each in range(200) if key_of(each).public_key == node.public_key)
            bench.other(number)
        bench.scheduler.add_source(source)
    return bench


def dialed_by(bench: Bench, source: Named) -> int:
    return sum(session.public_key in source.named for session in bench.end.peers.sessions())


class TestShares:
    """Eight places for dialed peers."""

    async def test_one_source_gets_half_while_others_bring_peers(self) -> None:
        flood, other = Named("onion", *range(10, 60)), Named("dns", 60)
        bench = bench_with(flood, other)
        async with bench.running():
            for _ in range(30):
                await bench.after(10)
            assert dialed_by(bench, flood) == 4
            assert dialed_by(bench, other) == 1

    async def test_others_have_a_while_to_bring_somebody(self) -> None:
        flood = Named("onion", *range(10, 60))
        bench = bench_with(flood)
        async with bench.running():
            assert await bench.after(100) == 0
            assert dialed_by(bench, flood) == 4
            await bench.after(20)
            assert bench.end.peers.dialed >= 8, "nobody else has come: one source must do"

    async def test_places_of_a_source_are_given_again(self) -> None:
        flood, other = Named("onion", *range(10, 60)), Named("dns", 60)
        bench = bench_with(flood, other)
        async with bench.running():
            gone = next(each for each in bench.end.peers.sessions() if each.public_key in flood.named)
            gone.disconnect()
            await bench.settle()
            assert bench.end.peers.get(gone.public_key) is None  # type: ignore[arg-type]
            assert dialed_by(bench, flood) == 4

    async def test_sets_too_small_to_share_are_not_shared(self) -> None:
        flood = Named("onion", *range(10, 60))
        bench = bench_with(flood, max_peers=9)
        async with bench.running():
            assert dialed_by(bench, flood) >= 3

    async def test_what_waits_for_its_share_is_bounded(self) -> None:
        flood = Named("onion", *range(10, 180))
        bench = bench_with(flood, Named("dns", 5))
        async with bench.running():
            for _ in range(20):
                await bench.after(1)
            assert len(bench.scheduler._aside) <= 64


def stranger_to_all(_: PublicKey) -> None:
    """Nobody is known."""


class TestAnchors:
    async def test_the_longest_dialed_are_chosen(self) -> None:
        bench = Bench()
        for number in range(1, 8):
            bench.other(number)
        bench.scheduler.add_static(node_of(7))
        async with bench.running():
            for number in range(1, 7):
                bench.scheduler.add_source(Named("v5", number))
                await bench.after(10)
            stranger = connect(make_end(key_of(50), bench.loop), bench.end)
            bench.dialer.links.append(stranger)
            await bench.settle()
            now, sessions = bench.loop.time, bench.end.peers.sessions()
            assert len(sessions) == 8
            assert choose_anchors(sessions, now, stranger_to_all) == [], "for ten minutes nobody is"
            chosen = choose_anchors(sessions, now + 600, stranger_to_all)
            assert [node.public_key for node in chosen] == [key_of(each).public_key for each in range(1, 5)]
            assert chosen[0].endpoints == node_of(1).endpoints

    async def test_acquaintances_come_first_also_those_that_are_away(self) -> None:
        bench = Bench()
        for number in range(1, 6):
            bench.other(number)
        bench.scheduler.add_source(Named("v5", *range(1, 6)))
        seen = {key_of(number).public_key: when for number, when in ((5, 7.0), (3, 9.0), (40, 1.0))}
        before = [node_of(41), node_of(40)]
        async with bench.running():
            sessions = bench.end.peers.sessions()
            chosen = choose_anchors(sessions, bench.loop.time + 600, seen.get, before)
        assert [node.public_key for node in chosen[:3]] == [key_of(each).public_key for each in (5, 3, 40)]
        assert chosen[3].public_key in {key_of(each).public_key for each in (1, 2, 4)}

    async def test_anchors_are_dialed_first_and_their_places_held(self) -> None:
        flood = Named("onion", *range(10, 60))
        bench = bench_with(flood)
        nodes = [node_of(1, ONION), node_of(2)]
        bench.scheduler.anchors = Anchors(nodes, bench.scheduler.is_connected, bench.loop.now)
        async with bench.running():
            assert bench.dialer.dialed()[:2] == [node.public_key for node in nodes]
            for _ in range(16):
                await bench.after(10)
                assert bench.end.peers.dialed <= 6
            assert bench.scheduler.anchors.held == 2, "they do not answer so far"
            bench.other(1)
            await bench.after(20)
            assert bench.scheduler.anchors.held == 0
            await bench.after(10)
            assert bench.end.peers.dialed >= 8, "and then no longer"

    async def test_an_anchor_that_failed_is_tried_again_while_held(self) -> None:
        bench = Bench()
        bench.dialer.errors[key_of(1).public_key] = ProxyFailed("no descriptor")
        bench.scheduler.anchors = Anchors([node_of(1, ONION)], bench.scheduler.is_connected, bench.loop.now)
        async with bench.running():
            assert len(bench.dialer.plans) == 1
            bench.other(1)
            del bench.dialer.errors[key_of(1).public_key]
            assert await bench.after(60) == 1
            assert bench.end.peers.dialed == 1
            assert bench.end.peers.sessions()[0].why == "anchor"
            assert bench.scheduler.anchors.held == 0

    async def test_no_more_than_the_options_say(self) -> None:
        anchors = Anchors([node_of(number) for number in range(9)], lambda _: False, lambda: 0.0)
        assert len(anchors.nodes) == AnchorOptions().count == anchors.held
        assert len(anchors.take(2)) == 2
        assert anchors.take(2) == (), "not again at once"


class TestTorIsBack:
    """Partition by dead proxies: the SOCKS port refuses for a while, then answers."""

    @staticmethod
    async def outage(bench: Bench, nodes: list[Node], seconds: float) -> None:
        for node in nodes:
            bench.dialer.errors[node.public_key] = ProxyFailed("the proxy is gone")
        bench.scheduler.replace_static(nodes)
        await bench.after(seconds)
        bench.dialer.errors.clear()

    async def test_nodes_are_dialed_one_after_the_other(self) -> None:
        bench = Bench(Mode.ONLY_ONION, max_pending=200)
        nodes = [node_of(number, ONION) for number in range(1, 41)]
        async with bench.running():
            await self.outage(bench, nodes, 60.0)
            bench.scheduler.network_back()
            await bench.settle()
            assert 1 <= bench.scheduler.dialing <= 2, "not all at once"
            begun = [await bench.after(0.25) for _ in range(40)]
            assert max(begun) <= 2
            assert bench.scheduler.dialing == 40, "but all within ten seconds"

    async def test_two_relays_come_back_in_orders_of_their_own(self) -> None:
        orders = []
        for seed in (b"\x05", b"\x9b"):
            bench = Bench(Mode.ONLY_ONION)
            stream = iter(range(10**6))
            bench.scheduler._rand = lambda count, seed=seed, stream=stream: _mixed(seed, next(stream), count)
            nodes = [node_of(number, ONION) for number in range(1, 11)]
            async with bench.running():
                await self.outage(bench, nodes, 60.0)
                before = len(bench.dialer.plans)
                bench.scheduler.network_back()
                for _ in range(12):
                    await bench.after(0.25)
                orders.append(bench.dialer.dialed()[before:])
        assert sorted(orders[0]) == sorted(orders[1])
        assert orders[0] != orders[1]

    @pytest.mark.parametrize("mode", [Mode.DEFAULT, Mode.PREFER_TOR, Mode.ONLY_ONION])
    async def test_no_retry_leaves_by_another_way(self, mode: Mode) -> None:
        """Dual-stack nodes whose first way was the onion: an outage never moves them to the open internet."""
        bench = Bench(mode)
        nodes = [node_of(number, ONION) for number in range(1, 6)]
        async with bench.running():
            await self.outage(bench, nodes, 60.0)
            for number in range(1, 6):
                bench.scheduler.add_static(node_of(number, "8.8.4.4"), "file")
            for _ in range(20):
                await bench.after(60)
            ways = {target.way for plan in bench.dialer.plans for target in plan.targets}
            assert ways == {Way.TOR_ONION}

    async def test_a_dial_under_way_is_not_begun_twice(self) -> None:
        bench = Bench()
        async with bench.running():
            bench.scheduler.add_static(node_of(1))
            await bench.settle()
            dials = len(bench.dialer.plans)
            bench.scheduler.network_back()
            await bench.settle()
            assert len(bench.dialer.plans) == dials == 1


def _mixed(seed: bytes, number: int, count: int) -> bytes:
    from hashlib import shake_128

    return shake_128(seed + number.to_bytes(4, "big")).digest(count)
