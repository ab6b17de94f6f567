from relay.monitor.anomalies import find_anomalies
from relay.monitor.watch import MAX_CHANGES, MAX_SAMPLES, Watch
from tests.unit.monitor.conftest import peer, view

CLIENTS = ("Geth/v1.17.8", "reth/v2.5.1", "Nethermind/v1.36.0", "besu/v26.3.0", "erigon/v3.1.0")


def mixed(count: int, first: int = 0, inbound: bool = False) -> list:
    return [
        peer(first + number, client=CLIENTS[number % 5], inbound=inbound or number % 2 == 0)
        for number in range(count)
    ]


def watched(*looks: tuple[float, list]) -> Watch:
    watch = Watch(0.0)
    for at, peers in looks:
        watch.take(view(*peers), at)
    return watch


def kinds(watch: Watch, now: float) -> list[str]:
    return [each.kind for each in find_anomalies(watch, now)]


def test_peers_come_and_go() -> None:
    first, second, third = mixed(3)
    watch = watched((1.0, [first, second]), (6.0, [first, third]), (66.0, [first]))

    assert (watch.connects, dict(watch.disconnects)) == (1, {"left": 2, "node_restart": 0})
    assert watch.seen_for(first, 70.0) == 69.0
    assert watch.seen_since_start(first)
    assert watch.sessions == [1, 1, 0, 0, 0, 0, 0, 0]
    assert watch.session_seconds == 65.0
    assert [(each.total, each.inbound) for each in watch.samples] == [(2, 1), (2, 2), (1, 1)]
    assert [each.words for each in watch.changes] == [
        f"{third.short_id} (nethermind, in) came",
        f"{second.short_id} (reth, out) went",
        f"{third.short_id} (nethermind, in) went",
    ]


def test_view_is_kept_and_grows_old_while_the_node_is_silent() -> None:
    watch = watched((1.0, mixed(3)))
    watch.fail("connection refused", 2.0)
    watch.fail("connection refused", 31.0)

    assert (watch.age(31.0), len(watch.peers), watch.failures) == (30.0, 3, 2)
    [stale] = find_anomalies(watch, 31.0)
    assert stale.words.startswith("the node has not answered for 30 s (connection refused)")
    assert watch.age(0.5) == 0.0

    watch.take(view(*mixed(3)), 40.0)
    assert (watch.failure, watch.age(41.0), watch.disconnects.total()) == ("", 1.0, 0)
    assert [each.words for each in watch.changes] == [
        "the node does not answer: connection refused",
        "the node answers again after 39 s",
    ]


def test_restart_of_the_node_is_no_churn_of_its_peers() -> None:
    watch = watched((1.0, mixed(9)))
    watch.fail("connection refused", 2.0)
    watch.take(view(*mixed(2, first=100)), 10.0)

    assert dict(watch.disconnects) == {"left": 0, "node_restart": 9}
    assert watch.changes[-1].words == "the node was restarted"


def test_another_node_at_the_same_place_is_told() -> None:
    watch = watched((1.0, mixed(4)))
    watch.take(view(*mixed(4, first=50), identity="node-2"), 2.0)

    assert watch.disconnects["node_restart"] == 4
    assert watch.changes[-1].words == "another node answers there"


def test_what_is_remembered_is_bounded() -> None:
    watch = Watch(0.0)
    for number in range(MAX_SAMPLES + 100):
        watch.take(view(peer(number)), float(number))

    assert (len(watch.samples), len(watch.changes), len(watch._first_seen)) == (MAX_SAMPLES, MAX_CHANGES, 1)


def test_copy_stands_still() -> None:
    watch = watched((1.0, mixed(2)))
    still = watch.copy()
    watch.take(view(*mixed(5)), 2.0)

    assert (len(still.peers), still.connects, len(still.samples), len(still.changes)) == (2, 0, 1, 0)


# -- anomalies -----------------------------------------------------------------------------------------


def test_ordinary_peers_are_no_anomaly() -> None:
    assert kinds(watched((0.0, mixed(50)), (2000.0, mixed(50))), 2000.0) == []
    assert kinds(Watch(0.0), 5.0) == []


def test_no_peer_and_sudden_loss() -> None:
    assert kinds(watched((0.0, [])), 0.0) == ["no_peers"]
    assert kinds(watched((0.0, mixed(20)), (60.0, mixed(10))), 60.0) == ["loss"]
    assert kinds(watched((0.0, mixed(20)), (60.0, mixed(11))), 60.0) == []
    assert kinds(watched((0.0, mixed(20)), (500.0, mixed(10))), 500.0) == []
    assert kinds(watched((0.0, mixed(4)), (60.0, mixed(1))), 60.0) == []
    [loss] = find_anomalies(watched((0.0, mixed(20)), (60.0, mixed(8))), 60.0)
    assert loss.words.startswith("12 of 20 peers are gone within 2 minutes")


def test_dominance_of_one_client() -> None:
    geths = [peer(number, inbound=number % 2 == 0) for number in range(20)]
    strangers = [peer(90 + number, client="") for number in range(30)]

    assert kinds(watched((0.0, geths)), 0.0) == ["dominance"]
    assert kinds(watched((0.0, [*geths, *strangers])), 0.0) == ["dominance"]
    assert kinds(watched((0.0, [*geths[:18], *mixed(10, first=200)])), 0.0) == []
    assert kinds(watched((0.0, geths[:9])), 0.0) == []


def test_many_peers_of_one_block() -> None:
    near = [
        peer(100 + number, client=CLIENTS[number], inbound=False, address=f"93.184.216.{number}:30303")
        for number in range(4)
    ]
    watch = watched((0.0, [*mixed(20), *near]))

    [found] = find_anomalies(watch, 0.0)
    assert found.words.startswith("4 of 24 peers with a public address are in one /24 (93.184.*.*, masked)")
    assert "93.184.216" not in found.words
    [shown] = find_anomalies(watch, 0.0, addresses=True)
    assert "(93.184.216.0/24)" in shown.words
    assert kinds(watched((0.0, [*mixed(60), *near])), 0.0) == []
    home = [
        peer(300 + n, client=CLIENTS[n % 5], inbound=n % 2 == 0, address=f"10.0.0.{n}:1") for n in range(9)
    ]
    assert kinds(watched((0.0, home)), 0.0) == []


def test_all_inbound_smells_of_an_eclipse() -> None:
    assert kinds(watched((0.0, mixed(8, inbound=True))), 0.0) == ["eclipse_inbound"]
    assert kinds(watched((0.0, mixed(7, inbound=True))), 0.0) == []


def test_all_new_smells_of_an_eclipse_once_the_node_was_watched_for_long() -> None:
    before, after = mixed(10), mixed(10, first=500)
    watch = watched((0.0, before), (1000.0, after))

    assert kinds(watch, 1100.0) == ["eclipse_new"]
    assert kinds(watch, 1400.0) == []
    assert kinds(watched((0.0, before), (100.0, after)), 200.0) == []
    assert kinds(watched((0.0, before), (1000.0, [*after, before[0]])), 1100.0) == []


def test_the_first_look_is_remembered_when_its_sample_is_forgotten() -> None:
    watch = Watch(0.0)
    watch.take(view(peer(1)), 1.0)
    for at in range(2, MAX_SAMPLES + 3):
        watch.take(view(peer(1), peer(2)), float(at))

    assert watch.samples[0].at > 2.0
    assert watch.seen_since_start(peer(1))
    assert not watch.seen_since_start(peer(2))
    assert watch.watched_for(5_000.0) == 4_999.0
