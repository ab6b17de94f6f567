"""Dialing: static nodes for ever, candidates while there is room, delays by what went wrong."""

from __future__ import annotations

import asyncio

import pytest

from relay.peering.session import Departure, Phase
from relay.primitives.endpoint import Network
from relay.primitives.errors import ConnectFailed, ProxyFailed, Retry
from relay.protocols.devp2p.messages import DisconnectReason
from relay.transports.policy import Mode
from tests.aids.dialing import ONION, Bench, Source, node_of
from tests.aids.peering import accept_raw, connect, key_of, make_end, settle


class TestStaticNodes:
    async def test_static_node_is_dialed_and_joins(self) -> None:
        bench = Bench()
        bench.other(1)
        bench.scheduler.add_static(node_of(1))
        async with bench.running():
            assert bench.scheduler.static_loaded == bench.scheduler.static_connected == 1
            (session,) = bench.end.peers.sessions()
            assert session.static
            assert not session.inbound
            assert session.endpoint == node_of(1).endpoints[0]
            assert session.label is Network.IPV4
            assert not session.via_tor
            assert bench.end.tally.dials == [("direct", None)]
            assert bench.scheduler.dialing == 0
            assert await bench.after(1000) == 0, "a peer is not dialed again"

    async def test_onion_peer_rides_tor(self) -> None:
        bench = Bench(Mode.ONLY_ONION)
        bench.other(1)
        bench.scheduler.add_static(node_of(1, ONION))
        async with bench.running():
            (session,) = bench.end.peers.sessions()
            assert session.via_tor
            assert session.label is Network.ONION
            assert bench.end.tally.dials == [("tor-onion", None)]

    async def test_peer_that_leaves_is_dialed_again_after_the_history(self) -> None:
        bench = Bench()
        bench.other(1)
        bench.scheduler.add_static(node_of(1))
        async with bench.running():
            bench.loop.time += 100
            bench.end.peers.sessions()[0].disconnect()
            await bench.settle()
            assert len(bench.end.peers) == 1, "the history of the first dial is long over"
            bench.end.peers.sessions()[0].disconnect()
            await bench.settle()
            assert len(bench.end.peers) == 0
            assert await bench.after(34) == 0
            assert await bench.after(2) == 1
            assert bench.scheduler.static_connected == 1

    async def test_onion_and_local_nodes_have_a_short_history(self) -> None:
        bench = Bench()
        bench.scheduler.add_static(node_of(1, ONION))
        bench.scheduler.add_static(node_of(2, "127.0.0.1"))
        for number in (1, 2):
            bench.dialer.errors[key_of(number).public_key] = ConnectFailed("refused")
        async with bench.running():
            assert len(bench.dialer.plans) == 2
            assert await bench.after(5) == 2

    async def test_failures_back_off_up_to_ten_minutes_and_the_network_s_return_forgets_them(self) -> None:
        bench = Bench()
        bench.scheduler.add_static(node_of(1, ONION))
        bench.dialer.errors[key_of(1).public_key] = ConnectFailed("unreachable")
        async with bench.running():
            waits = []
            for _ in range(10):
                wait = 0
                while not await bench.after(5):
                    wait += 5
                waits.append(wait + 5)
            assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
            bench.scheduler.network_back()
            assert await bench.after(0) == 1
            assert await bench.after(5) == 1

    async def test_jitter_spreads_the_delays(self) -> None:
        bench = Bench(jitter=0.5)
        bench.scheduler._rand = lambda count: b"\xff" * count
        bench.scheduler.add_static(node_of(1, ONION))
        bench.dialer.errors[key_of(1).public_key] = ConnectFailed("unreachable")
        async with bench.running():
            assert await bench.after(7.4) == 0
            assert await bench.after(0.2) == 1

    async def test_way_that_will_not_come_back_parks_the_node_until_the_nodes_change(self) -> None:
        bench = Bench()
        bench.scheduler.replace_static([node_of(1, ONION)])
        bench.dialer.errors[key_of(1).public_key] = ProxyFailed("bad address", code=0xF6, retry=Retry.NEVER)
        async with bench.running():
            assert bench.scheduler.parked == 1
            assert await bench.after(100_000) == 0
            bench.scheduler.network_back()
            assert await bench.after(0) == 0
            bench.scheduler.replace_static([node_of(1, ONION)])
            assert await bench.after(0) == 1
            assert bench.end.tally.dials == [("tor-onion", "ProxyFailed")] * 2

    async def test_node_that_the_mode_forbids_is_parked_and_never_dialed(self) -> None:
        bench = Bench(Mode.ONLY_ONION)
        bench.scheduler.add_static(node_of(1))
        async with bench.running():
            assert bench.scheduler.parked == 1
            assert bench.dialer.links == []
            assert bench.end.tally.dials == [("none", "DialRefused")]

    async def test_descriptor_that_is_missing_is_tried_again_later(self) -> None:
        bench = Bench()
        bench.scheduler.add_static(node_of(1, ONION))
        bench.dialer.errors[key_of(1).public_key] = ProxyFailed("no descriptor", code=0xF0, retry=Retry.LONG)
        async with bench.running():
            assert await bench.after(19) == 0
            assert await bench.after(1) == 1

    async def test_plan_of_the_first_dial_is_kept_though_new_addresses_come(self) -> None:
        bench = Bench()
        bench.scheduler.add_static(node_of(1, ONION))
        bench.dialer.errors[key_of(1).public_key] = ConnectFailed("no")
        async with bench.running():
            assert bench.scheduler.add_static(node_of(1, "8.8.4.4"))
            assert not bench.scheduler.add_static(node_of(1, "8.8.4.4"))
            assert await bench.after(0) == 1
            assert [each.endpoint.host for each in bench.dialer.plans[1].targets] == [ONION]

    async def test_nodes_of_several_origins_stay_until_all_let_go(self) -> None:
        bench = Bench()
        bench.other(1)
        bench.scheduler.replace_static([node_of(1)])
        bench.scheduler.add_static(node_of(1))
        async with bench.running():
            bench.scheduler.replace_static([])
            await bench.settle()
            assert bench.scheduler.static_connected == 1
            assert not bench.scheduler.remove_static(key_of(1).public_key, "file")
            assert bench.scheduler.remove_static(key_of(1).public_key)
            await bench.settle()
            assert bench.scheduler.static_loaded == len(bench.end.peers) == 0
            assert bench.end.tally.departures[0].reason == DisconnectReason.REQUESTED

    async def test_remove_peer_works_on_whoever_is_connected(self) -> None:
        bench = Bench()
        bench.other(1)
        bench.scheduler.replace_static([node_of(1)])
        inbound = connect(make_end(key_of(2), bench.loop), bench.end)
        bench.dialer.links.append(inbound)
        async with bench.running():
            assert len(bench.end.peers) == 2
            assert bench.scheduler.remove_peer(key_of(1).public_key)
            assert bench.scheduler.remove_peer(key_of(2).public_key)
            assert not bench.scheduler.remove_peer(key_of(3).public_key)
            await bench.settle()
            assert len(bench.end.peers) == 0

    async def test_removal_ends_a_dial_under_way(self) -> None:
        bench = Bench()
        bench.scheduler.add_static(node_of(1))
        async with bench.running():
            assert bench.scheduler.dialing == 1
            bench.scheduler.remove_static(key_of(1).public_key)
            await bench.settle()
            assert bench.scheduler.dialing == 0

    async def test_removal_ends_a_handshake_under_way(self) -> None:
        bench = Bench()
        bench.other(1)
        async with bench.running():
            bench.scheduler.add_static(node_of(1))
            for _ in range(5):
                await asyncio.sleep(0)
            (link,) = bench.dialer.links
            assert link.dialer.phase is Phase.RLPX
            bench.scheduler.remove_static(key_of(1).public_key)
            await bench.settle()
            assert link.dialer.phase is Phase.CLOSED
            assert bench.end.peers.connections == 0

    async def test_node_removed_in_the_moment_it_joins_is_disconnected(self) -> None:
        bench = Bench()
        bench.other(1)
        bench.scheduler.add_static(node_of(1))
        bench.end.eth.on_joined = lambda _: None
        del bench.scheduler._static[key_of(1).public_key]
        link = connect(bench.end, bench.dialer.ends[key_of(1).public_key], static=True)
        settle([bench.loop], [link])
        assert len(bench.end.peers) == 0

    async def test_stop_cancels_the_dials(self) -> None:
        bench = Bench()
        for number in (1, 2, 3):
            bench.scheduler.add_static(node_of(number))
        async with bench.running():
            assert bench.scheduler.dialing == 3
        assert bench.scheduler.dialing == 0

    async def test_own_node_is_not_dialed_and_pending_dials_are_bounded(self) -> None:
        bench = Bench(max_pending=2)
        bench.scheduler.replace_static([node_of(number) for number in range(5)])
        async with bench.running():
            assert bench.dialer.dialed() == [key_of(1).public_key, key_of(2).public_key]

    async def test_node_that_is_coming_in_is_not_dialed(self) -> None:
        bench = Bench()
        far = make_end(key_of(1), bench.loop)
        link = connect(far, bench.end)
        bench.loop.drain()
        link.near.deliver()
        bench.loop.drain()
        assert link.listener.phase is Phase.HELLO
        bench.scheduler.add_static(node_of(1))
        async with bench.running():
            assert bench.dialer.plans == []
            link.listener.abort("broken")
            await bench.settle()
            assert len(bench.dialer.plans) == 1

    async def test_full_set_stops_dialing_all_but_the_trusted(self) -> None:
        bench = Bench(max_peers=1)
        bench.other(1)
        bench.other(3)
        bench.scheduler.replace_static([node_of(1), node_of(2), node_of(3)])
        bench.end.peers.trust(key_of(8).public_key)
        bench.scheduler.replace_trusted([node_of(3), node_of(9)])
        bench.scheduler.replace_trusted([node_of(3)])
        assert bench.end.peers.trusted == {key_of(3).public_key, key_of(8).public_key}, (
            "8 by admin, not by file"
        )
        bench.dialer.errors[key_of(2).public_key] = ConnectFailed("no")
        async with bench.running():
            assert len(bench.end.peers) == 2
            assert await bench.after(1000) == 0


class TestWhatThePeerSaid:
    @pytest.mark.parametrize(
        ("reason", "seconds"),
        [
            (DisconnectReason.TOO_MANY_PEERS, 20),
            (DisconnectReason.USELESS_PEER, 300),
            (DisconnectReason.ALREADY_CONNECTED, 5),
            (DisconnectReason.CLIENT_QUITTING, 5),
            (DisconnectReason.SUBPROTOCOL_ERROR, 20),
        ],
    )
    async def test_reason_decides_the_delay(self, reason: int, seconds: float) -> None:
        bench = Bench()
        far = bench.other(1)
        far.eth.check_status = lambda session, _: session.disconnect(reason)  # type: ignore[method-assign]
        bench.scheduler.add_static(node_of(1, ONION))
        async with bench.running():
            assert bench.end.peers.connections == 0
            assert await bench.after(seconds - 1) == 0
            assert await bench.after(1) == 1

    async def test_our_own_node_is_parked(self) -> None:
        bench = Bench()
        bench.scheduler.add_static(node_of(1))
        target = bench.scheduler._static[key_of(1).public_key]
        bench.scheduler._count(target, Departure(DisconnectReason.SELF_CONNECT, "self connect", "", False))
        assert bench.scheduler.parked == 1

    async def test_peer_that_leaves_soon_after_joining_has_failed(self) -> None:
        bench = Bench()
        far = bench.other(1)
        far.eth.on_joined = lambda session: session.disconnect(DisconnectReason.TOO_MANY_PEERS)
        bench.scheduler.add_static(node_of(1, ONION))
        async with bench.running():
            assert await bench.after(19) == 0
            assert await bench.after(1) == 1
            assert await bench.after(39) == 0
            assert await bench.after(1) == 1


class TestCandidates:
    async def test_candidates_fill_the_share_of_dialed_peers(self) -> None:
        bench = Bench(max_peers=6)
        for number in range(1, 10):
            bench.other(number)
        source = Source([node_of(number) for number in range(1, 10)])
        bench.scheduler.add_source(source)
        async with bench.running():
            # Twice the two free places at first, as geth does; none once they are taken.
            assert len(bench.end.peers) == 4
            assert len(source.nodes) == 5
            assert await bench.after(100) == 0
            assert not any(session.static for session in bench.end.peers.sessions())

    async def test_candidate_that_failed_rests(self) -> None:
        bench = Bench()
        bench.dialer.errors[key_of(1).public_key] = ConnectFailed("no")
        source = Source([node_of(1), node_of(1), node_of(0), node_of(2, "10.0.0.1")])
        bench.scheduler.add_source(source)
        async with bench.running():
            assert bench.dialer.dialed() == [key_of(1).public_key], (
                "not twice, not ourselves, no private address"
            )
            source.nodes.append(node_of(1))
            assert await bench.after(34) == 0
            source.nodes.append(node_of(1))
            assert await bench.after(1) == 1
            assert bench.scheduler.parked == 0

    async def test_candidate_keeps_its_plan(self) -> None:
        bench = Bench()
        bench.dialer.errors[key_of(1).public_key] = ConnectFailed("no")
        source = Source([node_of(1, ONION)])
        bench.scheduler.add_source(source)
        async with bench.running():
            source.nodes.append(node_of(1, "8.8.4.4"))
            assert await bench.after(100) == 1
            assert [each.endpoint.host for each in bench.dialer.plans[1].targets] == [ONION]

    async def test_history_is_bounded(self) -> None:
        bench = Bench(max_history=5, max_pending=200)
        for number in range(1, 20):
            bench.dialer.errors[key_of(number).public_key] = ProxyFailed("no", retry=Retry.NEVER)
        source = Source([node_of(number) for number in range(1, 20)])
        bench.scheduler.add_source(source)
        async with bench.running():
            assert len(bench.dialer.plans) == 19
            assert len(bench.scheduler._candidates) == 5
            bench.scheduler.network_back()

    async def test_peer_without_a_target_may_leave(self) -> None:
        bench = Bench()
        raw = accept_raw(bench.end)
        async with bench.running():
            raw.protocol.abort("x")  # type: ignore[attr-defined]
            await bench.settle()
            assert bench.scheduler._find(None) is None
