"""The table of a crawl at several widths, and its JSON."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from relay.app.networks import current_fork_id, load_network
from relay.chain.forknames import ForkNames
from relay.cli.nodes_table import View, describe_node, heading, node_totals, render
from relay.discovery.crawled import Client, CrawledNode, Found, NodeSet
from relay.primitives.enr import build_record
from relay.primitives.forkid import ForkId
from relay.primitives.onion import OnionKey
from tests.aids.discv5 import node_key

MAINNET, SEPOLIA = load_network("mainnet"), load_network("sepolia")
NAMES = ForkNames([MAINNET, SEPOLIA])
ONION = OnionKey.from_seed(bytes(32)).address
GETH = "Geth/v1.17.8-stable-1f2a3b4c/linux-amd64/go1.26"


@pytest.fixture
def nodes() -> NodeSet:
    return NodeSet(lambda: 1000.0)


def add(
    nodes: NodeSet, number: int, client: str | None = None, by: str = "v5", **entries: object
) -> CrawledNode:
    record = build_record(node_key(number), 1, **entries)
    nodes.hear(Found(record.public_key, record.node_id, record, None))
    nodes.answer(record.node_id, by)
    node = nodes.get(record.node_id)
    assert node is not None
    node.client = None if client is None else Client(client, ("eth/69", "snap/1"))
    return node


def fill(nodes: NodeSet) -> None:
    mainnet = current_fork_id(MAINNET)
    add(nodes, 1, GETH, ip="20.0.0.1", tcp=30303, udp=30303, fork_id=mainnet)
    add(nodes, 2, "pyrelay/v0.1.0", "onion", onion3=ONION, tcp=30303, fork_id=mainnet)
    add(
        nodes,
        3,
        "Nethermind/v1.39.0+abc/x",
        ip="20.0.0.3",
        ip6="2a00::1",
        tcp=1,
        fork_id=current_fork_id(SEPOLIA),
    )
    add(nodes, 4, ip="20.0.0.4", onion3=ONION, tcp=2, fork_id=ForkId(b"\xde\xad\xbe\xef", 0))
    add(nodes, 5, ip="20.0.0.5", udp=9000, extra={"eth2": b"\0" * 16})
    add(nodes, 6, "[red]evil\x1b[2J\n[/red]/v" + "9" * 500, ip="20.0.0.6", tcp=1)


def view(nodes: NodeSet, **changes: object) -> View:
    values: dict[str, object] = {
        "nodes": tuple(nodes.answered()), "heard": len(nodes) + 7, "visits": 42, "elapsed": 12.4,
        "now": 1009.0, "running": True,
    }  # fmt: skip
    return View(**(values | changes))  # type: ignore[arg-type]


def drawn(found: View, width: int, rows: int = 50, **more: bool) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False, force_terminal=True)
    console.print(render(found, NAMES, width, rows, **more))
    return console.export_text()


def row(text: str, number: int) -> str:
    return next(line for line in text.splitlines() if node_key(number).public_key.hex()[:11] in line)


def test_80_columns_hold_all_that_was_asked_for(nodes):
    fill(nodes)
    text = drawn(view(nodes), 80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert row(text, 1).split()[1:] == ["ipv4", "mainnet", "bpo2", "Geth/v1.17.8", "-", "9s"]
    assert row(text, 2).split()[1:] == ["onion", "mainnet", "bpo2", "pyrelay/v0.1.0", ONION[:7] + "…", "9s"]
    assert row(text, 3).split()[1:] == [
        "ipv4",
        "ipv6",
        "sepolia",
        row(text, 3).split()[4],
        "Nethermind/v1…",
        "-",
        "9s",
    ]
    assert row(text, 4).split()[1:6] == ["ipv4", "onion", "0xdeadbeef", "-", "-"]
    assert row(text, 5).split()[1:4] == ["ipv4", "consensus", "-"]


def test_140_columns_hold_addresses_and_the_discovery_too(nodes):
    fill(nodes)
    text = drawn(view(nodes), 140)
    assert all(len(line) <= 140 for line in text.splitlines())
    assert row(text, 1).split()[1:4] == ["v5", "ipv4", "20.0.0.1:30303"]
    assert "seen" in text
    assert "Nethermind/v1.39.0 " in row(text, 3)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140, 250])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_nothing_runs_over_and_no_peers_words_reach_the_terminal_raw(nodes, width, ascii_only):
    fill(nodes)
    text = drawn(view(nodes), width, ascii_only=ascii_only)
    assert all(len(line) <= width for line in text.splitlines())
    assert "\x1b" not in text
    assert text.isascii() or not ascii_only
    if width >= 140:
        assert "[red]evil?[2J?[/red]" in text


def test_the_newest_rows_are_shown_and_the_others_counted(nodes):
    fill(nodes)
    text = drawn(view(nodes), 80, rows=2)
    assert node_key(6).public_key.hex()[:11] in text
    assert node_key(4).public_key.hex()[:11] not in text
    assert "and 4 more, found earlier" in text
    assert "mainnet 2" in text  # totals are over all


def test_without_a_node_there_is_only_the_heading(nodes):
    text = drawn(view(nodes, running=False, heard=3), 80)
    assert text.strip() == "0 nodes answered, 3 more were heard of; 42 visits, 12 s, done"
    assert heading(view(nodes)).endswith("12 s")


def test_the_totals(nodes):
    fill(nodes)
    totals = node_totals(nodes.answered(), NAMES)
    assert totals["networks"] == {"ipv4": 5, "ipv6": 1, "onion": 2}
    assert totals["chains"] == {"mainnet": 2, "sepolia": 1, "0xdeadbeef": 1, "consensus": 1, "unknown": 1}
    assert totals["forks"]["mainnet/bpo2"] == 2
    assert totals["clients"]["Geth"] == totals["clients"]["pyrelay"] == 1
    assert totals["answered"] == {"v5": 5, "onion": 1}


def test_a_crawl_without_hellos_has_no_total_of_clients(nodes):
    add(nodes, 1, ip="20.0.0.1", udp=1)
    assert "clients" not in drawn(view(nodes), 80)


def test_json_of_a_node(nodes):
    node = add(
        nodes, 1, GETH, ip="20.0.0.1", tcp=30303, udp=30304, onion3=ONION, fork_id=current_fork_id(MAINNET)
    )
    said = json.loads(json.dumps(describe_node(node, NAMES)))
    fork = current_fork_id(MAINNET)
    assert said == {
        "id": node.node_id.hex(),
        "node_id": node.public_key.hex(),
        "enr": node.record.to_text(),
        "enode": f"enode://{node.public_key.hex()}@20.0.0.1:30303",
        "seq": 1,
        "networks": ["ipv4", "onion"],
        "addresses": {"ipv4": "20.0.0.1", "onion": ONION},
        "endpoints": {"ipv4": "20.0.0.1:30303", "onion": f"{ONION}:30303"},
        "onion": ONION,
        "answered": ["v5"],
        "chain": "mainnet",
        "fork": {"hash": "0x" + fork.hash.hex(), "next": fork.next},
        "fork_name": "bpo2",
        "client": GETH,
        "capabilities": ["eth/69", "snap/1"],
        "no_client": None,
        "first_seen": 1000.0,
        "last_seen": 1000.0,
        "score": 1,
    }


def test_json_says_null_where_nothing_is_known(nodes):
    said = describe_node(add(nodes, 1), NAMES)
    assert [said[each] for each in ("enode", "onion", "chain", "fork", "fork_name", "client")] == [None] * 6


@pytest.mark.parametrize(
    ("age", "text"), [(0, "0s"), (99, "99s"), (100, "1m"), (5999, "99m"), (6000, "1h"), (-5, "0s")]
)
def test_ages(nodes, age, text):
    add(nodes, 1, ip="20.0.0.1", udp=1)
    assert row(drawn(view(nodes, now=1000.0 + age), 80), 1).split()[-1] == text
