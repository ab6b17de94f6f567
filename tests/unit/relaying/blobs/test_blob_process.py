"""The process that verifies blobs: c-kzg itself, over its pipe. Commitments and proofs are vectors."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from relay.chain.blobs import ALL_CELLS, CELL_BYTES, DATA_CELLS
from relay.relaying.blobs import process, worker
from relay.relaying.blobs.options import BlobOptions
from relay.relaying.blobs.process import KzgProcess
from relay.relaying.blobs.worker import BAD_CELLS, BAD_PROOFS, GOOD, Job, Part, Verdict
from tests.aids.blobs import SETUP, blob_data
from tests.aids.until import until
from tests.aids.vectors import load

VECTORS = load("blobs/kzg.json")
BLOBS = tuple(blob_data(number) for number in (1, 2))
COMMITMENTS = b"".join(bytes.fromhex(VECTORS[number]["commitment"]) for number in "12")
PROOFS = b"".join(bytes.fromhex(VECTORS[number]["proofs"]) for number in "12")
EXTENSIONS = tuple(VECTORS[number]["sha256 of cells 64 to 127"] for number in "12")
HIGH = ALL_CELLS ^ DATA_CELLS

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def running(**options):
    kzg = KzgProcess(SETUP, BlobOptions(**options))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(kzg.run())
        yield kzg
        task.cancel()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kzg():
    async with running(restart_min=0.0) as made:
        yield made


async def verdict(kzg: KzgProcess, job: Job) -> Verdict | None:
    found: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
    kzg.verify(job, found.set_result)
    async with asyncio.timeout(120):
        return await found


def part(mask: int, halves: tuple[bytes, ...], first: int = 0) -> Part:
    """Cells of both blobs; halves begin with the cell `first`."""
    chosen = [index for index in range(128) if mask >> index & 1]
    cells = [
        half[(index - first) * CELL_BYTES : (index - first + 1) * CELL_BYTES]
        for half in halves
        for index in chosen
    ]
    return Part(mask, b"".join(cells))


def spoiled(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def job(*parts: Part, whole: bool = False, proofs: bytes = PROOFS, commitments: bytes = COMMITMENTS) -> Job:
    return Job(commitments, proofs, parts, whole)


WHOLE = part(DATA_CELLS, BLOBS)


def digests(extensions: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(hashlib.sha256(each).hexdigest() for each in extensions)


async def test_whole_blobs_are_verified_and_extended(kzg: KzgProcess):
    found = await verdict(kzg, job(WHOLE, whole=True))
    assert (found.status, found.bad, found.blobs) == (GOOD, (), ())
    assert digests(found.extensions) == EXTENSIONS


async def test_blobs_follow_from_cells_of_several_peers(kzg: KzgProcess):
    low = (1 << 30) - 1
    found = await verdict(kzg, job(part(low, BLOBS), part(DATA_CELLS ^ low, BLOBS)))
    assert (found.status, found.blobs) == (GOOD, BLOBS)
    assert digests(found.extensions) == EXTENSIONS


async def test_blobs_follow_from_their_extension(kzg: KzgProcess):
    extensions = (await verdict(kzg, job(WHOLE, whole=True))).extensions[:1]
    one = Job(COMMITMENTS[:48], PROOFS[: 128 * 48], (part(HIGH, extensions, 64),))
    found = await verdict(kzg, one)
    assert (found.status, found.blobs, found.extensions) == (GOOD, BLOBS[:1], extensions)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("index", [3, 64, 255], ids=["data cell", "extension", "second blob"])
async def test_a_wrong_proof_is_found(kzg: KzgProcess, whole, index):
    # The proof of another cell: a point of the curve, and so no cheap error.
    other = (index + 1) % 128 * 48
    proofs = PROOFS[: index * 48] + PROOFS[other : other + 48] + PROOFS[(index + 1) * 48 :]
    found = await verdict(kzg, job(WHOLE, whole=whole, proofs=proofs))
    assert found == Verdict(BAD_PROOFS)


@pytest.mark.parametrize("at", [0, 48], ids=["first", "second"])
async def test_a_commitment_that_is_no_point_is_found(kzg: KzgProcess, at):
    commitments = spoiled(COMMITMENTS, at + 5)
    found = await verdict(kzg, job(WHOLE, whole=True, commitments=commitments))
    assert found.status in (BAD_PROOFS, BAD_CELLS)


async def test_a_blob_that_is_none_is_found(kzg: KzgProcess):
    beyond_the_field = Part(DATA_CELLS, b"\xff" * len(WHOLE.cells))
    assert (await verdict(kzg, job(beyond_the_field, whole=True))) == Verdict(BAD_CELLS, (0,))
    assert (await verdict(kzg, job(beyond_the_field))) == Verdict(BAD_CELLS, (0,))


async def test_who_gave_wrong_cells_is_named(kzg: KzgProcess):
    low = (1 << 30) - 1
    good, rest = part(low, BLOBS), part(DATA_CELLS ^ low, BLOBS)
    bad = Part(rest.mask, spoiled(rest.cells, len(rest.cells) - 1))
    assert (await verdict(kzg, job(good, bad))) == Verdict(BAD_CELLS, (1,))
    assert (await verdict(kzg, job(Part(good.mask, spoiled(good.cells, 1)), bad))).bad == (0, 1)
    assert (await verdict(kzg, job(Part(DATA_CELLS, spoiled(WHOLE.cells, 31))))).bad == (0,)


async def test_a_process_that_is_killed_is_started_again(tmp_path: Path, monkeypatch):
    quick = (
        "import sys\n"
        "source, sink = sys.stdin.buffer, sys.stdout.buffer\n"
        f"sink.write({worker.READY!r})\n"
        "sink.flush()\n"
        "while head := source.read(4):\n"
        "    source.read(int.from_bytes(head, 'big'))\n"
        f"    sink.write({Verdict(BAD_PROOFS).encode()!r})\n"
        "    sink.flush()\n"
    )
    replace_worker(tmp_path, monkeypatch, quick)
    async with running(restart_min=0.0) as kzg:
        assert await verdict(kzg, job(WHOLE)) == Verdict(BAD_PROOFS)
        before = kzg.pid
        os.kill(before, signal.SIGKILL)
        assert await verdict(kzg, job(WHOLE)) == Verdict(BAD_PROOFS)
        assert kzg.pid != before


async def test_no_process_runs_before_the_first_job_or_after_the_end():
    async with running() as kzg:
        await asyncio.sleep(0)
        assert (kzg.pid, kzg.starts) == (None, 0)
        kzg.verify(job(WHOLE, whole=True), lambda _: None)
        pid = await until(lambda: kzg.pid, "it is started", 30.0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_process_that_is_wanted_is_there_before_the_first_job():
    async with running() as kzg:
        kzg.warm()
        await until(lambda: kzg.starts == 1, "it starts")
        assert await verdict(kzg, job(WHOLE, whole=True)) is not None
        assert kzg.starts == 1


async def test_a_job_that_ends_the_process_twice_is_given_up(tmp_path: Path):
    kzg = KzgProcess(tmp_path / "no such set-up", BlobOptions(restart_min=0.0, restart_max=0.0))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(kzg.run())
        assert await verdict(kzg, job(WHOLE, whole=True)) is None
        assert kzg.starts == 2
        task.cancel()


def replace_worker(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    script = folder / "worker.py"
    script.write_text(program)
    monkeypatch.setattr(process.worker, "__file__", str(script))


@pytest.mark.parametrize("program", ["print('hello')", "import time; time.sleep(600)", "1 / 0"])
async def test_a_process_that_does_not_speak_is_given_up(tmp_path: Path, monkeypatch, program):
    replace_worker(tmp_path, monkeypatch, program)
    kzg = KzgProcess(SETUP, BlobOptions(restart_min=0.0, restart_max=0.0, start_timeout=0.2))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(kzg.run())
        assert await verdict(kzg, job(WHOLE, whole=True)) is None
        task.cancel()


async def test_the_process_ends_with_its_input():
    class Nobody:
        def judge(self, asked: Job) -> Verdict:
            return Verdict(BAD_CELLS, (len(asked.parts),))

    frame = job(WHOLE).encode()
    out = io.BytesIO()
    worker.serve(io.BytesIO(frame + frame + frame[:100]), out, Nobody())
    assert out.getvalue() == 2 * Verdict(BAD_CELLS, (1,)).encode()
