"""What a benchmark run says must be true: misses, losses and changed bytes are never hidden."""

import math

import pytest

from benchmarks import docs, flamegraph, report
from benchmarks.load.peer import POOLED, TRANSACTIONS
from benchmarks.load.sink import Sink
from benchmarks.scenarios import percentile
from benchmarks.targets import ceiling_words, judge, lost, medians
from benchmarks.transactions import WIRE, TransferSet
from relay.protocols.devp2p import snappy
from relay.protocols.eth.packing import encode_pooled, encode_transactions

TRANSFERS = TransferSet([bytes((0xB8, WIRE - 2, 2)) + bytes((n,)) * (WIRE - 3) for n in range(4)])


class Line:
    """The part of a peer that a sink uses."""

    def __init__(self):
        self.sent = []

    def send(self, code, body):
        self.sent.append((code, body))


def verdicts(ours, geth):
    return {row.measure.figure: row.verdict for row in judge(ours, geth)}


def test_a_ratio_over_its_bound_is_missed():
    ours, geth = {"full_1.cpu_us": 70.0, "full_1.rate": 10.0}, {"full_1.cpu_us": 100.0, "full_1.rate": 10.0}
    assert verdicts(ours, geth) == {"full_1.cpu_us": "MISSED", "full_1.rate": "met"}


def test_a_bound_of_our_own_needs_no_geth():
    assert verdicts({"handshakes.ms": 3.1, "peers.per_peer_kb": 100.0}, {}) == {
        "handshakes.ms": "MISSED",
        "peers.per_peer_kb": "met",
    }


def test_a_ratio_without_geth_is_not_called_met():
    assert verdicts({"full_1.cpu_us": 1.0}, {}) == {"full_1.cpu_us": "not measured"}
    assert verdicts({"full_1.cpu_us": math.nan}, {"full_1.cpu_us": 1.0}) == {"full_1.cpu_us": "not measured"}


def test_medians_are_taken_of_each_figure_alone():
    assert medians([{"a": 1.0, "b": 5.0}, {"a": 9.0}, {"a": 2.0}]) == {"a": 2.0, "b": 5.0}


def test_losses_of_any_round_are_summed():
    raw = {"pyrelay": [{"x.missing": 0, "x.rate": 1.0}, {"x.missing": 3}, {"x.missing": 2, "x.foreign": 1}]}
    assert lost(raw) == {"pyrelay x.missing": 5, "pyrelay x.foreign": 1}


def test_a_ceiling_below_twice_the_rate_is_missed():
    words = ceiling_words({"ceiling.rate_1": 150.0}, {"geth": {"full_1.rate": 100.0}})
    assert len(words) == 1
    assert "MISSED" in words[0]


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (99, 10), (0, 1), (100, 10)])
def test_percentile_is_a_value_that_was_measured(percent, expected):
    assert percentile(list(range(1, 11)), percent) == expected
    assert math.isnan(percentile([], percent))


def test_sink_tells_missing_twice_and_changed_transactions():
    sink = Sink(Line())
    wires = TRANSFERS.wires
    changed = wires[2][:-1] + b"\xff"
    sink._message(TRANSACTIONS, snappy.compress(encode_transactions([wires[0], changed])), 1.0)
    sink._message(POOLED, snappy.compress(encode_pooled(7, [wires[1], wires[0]])), 2.0)
    assert sink.count == 4
    verdict = sink.verdict(TRANSFERS, 0, 4)
    assert verdict.arrived == [1.0, 2.0, 0.0, 0.0]
    assert (verdict.missing, verdict.twice, verdict.foreign, verdict.fetched) == (2, 1, 1, 2)


def test_sink_asks_for_what_is_announced():
    line = Line()
    sink = Sink(line)
    (body,) = TRANSFERS.announcements(0, 3, 3)
    sink._message(0x08, body, 1.0)
    ((code, request),) = line.sent
    assert code == 0x09
    assert snappy.decompress(request).endswith(b"".join(b"\xa0" + each for each in TRANSFERS.hashes[:3]))


def test_flame_graph_counts_recursion_once():
    root = flamegraph.read("m:a;m:b;m:a;line 3 4\nm:a;line 1 6\n")
    assert root.count == 10
    assert flamegraph.hottest(root, 5) == [("m:a", 10, 10)]
    assert "<svg" in flamegraph.svg(root, "a < b")


def test_page_shows_misses_and_losses():
    rows = report.rows_as_json(judge({"handshakes.ms": 9.0}, {"handshakes.ms": 4.0}))
    result = {
        "time": "2026-01-01T00:00:00Z",
        "rounds": 3,
        "machine": {
            "processor": "x",
            "cores": 2,
            "memory_gb": 1,
            "system": "Linux",
            "python": "3.11",
            "others_cores": 0.0,
        },
        "relays": {"pyrelay": {"version": "1", "flags": ["--maxpeers=1"]}},
        "transfers": "some",
        "rows": rows,
        "notes": ["LOST OR CHANGED: pyrelay x.missing: 5"],
        "tor": {},
        "micro": [],
    }
    for shown in (docs.page(result, "file.json"), report.text(result)):
        assert "MISSED" in shown
        assert "LOST OR CHANGED" in shown
