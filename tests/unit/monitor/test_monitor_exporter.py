import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay.monitor.exporter import MAX_CLIENTS, Exporter
from relay.monitor.watch import Watch
from tests.unit.monitor.conftest import peer, view


def scrape(watch: Watch, now: float) -> dict[str, float]:
    text = Exporter(watch, lambda: now).text().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def test_metrics_of_the_design_are_there() -> None:
    watch = Watch(0.0)
    watch.take(view(peer(1), peer(2, inbound=True, head=990)), 0.0)
    watch.take(
        view(
            peer(2, inbound=True, head=990), peer(3, client="reth/v2.5.1", snap=1, caps=("eth/69", "wit/1"))
        ),
        30.0,
    )
    watch.fail("gone", 31.0)

    found = scrape(watch, 32.0)

    assert found["peermon_up"] == 0
    assert found["peermon_data_age_seconds"] == 2
    assert found["peermon_peers{direction=inbound,network=ipv4}"] == 1
    assert found["peermon_peers{direction=outbound,network=onion}"] == 0
    assert found["peermon_peers_by_client{client=geth}"] == 1
    assert found["peermon_peers_by_client{client=reth}"] == 1
    assert found["peermon_peers_by_protocol{protocol=eth,version=69}"] == 2
    assert found["peermon_peers_by_protocol{protocol=snap,version=1}"] == 1
    assert found["peermon_peers_by_protocol{protocol=wit,version=1}"] == 1
    assert found["peermon_peer_connects_total"] == 1
    assert found["peermon_peer_disconnects_total{reason=left}"] == 1
    assert found["peermon_peer_disconnects_total{reason=node_restart}"] == 0
    assert found["peermon_peer_session_seconds_bucket{le=60.0}"] == 1
    assert found["peermon_peer_session_seconds_sum"] == 30
    assert found["peermon_peer_head_lag_blocks{quantile=1.0}"] == 10
    assert found["peermon_head_block_number"] == 1000
    assert found["peermon_syncing"] == 0
    assert found["peermon_rpc_failures_total"] == 1
    assert found["peermon_anomaly{kind=no_peers}"] == 0


def test_nothing_is_told_of_a_node_that_was_never_seen() -> None:
    watch = Watch(0.0)
    watch.fail("refused", 1.0)

    found = scrape(watch, 2.0)

    assert found["peermon_up"] == 0
    assert not [name for name in found if name.startswith("peermon_peers")]
    assert "peermon_data_age_seconds" not in found


def test_hostile_names_make_no_line_and_no_label(hostile_names: list[str]) -> None:
    watch = Watch(0.0)
    watch.take(
        view(*(peer(n, client=name, caps=(name[:20], "eth/69")) for n, name in enumerate(hostile_names))), 1.0
    )

    text = Exporter(watch, lambda: 1.0).text().decode()

    assert not re.search("evil|script|owned|HYPERLINK|\x1b|bold", text)
    found = scrape(watch, 1.0)
    assert sum(value for name, value in found.items() if "by_client" in name) == len(hostile_names)


def test_endless_clients_and_protocols_make_a_bounded_number_of_series() -> None:
    watch = Watch(0.0)
    watch.take(view(*(peer(n, client=f"client{n}/v1", caps=(f"cap/{n}",)) for n in range(500))), 1.0)

    found = scrape(watch, 1.0)

    clients = {name: value for name, value in found.items() if "by_client" in name}
    assert len(clients) == MAX_CLIENTS + 1
    assert clients["peermon_peers_by_client{client=other}"] == 500 - MAX_CLIENTS
    assert len(found) < 200


def test_no_label_names_a_peer_or_an_address() -> None:
    someone = peer(77, address="93.184.216.34:30303", enode="enode://aa@93.184.216.34:30303")
    watch = Watch(0.0)
    watch.take(view(someone), 1.0)
    watch.take(view(), 2.0)
    watch.take(view(someone), 3.0)

    text = Exporter(watch, lambda: 4.0).text().decode()

    assert someone.short_id not in text
    assert "93." not in text


class Request:
    def __init__(self, path: str, method: str = "GET") -> None:
        self.path, self.method = path, method


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/metrics", "GET", 200),
        ("/healthz", "HEAD", 200),
        ("/", "GET", 200),
        ("/x", "GET", 404),
        ("/metrics", "POST", 405),
    ],
)
async def test_pages(path: str, method: str, status: int) -> None:
    assert (await Exporter(Watch(0.0), lambda: 0.0).answer(Request(path, method))).status == status
