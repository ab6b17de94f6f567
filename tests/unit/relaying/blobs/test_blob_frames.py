"""What goes between the relay and the process that verifies blobs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.chain.blobs import ALL_CELLS, CELL_BYTES
from relay.relaying.blobs import worker
from relay.relaying.blobs.worker import BAD_CELLS, BAD_PROOFS, GOOD, Job, Part, Verdict


@given(st.data())
def test_jobs_and_verdicts_come_back_as_they_were(data):
    count = data.draw(st.integers(1, 6))
    masks = data.draw(st.lists(st.integers(1, ALL_CELLS), max_size=3))
    parts = tuple(Part(mask, bytes(count * mask.bit_count() * CELL_BYTES)) for mask in masks)
    made = Job(b"c" * 48 * count, b"p" * 48 * 128 * count, parts, data.draw(st.booleans()))
    assert worker.read_job(made.encode()[4:]) == made
    halves = tuple(bytes((n,)) * 64 * CELL_BYTES for n in range(count))
    status = data.draw(st.sampled_from((GOOD, BAD_CELLS, BAD_PROOFS)))
    bad = tuple(data.draw(st.lists(st.integers(0, 200), max_size=5)))
    for blobs in ((), halves):
        said = Verdict(status, bad, blobs, halves)
        assert worker.read_verdict(said.encode()[4:]) == said
