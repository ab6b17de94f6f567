"""Stems on the metrics page."""

from __future__ import annotations

from relay.observe.stem_metrics import stem_metrics
from relay.relaying.stem_counters import StemCounters


def test_what_was_passed_on_is_one_number_for_ours_and_others():
    counts = StemCounters()
    counts.held, counts.begun, counts.carried = 3, 2, 5
    counts.ended["fluffed"] = 4
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in stem_metrics(counts)
        for sample in family.samples
    }
    assert found == {
        ("pyrelay_stem_held",): 3,
        ("pyrelay_stem_passed_total",): 7,
        ("pyrelay_stem_ended_total", "fluffed"): 4,
    }
