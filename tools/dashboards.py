# ruff: noqa: E501 - a query reads best as a whole
"""Writes Grafana's dashboards: deployment/monitoring/dashboards/*.json.

    python tools/dashboards.py            # write
    python tools/dashboards.py --check    # say which differ from what would be written

A row of panels is a line below: title, unit, queries with their legends. Queries use metrics alone that exist in what the
programs exported (tests/unit/deployment/test_stack_rules.py), and the variable $instance.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "deployment" / "monitoring" / "dashboards"
WIDTH: Final = 24  # of Grafana's grid
HEIGHT: Final = 8
SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
HERE: Final = 'instance=~"$instance"'
GETH, BEACON, RELAY, BOOK = (
    f'job="{job}", {HERE}' for job in ("geth", "prysm-beacon", "pyrelay", "pyrelay-discovery")
)

Panel = tuple[str, str, str, list[tuple[str, str]]]  # kind, title, unit, [(query, legend)]

NODE: Final[list[Panel]] = [
    ("stat", "Scraped", "none", [('up{job=~"geth|prysm-beacon|prysm-validator"}', "{{job}} {{instance}}")]),
    ("stat", "Head", "none", [(f"chain_head_block{{{GETH}}}", "geth {{instance}}")]),
    ("stat", "Slots behind", "none", [(f"beacon:slots_behind{{{HERE}}}", "{{instance}}")]),
    ("stat", "Epochs not finalized", "none", [(f"beacon:epochs_unfinalized{{{HERE}}}", "{{instance}}")]),
    ("graph", "Headers and blocks of geth", "none", [
        (f"chain_head_header{{{GETH}}}", "header"), (f"chain_head_block{{{GETH}}}", "block"),
        (f"chain_head_finalized{{{GETH}}}", "finalized"),
    ]),
    ("graph", "Blocks in five minutes", "none", [(f"changes(chain_head_block{{{GETH}}}[5m])", "{{instance}}")]),
    ("graph", "Slots of the beacon node", "none", [
        (f"beacon_clock_time_slot{{{BEACON}}}", "clock"), (f"beacon_head_slot{{{BEACON}}}", "head"),
    ]),
    ("graph", "Engine API, 95th percentile", "ns", [
        (f'rpc_duration_engine_newPayloadV4_success{{{GETH}, quantile="0.95"}}', "newPayload"),
        (f'rpc_duration_engine_forkchoiceUpdatedV3_success{{{GETH}, quantile="0.95"}}', "forkchoiceUpdated"),
    ]),
    ("graph", "Execution, as the beacon node sees it", "ms", [
        (f"rate(new_payload_v1_latency_milliseconds_sum{{{BEACON}}}[$__rate_interval]) / "
         f"rate(new_payload_v1_latency_milliseconds_count{{{BEACON}}}[$__rate_interval])", "newPayload"),
    ]),
    ("graph", "Peers", "none", [
        (f"p2p_peers_inbound{{{GETH}}}", "geth, inbound"), (f"p2p_peers_outbound{{{GETH}}}", "geth, outbound"),
        (f'p2p_peer_count{{{BEACON}, state="Connected"}}', "beacon node"),
    ]),
    ("graph", "Traffic of geth", "Bps", [
        (f"rate(p2p_ingress{{{GETH}}}[$__rate_interval])", "in"), (f"rate(p2p_egress{{{GETH}}}[$__rate_interval])", "out"),
    ]),
    ("graph", "Calls of JSON-RPC", "reqps", [
        (f"rate(rpc_requests{{{GETH}}}[$__rate_interval])", "all"), (f"rate(rpc_failure{{{GETH}}}[$__rate_interval])", "failed"),
    ]),
    ("graph", "Pool of geth", "none", [(f"txpool_pending{{{GETH}}}", "pending"), (f"txpool_queued{{{GETH}}}", "queued")]),
    ("graph", "Database of geth", "bytes", [
        (f"eth_db_chaindata_disk_size{{{GETH}}}", "tables"), (f"eth_db_chaindata_ancient_size{{{GETH}}}", "ancient"),
    ]),
    ("graph", "Free space", "percentunit", [
        ("volume:free:ratio", "{{persistentvolumeclaim}}"),
        ('node_filesystem_avail_bytes{job="node", fstype!~"tmpfs|ramfs|overlay"} / '
         'node_filesystem_size_bytes{job="node", fstype!~"tmpfs|ramfs|overlay"}', "{{instance}} {{mountpoint}}"),
    ]),
    ("graph", "Processor", "percent", [
        (f"system_cpu_procload{{{GETH}}}", "geth"),
        ('100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{job="node", mode="idle"}[$__rate_interval])))', "host {{instance}}"),
    ]),
    ("graph", "Memory", "bytes", [
        (f"system_memory_used{{{GETH}}}", "geth"), (f"process_resident_memory_bytes{{{BEACON}}}", "beacon node"),
    ]),
    ("graph", "Validator: slots since its last attestation", "none", [
        ('max by (instance) (beacon_clock_time_slot{job="prysm-validator"}) - '
         'max by (instance) (validator_last_attested_slot{job="prysm-validator"})', "{{instance}}"),
    ]),
]  # fmt: skip

PEERS: Final[list[Panel]] = [
    ("stat", "Node answers", "none", [(f"peermon_up{{{HERE}}}", "{{instance}}")]),
    ("stat", "Peers", "none", [(f"sum by (instance) (peermon_peers{{{HERE}}})", "{{instance}}")]),
    ("stat", "Age of what is told", "s", [(f"peermon_data_age_seconds{{{HERE}}}", "{{instance}}")]),
    ("stat", "Anomalies", "none", [(f"peermon_anomaly{{{HERE}}} == 1", "{{kind}}")]),
    ("graph", "Peers by direction", "none", [(f"sum by (direction) (peermon_peers{{{HERE}}})", "{{direction}}")]),
    ("graph", "Peers by network", "none", [(f"sum by (network) (peermon_peers{{{HERE}}})", "{{network}}")]),
    ("graph", "Peers by client", "none", [(f"sum by (client) (peermon_peers_by_client{{{HERE}}})", "{{client}}")]),
    ("graph", "Share of the most frequent client", "percentunit", [(f"peermon:client_share:max{{{HERE}}}", "{{instance}}")]),
    ("graph", "Peers by protocol", "none", [
        (f"sum by (protocol, version) (peermon_peers_by_protocol{{{HERE}}})", "{{protocol}}/{{version}}"),
    ]),
    ("graph", "Churn", "ops", [
        (f"instance:peermon_churn:rate15m{{{HERE}}}", "15 minutes"), (f"instance:peermon_churn:rate1d{{{HERE}}}", "a day"),
    ]),
    ("graph", "Comings and goings", "ops", [
        (f"rate(peermon_peer_connects_total{{{HERE}}}[$__rate_interval])", "came"),
        (f"rate(peermon_peer_disconnects_total{{{HERE}}}[$__rate_interval])", "went: {{reason}}"),
    ]),
    ("graph", "For how long those who went had stayed, median", "s", [
        (f"histogram_quantile(0.5, sum by (le) (rate(peermon_peer_session_seconds_bucket{{{HERE}}}[1h])))", "median"),
    ]),
    ("graph", "Blocks that peers are behind", "none", [(f"peermon_peer_head_lag_blocks{{{HERE}}}", "quantile {{quantile}}")]),
    ("graph", "Static and trusted", "none", [(f"peermon_peers_flagged{{{HERE}}}", "{{flag}}")]),
]  # fmt: skip

PYRELAY: Final[list[Panel]] = [
    ("stat", "Tor", "percent", [(f"pyrelay_tor_bootstrap_percent{{{HERE}}}", "{{instance}}")]),
    ("stat", "Onion service", "none", [(f"pyrelay_onion_service_up{{{HERE}}}", "{{instance}}")]),
    ("stat", "Introduction points", "none", [(f"pyrelay_onion_service_introductions{{{HERE}}}", "{{instance}}")]),
    ("stat", "Tripwire", "none", [(f"pyrelay_tripwire_breaches_total{{{HERE}}}", "{{instance}}")]),
    ("graph", "Peers by network", "none", [(f"sum by (network, direction) (pyrelay_peers{{{HERE}}})", "{{network}} {{direction}}")]),
    ("graph", "Transactions in and out", "ops", [
        (f"rate(pyrelay_transactions_seen_total{{{HERE}}}[$__rate_interval])", "in"),
        (f"rate(pyrelay_transactions_submitted_total{{{HERE}}}[$__rate_interval])", "of our users"),
        (f"rate(pyrelay_transactions_relayed_total{{{HERE}}}[$__rate_interval])", "out"),
    ]),
    ("graph", "From arrival to first delivery, mean", "s", [
        (f"rate(pyrelay_relay_latency_seconds_sum{{{HERE}}}[$__rate_interval]) / "
         f"rate(pyrelay_relay_latency_seconds_count{{{HERE}}}[$__rate_interval])", "{{instance}}"),
    ]),
    ("graph", "Dropped, by reason", "ops", [
        (f"sum by (cause) (rate(pyrelay_transactions_dropped_total{{{HERE}}}[$__rate_interval]))", "{{cause}}"),
    ]),
    ("graph", "Share dropped", "percentunit", [(f"instance:pyrelay_drops:ratio5m{{{HERE}}}", "{{instance}}")]),
    ("graph", "Peers dropped for what they sent", "ops", [
        (f"sum by (cause) (rate(pyrelay_offences_total{{{HERE}}}[$__rate_interval]))", "{{cause}}"),
    ]),
    ("graph", "Pool", "none", [(f"pyrelay_pool_transactions{{{HERE}}}", "transactions")]),
    ("graph", "Head", "none", [(f"chain_head_block{{{RELAY}}}", "{{instance}}")]),
    ("graph", "Traffic", "Bps", [
        (f"rate(p2p_ingress{{{RELAY}}}[$__rate_interval])", "in"), (f"rate(p2p_egress{{{RELAY}}}[$__rate_interval])", "out"),
    ]),
    ("graph", "Dials that failed", "ops", [
        (f"rate(p2p_dials_error_connection{{{RELAY}}}[$__rate_interval])", "connection"),
        (f"rate(p2p_dials_error_useless{{{RELAY}}}[$__rate_interval])", "useless"),
        (f"rate(p2p_dials_error_saturated{{{RELAY}}}[$__rate_interval])", "full"),
    ]),
    ("graph", "Uploads of the descriptor", "ops", [
        (f"rate(pyrelay_onion_service_uploads_total{{{HERE}}}[$__rate_interval])", "taken"),
        (f"rate(pyrelay_onion_service_upload_failures_total{{{HERE}}}[$__rate_interval])", "failed"),
    ]),
    ("graph", "Event loop held for", "s", [(f"pyrelay_event_loop_stall_seconds{{{HERE}}}", "{{instance}}")]),
    ("graph", "Memory", "bytes", [(f"process_resident_memory_bytes{{{RELAY}}}", "{{instance}}")]),
    ("graph", "Processor", "percentunit", [(f"rate(process_cpu_seconds_total{{{RELAY}}}[$__rate_interval])", "{{instance}}")]),
]  # fmt: skip

FLEET: Final[list[Panel]] = [
    ("stat", "Relays", "none", [('count(up{job="pyrelay"} == 1)', "up")]),
    ("stat", "Versions", "none", [("count by (version) (pyrelay_build_info)", "{{version}}")]),
    ("stat", "Without peers", "none", [('count(p2p_peers{job="pyrelay"} == 0) or vector(0)', "relays")]),
    ("stat", "Peers without Tor in only-onion", "none", [
        ('sum(pyrelay_peers{mode="only-onion", network=~"ipv4|ipv6"}) or vector(0)', "peers"),
    ]),
    ("graph", "Peers of each", "none", [('p2p_peers{job="pyrelay"}', "{{instance}}")]),
    ("graph", "Transactions out of each", "ops", [
        ("rate(pyrelay_transactions_relayed_total[$__rate_interval])", "{{instance}}"),
    ]),
    ("graph", "Tor's bootstrap of each", "percent", [("pyrelay_tor_bootstrap_percent", "{{instance}}")]),
    ("graph", "Heads: how far they are apart", "none", [
        ('max(chain_head_block{job="pyrelay"}) - min(chain_head_block{job="pyrelay"})', "blocks"),
    ]),
    ("graph", "Memory of each", "bytes", [('process_resident_memory_bytes{job="pyrelay"}', "{{instance}}")]),
    ("graph", "Restarts", "none", [('changes(process_start_time_seconds{job="pyrelay"}[1h])', "{{instance}}")]),
]  # fmt: skip

BOOK_PANELS: Final[list[Panel]] = [
    ("stat", "Followed by", "none", [(f"sum(pyrelay_discovery_synced{{{BOOK}}})", "relays")]),
    ("stat", "Conflicts", "none", [(f"sum(pyrelay_discovery_conflicts_total{{{BOOK}}})", "since their start")]),
    ("graph", "Entries by state", "none", [(f"pyrelay_discovery_entries{{{BOOK}}}", "{{instance}} {{state}}")]),
    ("graph", "Peers in static-nodes.json", "none", [(f"pyrelay_discovery_static_nodes{{{BOOK}}}", "{{instance}}")]),
    ("graph", "Updates", "ops", [
        (f"sum by (result) (rate(pyrelay_discovery_updates_total{{{BOOK}}}[$__rate_interval]))", "{{result}}"),
    ]),
    ("graph", "Age of the book", "s", [(f"time() - pyrelay_discovery_last_sync_timestamp_seconds{{{BOOK}}}", "{{instance}}")]),
    ("graph", "Watches that ended", "ops", [
        (f"sum by (cause) (rate(pyrelay_discovery_watch_ends_total{{{BOOK}}}[$__rate_interval]))", "{{cause}}"),
    ]),
]  # fmt: skip

DASHBOARDS: Final = {
    "node": ("Node: geth and Prysm", NODE),
    "peers": ("Peers, of any client", PEERS),
    "pyrelay": ("pyrelay", PYRELAY),
    "fleet": ("Fleet of relays", FLEET),
    "addressbook": ("Address book", BOOK_PANELS),
}


def dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    title, panels = DASHBOARDS[name]
    stats = [each for each in panels if each[0] == "stat"]
    graphs = [each for each in panels if each[0] == "graph"]
    drawn = [
        _panel(each, WIDTH // len(stats), 4, number * (WIDTH // len(stats)), 0)
        for number, each in enumerate(stats)
    ]
    for number, each in enumerate(graphs):
        drawn.append(_panel(each, 12, HEIGHT, number % 2 * 12, 4 + number // 2 * HEIGHT))
    for number, panel in enumerate(drawn, 1):
        panel["id"] = number
    return {
        "uid": f"pyrelay-{name}",
        "title": title,
        "tags": ["ethereum"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [_variable(panels)]},
        "panels": drawn,
    }


def _variable(panels: list[Panel]) -> dict[str, Any]:
    jobs = {"node": "geth|prysm-beacon", "peers": "peermon"}
    job = next(
        (jobs[name] for name, (_, each) in DASHBOARDS.items() if each is panels and name in jobs), "pyrelay.*"
    )
    return {
        "name": "instance", "type": "query", "datasource": SOURCE, "refresh": 2, "multi": True, "includeAll": True,
        "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "query": f'label_values(up{{job=~"{job}"}}, instance)',
    }  # fmt: skip


def _panel(panel: Panel, width: int, height: int, x: int, y: int) -> dict[str, Any]:
    kind, title, unit, targets = panel
    return {
        "type": "timeseries" if kind == "graph" else "stat",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height, "x": x, "y": y},
        "fieldConfig": {
            "defaults": {"unit": unit, **({"min": 0} if unit in ("percentunit", "ops", "Bps") else {})},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend, "datasource": SOURCE}
            for number, (query, legend) in enumerate(targets)
        ],
    }


def main(words: list[str]) -> int:
    """Write, or compare."""
    differ = 0
    for name in DASHBOARDS:
        text = json.dumps(dashboard(name), indent=1, ensure_ascii=False) + "\n"
        file = FOLDER / f"{name}.json"
        if "--check" not in words:
            FOLDER.mkdir(exist_ok=True)
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            print(f"{file.name} differs: run tools/dashboards.py", file=sys.stderr)
            differ = 1
    return differ


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
