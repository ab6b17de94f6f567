from collections import Counter
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from relay.observe.loop_stall import INTERVAL, LoopStallMonitor
from relay.observe.metrics import TRANSACTION_COUNTS, Metrics
from relay.observe.snapshot import Connections, DiscoveryCounts, MetricsSnapshot, PeerKind, TorView
from relay.relaying.counters import RelayCounters
from tests.unit.observe.conftest import Loop, Source

GETH_NAMES = (Path(__file__).parent / "fixtures" / "geth-1.17.8-metrics.txt").read_text().split()


def lines(metrics: Metrics) -> list[str]:
    return metrics.text().decode().splitlines()


def test_every_p2p_metric_of_geth_is_there_as_a_gauge(metrics: Metrics) -> None:
    text = lines(metrics)
    for name in GETH_NAMES:
        assert f"{name} 0" in text
        assert f"# TYPE {name} gauge" in text


def test_peers_are_counted_by_direction_and_network(metrics: Metrics, source: Source) -> None:
    kinds = Counter({PeerKind("onion", True): 1, PeerKind("ipv6", False): 1, PeerKind("i2p", True): 0})
    source.now = MetricsSnapshot(peers=kinds, ingress=2**40, egress=5)

    text = lines(metrics)

    assert "p2p_peers 2" in text
    assert "p2p_peers_inbound 1" in text
    assert "p2p_peers_outbound 1" in text
    assert 'pyrelay_peers{direction="inbound",network="onion"} 1' in text
    assert 'pyrelay_peers{direction="outbound",network="onion"} 0' in text
    assert 'pyrelay_peers{direction="outbound",network="ipv6"} 1' in text
    assert 'pyrelay_peers{direction="inbound",network="i2p"} 0' in text


def test_cause_that_geth_does_not_know_counts_as_other(metrics: Metrics, source: Source) -> None:
    source.now = MetricsSnapshot(
        dials=Connections(9, 4, 3, {"connection": 2, "saturated": 1, "strange": 1, "other": 1}),
        serves=Connections(5, 1, 0, {"connection": 4}),
    )

    values = metrics.values()

    assert values["p2p_dials"] == 9
    assert values["p2p_dials_success"] == 4
    assert values["p2p_dials_success_1min"] == 3
    assert values["p2p_dials_error_connection"] == 2
    assert values["p2p_dials_error_other"] == 2
    assert values["p2p_serves_error_other"] == 4
    assert "p2p_serves_error_connection" not in values


def test_own_metrics_follow_the_source(metrics: Metrics, source: Source) -> None:
    counts = RelayCounters()
    counts.seen, counts.evicted, counts.latency_sum, counts.latency_count = 7, 2, 1.5, 3
    counts.dropped["known sender"] = 4
    source.now = MetricsSnapshot(
        tor=TorView(45, True, True, 2),
        static_nodes={"loaded": 3, "rejected": 1},
        transactions=counts,
        pool_transactions=11,
        pool_bytes=2200,
        head=23_000_000,
        earliest=15_537_394,
        startup={"tor": 1.5},
    )

    text = lines(metrics)

    for line in (
        "pyrelay_tor_bootstrap_percent 45",
        "pyrelay_tor_control_connected 1",
        "chain_head_block 23000000",
        "pyrelay_earliest_block 15537394",
        "pyrelay_onion_service_up 1",
        "pyrelay_onion_service_uploads_total 2",
        'pyrelay_static_nodes{state="loaded"} 3',
        'pyrelay_static_nodes{state="connected"} 0',
        "pyrelay_transactions_seen_total 7",
        'pyrelay_transactions_dropped_total{cause="known sender"} 4',
        'pyrelay_pool_left_total{why="evicted"} 2',
        "pyrelay_relay_latency_seconds_sum 1.5",
        "pyrelay_relay_latency_seconds_count 3",
        "pyrelay_pool_transactions 11",
        "pyrelay_pool_bytes 2200",
        'pyrelay_startup_seconds{step="tor"} 1.5',
    ):
        assert line in text
    assert 'pyrelay_build_info{version="1.2.3"} 1' in text


def test_every_count_of_relaying_is_exposed() -> None:
    elsewhere = {
        "dropped",
        "offences",
        "evicted",
        "replaced",
        "expired",
        "blob_held",
        "blob_bytes",
        "latency_sum",
        "latency_count",
        "longest_slice",
        "verdicts",
        "chain",
        "stems",
    }
    assert {attribute for attribute, _, _ in TRANSACTION_COUNTS} | elsewhere == set(RelayCounters.__slots__)


def test_stalls_are_a_maximum_and_a_histogram(
    metrics: Metrics, stalls: LoopStallMonitor, loop_clock: Loop
) -> None:
    stalls.start()
    loop_clock.pass_time(INTERVAL)
    loop_clock.pass_time(INTERVAL + 0.03)

    values = metrics.values()
    buckets = {
        entry["labels"]["le"]: entry["value"]
        for entry in values["pyrelay_event_loop_lateness_seconds_bucket"]
    }

    assert values["pyrelay_event_loop_stall_seconds"] == pytest.approx(0.03)
    assert (buckets["0.02"], buckets["0.05"], buckets["+Inf"]) == (1, 2, 2)
    assert values["pyrelay_event_loop_lateness_seconds_count"] == 2


def test_process_is_measured(metrics: Metrics) -> None:
    values = metrics.values()
    assert values["process_resident_memory_bytes"] > 1e6
    assert values["process_open_fds"] > 2


def test_text_is_read_by_prometheus_own_parser(metrics: Metrics) -> None:
    names = [family.name for family in text_string_to_metric_families(metrics.text().decode())]
    assert len(names) == len(set(names))
    assert "p2p_peers" in names


def test_text_says_the_same_as_that_of_the_library(metrics: Metrics, source: Source) -> None:
    counts = RelayCounters()
    counts.dropped['odd "cause"\n\\'] = 4
    source.now = MetricsSnapshot(ingress=3 * 10**9, transactions=counts, startup={"tor": 1 / 3})

    def read(text: str) -> dict[str, list[object]]:
        found = {
            each.name: [sample[:3] for sample in each.samples]
            for each in text_string_to_metric_families(text)
        }
        return {name: samples for name, samples in found.items() if not name.startswith("process_")}

    assert read(metrics.text().decode()) == read(generate_latest(metrics._registry).decode())
    assert "p2p_ingress 3000000000" in lines(metrics)


def test_two_registries_live_beside_each_other(source: Source, stalls: LoopStallMonitor) -> None:
    one, other = (Metrics(source, stalls, version=version) for version in ("1", "2"))
    assert one.text() != other.text()


def test_failed_requests_and_what_is_dropped_below_the_protocols_are_told(
    metrics: Metrics, source: Source
) -> None:
    source.now = MetricsSnapshot(
        discovery={"v5": DiscoveryCounts(failed={"timeout": 3})},
        dropped={"udp": {"host": 2, "buffer full": 1}, "onion": {"malformed": 4}},
    )

    text = lines(metrics)

    assert 'pyrelay_discovery_failed_total{protocol="v5",reason="timeout"} 3' in text
    assert 'pyrelay_discovery_dropped_total{reason="host",way="udp"} 2' in text
    assert 'pyrelay_discovery_dropped_total{reason="buffer full",way="udp"} 1' in text
    assert 'pyrelay_discovery_dropped_total{reason="malformed",way="onion"} 4' in text
