"""The program that verifies blobs, run as a process of its own.

c-kzg holds Python's lock for all of its time: 100 ms and more for a transaction. It is started as a script,
imports nothing of the relay, opens nothing but the set-up file, and ends when its input does. Frames on
standard input and output: four bytes with the length, then a job or a verdict. What they hold was bounded by
who wrote them, which is the relay itself.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, Final, NamedTuple

__all__ = ["BAD_CELLS", "BAD_PROOFS", "GOOD", "Job", "Part", "Verdict", "read_job", "read_verdict", "serve"]

GOOD: Final = 0
BAD_CELLS: Final = 1  # some parts are not what was committed to
BAD_PROOFS: Final = 2  # the proofs that came with the transaction are wrong
READY: Final = b"kzg\n"  # written once the set-up is loaded

CELLS: Final = 128
HALF: Final = 64
CELL_BYTES: Final = 2048
POINT: Final = 48  # bytes of a commitment or a proof
MASK: Final = 16
DATA: Final = (1 << HALF) - 1
NICE: Final = 2  # who waits for the relay itself goes first

_HEAD: Final = struct.Struct(">BBB")  # blobs, parts, whole
_LENGTH: Final = struct.Struct(">I")


class Part(NamedTuple):
    """Cells from one peer.

    Attributes:
        mask: which, bit i for cell i.
        cells: blob by blob, in each by index, one after the other.
    """

    mask: int
    cells: bytes


class Job(NamedTuple):
    """A transaction to be verified and completed.

    Attributes:
        commitments: 48 bytes for each blob, one after the other.
        proofs: 128 times 48 bytes for each blob.
        parts: together at least 64 cells, none twice.
        whole: the one part, the blobs, came with the proofs from one peer: one look tells who is wrong.
    """

    commitments: bytes
    proofs: bytes
    parts: tuple[Part, ...]
    whole: bool = False

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.commitments) + len(self.proofs) + sum(len(part.cells) for part in self.parts)

    def encode(self) -> bytes:
        """Return the frame."""
        count = len(self.commitments) // POINT
        pieces = [_HEAD.pack(count, len(self.parts), self.whole), self.commitments, self.proofs]
        for part in self.parts:
            pieces += (part.mask.to_bytes(MASK, "little"), part.cells)
        return _LENGTH.pack(sum(map(len, pieces))) + b"".join(pieces)


class Verdict(NamedTuple):
    """What became of a job.

    Attributes:
        status: GOOD, BAD_CELLS or BAD_PROOFS.
        bad: numbers of the parts that are wrong.
        blobs: 131072 bytes each; only when they were put together from parts.
        extensions: the cells 64 to 127 of each blob, as long. Empty unless good.
    """

    status: int
    bad: tuple[int, ...] = ()
    blobs: tuple[bytes, ...] = ()
    extensions: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the frame."""
        counts = bytes((self.status, len(self.blobs), len(self.extensions), len(self.bad), *self.bad))
        pieces = [counts, *self.blobs, *self.extensions]
        return _LENGTH.pack(sum(map(len, pieces))) + b"".join(pieces)


def read_job(frame: bytes) -> Job:
    """Read a frame without its length."""
    count, parts, whole = _HEAD.unpack_from(frame)
    at = _HEAD.size
    commitments, at = frame[at : at + count * POINT], at + count * POINT
    proofs, at = frame[at : at + count * CELLS * POINT], at + count * CELLS * POINT
    found = []
    for _ in range(parts):
        mask, at = int.from_bytes(frame[at : at + MASK], "little"), at + MASK
        size = count * mask.bit_count() * CELL_BYTES
        found.append(Part(mask, frame[at : at + size]))
        at += size
    return Job(commitments, proofs, tuple(found), bool(whole))


def read_verdict(frame: bytes) -> Verdict:
    """Read a frame without its length."""
    status, blobs, extensions, bad = frame[:4]
    at, size = 4 + bad, HALF * CELL_BYTES
    halves = [frame[start : start + size] for start in range(at, at + (blobs + extensions) * size, size)]
    return Verdict(status, tuple(frame[4:at]), tuple(halves[:blobs]), tuple(halves[blobs:]))


class Judge:
    """Verifies jobs with c-kzg.

    Args:
        kzg: the module ckzg.
        setup: what its load_trusted_setup returned.
    """

    def __init__(self, kzg: Any, setup: Any) -> None:  # noqa: ANN401  without types of its own
        self._kzg, self._setup = kzg, setup

    def judge(self, job: Job) -> Verdict:
        """Verify every part and every proof, and compute what is missing."""
        count = len(job.commitments) // POINT
        masks = [_indices(part.mask) for part in job.parts]
        if not job.whole:
            bad = [
                n for n, part in enumerate(job.parts) if not self._holds(job, masks[n], _split(part.cells))
            ]
            if bad:
                return self._blame(job, bad)
        held = [_of_blob(job.parts, masks, blob, count) for blob in range(count)]
        full = [self._complete(cells) for cells in held]
        if not all(full):
            return Verdict(BAD_CELLS, tuple(range(len(job.parts))))
        known = set() if job.whole else {index for indices in masks for index in indices}
        rest = [index for index in range(CELLS) if index not in known]
        if rest and not self._holds(job, rest, [cells[index] for cells in full for index in rest]):
            return Verdict(BAD_PROOFS)
        blobs = () if job.whole else tuple(b"".join(cells[:HALF]) for cells in full)
        return Verdict(GOOD, (), blobs, tuple(b"".join(cells[HALF:]) for cells in full))

    def _holds(self, job: Job, indices: Sequence[int], cells: list[bytes]) -> bool:
        """Tell whether cells of all blobs, blob by blob, are those that the proofs prove."""
        count = len(job.commitments) // POINT
        commitments, proofs, numbers = [], [], []
        for blob in range(count):
            commitment = job.commitments[blob * POINT : (blob + 1) * POINT]
            for index in indices:
                at = (blob * CELLS + index) * POINT
                commitments.append(commitment)
                proofs.append(job.proofs[at : at + POINT])
                numbers.append(index)
        try:
            return bool(
                self._kzg.verify_cell_kzg_proof_batch(commitments, numbers, cells, proofs, self._setup)
            )
        except (RuntimeError, ValueError):  # no points of the curve, no elements of the field
            return False

    def _blame(self, job: Job, bad: list[int]) -> Verdict:
        """Tell wrong cells from wrong proofs, where a wrong part is enough to make the blobs out of.

        The proofs are not signed: who passes a transaction on could make others look like liars.
        """
        for number in bad:
            part = job.parts[number]
            if part.mask & DATA == DATA and self._commits(job, part):
                return Verdict(BAD_PROOFS)
        return Verdict(BAD_CELLS, tuple(bad))

    def _commits(self, job: Job, part: Part) -> bool:
        size = part.mask.bit_count() * CELL_BYTES
        for blob in range(len(job.commitments) // POINT):
            data = part.cells[blob * size : blob * size + HALF * CELL_BYTES]
            try:
                commitment = self._kzg.blob_to_kzg_commitment(data, self._setup)
            except (RuntimeError, ValueError):
                return False
            if commitment != job.commitments[blob * POINT : (blob + 1) * POINT]:
                return False
        return True

    def _complete(self, held: dict[int, bytes]) -> list[bytes]:
        """Return all cells of a blob, or nothing when there is no such blob."""
        try:
            if all(index in held for index in range(HALF)):
                found: list[bytes] = self._kzg.compute_cells(
                    b"".join([held[index] for index in range(HALF)]), self._setup
                )
            else:
                indices = sorted(held)
                found, _ = self._kzg.recover_cells_and_kzg_proofs(
                    indices, [held[index] for index in indices], self._setup
                )
        except (RuntimeError, ValueError):
            return []
        return found


def _indices(mask: int) -> list[int]:
    return [index for index in range(CELLS) if mask >> index & 1]


def _split(cells: bytes) -> list[bytes]:
    return [cells[at : at + CELL_BYTES] for at in range(0, len(cells), CELL_BYTES)]


def _of_blob(
    parts: Sequence[Part], masks: Sequence[Sequence[int]], blob: int, count: int
) -> dict[int, bytes]:
    held: dict[int, bytes] = {}
    for part, indices in zip(parts, masks, strict=True):
        size = len(part.cells) // count
        cells = _split(part.cells[blob * size : (blob + 1) * size])
        held.update(zip(indices, cells, strict=True))
    return held


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    frame = stream.read(size)
    return frame if len(frame) == size else None


def serve(source: BinaryIO, sink: BinaryIO, judge: Judge) -> None:
    """Answer jobs until the input ends."""
    while (frame := _read(source)) is not None:
        sink.write(judge.judge(read_job(frame)).encode())
        sink.flush()


def main(setup: str) -> None:
    """Load the set-up and serve standard input and output."""
    import ckzg  # noqa: PLC0415  the relay imports this module, too, and must not load it

    os.nice(NICE)
    judge = Judge(ckzg, ckzg.load_trusted_setup(setup, 0))
    sink = sys.stdout.buffer
    sink.write(READY)
    sink.flush()
    serve(sys.stdin.buffer, sink, judge)


if __name__ == "__main__":
    main(sys.argv[1])
