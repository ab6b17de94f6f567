"""Blob transactions with sidecars: real ones made by c-kzg, and quick ones that only look like them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256, shake_128
from pathlib import Path
from typing import Any

from relay.primitives.hashing import keccak256
from relay.relaying.blobs.worker import BAD_CELLS, BAD_PROOFS, GOOD, Job, Verdict
from tests.aids.transactions import envelope, signed_fields

SETUP = Path(__file__).parents[2] / "config" / "kzg_trusted_setup.txt"
CELL = 2048


class Blob:
    """A blob with everything that follows from it.

    Attributes:
        data: 131072 bytes; cells: 128 of 2048 bytes; proofs: of each; commitment; versioned_hash.
    """

    def __init__(self, data: bytes, commitment: bytes, cells: list[bytes], proofs: list[bytes]) -> None:
        self.data, self.commitment, self.cells, self.proofs = data, commitment, cells, proofs
        self.versioned_hash = b"\x01" + sha256(commitment).digest()[1:]


@cache
def trusted_setup() -> Any:
    """The set-up that is shipped; loading it takes two seconds."""
    import ckzg

    return ckzg.load_trusted_setup(str(SETUP), 0)


@cache
def blob_data(number: int) -> bytes:
    """The bytes of the real blob of a number: field elements that look random."""
    return b"".join(b"\0" + keccak256(b"blob %d %d" % (number, at))[1:] for at in range(4096))


@cache
def real_blob(number: int) -> Blob:
    """A blob of its own for each number, by c-kzg: half a second."""
    import ckzg

    data = blob_data(number)
    cells, proofs = ckzg.compute_cells_and_kzg_proofs(data, trusted_setup())
    return Blob(data, ckzg.blob_to_kzg_commitment(data, trusted_setup()), cells, proofs)


@cache
def quick_blob(number: int) -> Blob:
    """One whose commitment and proofs are made up; `QuickVerifier` takes it for right."""
    data = shake_128(b"blob %d" % number).digest(64 * CELL)
    extension = _extension(data)
    commitment = _commitment(data)
    cells = [(data + extension)[at : at + CELL] for at in range(0, 128 * CELL, CELL)]
    return Blob(data, commitment, cells, [_proof(commitment, n) for n in range(128)])


def _commitment(data: bytes) -> bytes:
    return shake_128(b"commitment" + data).digest(48)


def _extension(data: bytes) -> bytes:
    return shake_128(b"extension" + data).digest(64 * CELL)


def _proof(commitment: bytes, index: int) -> bytes:
    return shake_128(b"proof %d" % index + commitment).digest(48)


def blob_transaction(
    *numbers: int,
    version: int | None = 1,
    whole: bool = True,
    make: Callable[[int], Blob] = quick_blob,
    **changes: Any,
) -> bytes:
    """Return canonical bytes of a transaction with these blobs.

    Args:
        numbers: of its blobs.
        version: 1, or None for the older wrapper with a proof a blob.
        whole: with its blobs; False for the form of eth/72.
        make: the blobs.
        changes: fields, `commitments`, `proofs` and `blobs` included.
    """
    made = [make(number) for number in numbers]
    proofs = [proof for each in made for proof in each.proofs[: 1 if version is None else 128]]
    proofs = changes.pop("proofs", proofs)
    blobs = changes.pop("blobs", [each.data for each in made] if whole else [])
    commitments = changes.pop("commitments", [each.commitment for each in made])
    fields = signed_fields(3, **({"blob_hashes": [each.versioned_hash for each in made]} | changes))
    return envelope(3, [fields, *([] if version is None else [version]), blobs, commitments, proofs])


class QuickVerifier:
    """Verifies quick blobs, when it is told to: `Verifier` of relaying without a process.

    Attributes:
        jobs: those that wait, and who is told.
        seen: all jobs.
        warmed: how often it was told to be ready.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.jobs: list[tuple[Job, Callable[[Verdict | None], None]]] = []
        self.seen: list[Job] = []
        self._patient = patient
        self.warmed = 0

    def warm(self) -> None:
        self.warmed += 1

    def verify(self, job: Job, done: Callable[[Verdict | None], None]) -> None:
        self.seen.append(job)
        self.jobs.append((job, done))
        if not self._patient:
            self.work()

    def work(self) -> None:
        """Judge all that wait."""
        while self.jobs:
            job, done = self.jobs.pop(0)
            done(quick_verdict(job))

    def break_down(self) -> None:
        """Have no verdict for any that wait."""
        while self.jobs:
            self.jobs.pop(0)[1](None)


KNOWN = range(40)
"""Numbers of quick blobs that a verdict may be asked for, where the data cells are not all there."""


def quick_verdict(job: Job) -> Verdict:
    count = len(job.commitments) // 48
    made = {quick_blob(number).commitment: quick_blob(number) for number in KNOWN}
    blobs = [made.get(job.commitments[n * 48 : n * 48 + 48]) for n in range(count)]
    bad = [
        number
        for number, part in enumerate(job.parts)
        if part.cells != b"".join(b"".join(_chosen(each, part.mask)) for each in blobs if each)
    ]
    if bad:
        return Verdict(BAD_CELLS, tuple(bad))
    right = b"".join(b"".join(each.proofs) for each in blobs if each)
    if job.proofs != right:
        return Verdict(BAD_PROOFS)
    found = [each for each in blobs if each]
    data = () if job.whole else tuple(each.data for each in found)
    return Verdict(GOOD, (), data, tuple(b"".join(each.cells[64:]) for each in found))


def _chosen(each: Blob, mask: int) -> list[bytes]:
    return [cell for index, cell in enumerate(each.cells) if mask >> index & 1]
