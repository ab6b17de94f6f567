"""Runs the verifying process: starts it when it is wanted, and again when it dies; one job at a time."""

from __future__ import annotations

import asyncio
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from relay.relaying.blobs import worker
from relay.relaying.blobs.options import BlobOptions
from relay.relaying.blobs.worker import READY, Job, Verdict, read_verdict

__all__ = ["KzgProcess"]

_LENGTH: Final = struct.Struct(">I")
_BUFFER: Final = 4 << 20  # bytes of a verdict at most, without stopping to read
_TRIES: Final = 2  # a job that ends the process twice is given up

_GRACE: Final = 1.0  # seconds in which one that seems to have ended is let go by itself

_Done = Callable[[Verdict | None], None]


class _Died(Exception):
    """The process ended, or is stuck."""


class _Waiting:
    __slots__ = ("done", "job", "tries")

    def __init__(self, job: Job, done: _Done) -> None:
        self.job, self.done, self.tries = job, done, 0


class KzgProcess:
    """Verifies jobs in a process of its own.

    Nothing runs before `run`, and no process before the first job or `warm`. Who hands jobs in bounds how
    many there are.

    Args:
        setup: the file with the trusted set-up.
        options: its times.
    """

    def __init__(self, setup: Path, options: BlobOptions | None = None) -> None:
        self._setup = setup
        self._options = options or BlobOptions()
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._wanted = False
        self._child: Process | None = None
        self._log = structlog.get_logger("relay.relaying")
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """Of the process while it runs."""
        return None if self._child is None else self._child.pid

    @property
    def command(self) -> tuple[str, ...]:
        """The words that start it."""
        # -P: the folder of the script is no place to import from.
        return (sys.executable, "-P", worker.__file__, str(self._setup))

    def verify(self, job: Job, done: _Done) -> None:
        """Take a job; done is called later with the verdict, or with None when there can't be one."""
        self._queue.append(_Waiting(job, done))
        self._wake.set()

    def warm(self) -> None:
        """Start it soon, although no job is there: its set-up takes seconds, and peers wait no longer."""
        self._wanted = True
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled; then the process is gone."""
        delay = self._options.restart_min
        try:
            while True:
                await self._next()
                try:
                    await self._work()
                    delay = self._options.restart_min
                except _Died as error:
                    self._log.warning("blob verification broke off", reason=str(error), retry=delay)
                    await self._end(_GRACE)
                    self._give_up()
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, self._options.restart_max)
        finally:
            await self._end()

    async def _next(self) -> None:
        while not self._queue and (self._child is not None or not self._wanted):
            self._wake.clear()
            await self._wake.wait()

    def _give_up(self) -> None:
        if not self._queue:
            self._wanted = False
            return
        waiting = self._queue[0]
        waiting.tries += 1
        if waiting.tries >= _TRIES:
            self._queue.popleft()
            waiting.done(None)

    async def _work(self) -> None:
        child = self._child or await self._start()
        if not self._queue:
            return
        waiting = self._queue[0]
        verdict = await self._ask(child, waiting.job)
        self._queue.popleft()
        waiting.done(verdict)

    async def _start(self) -> Process:
        # Its own session: Ctrl-C is for the relay.
        try:
            child = self._child = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=_BUFFER, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise _Died(f"it cannot be started: {error.strerror}") from None
        self.starts += 1
        ready = await self._read(child, len(READY), self._options.start_timeout)
        if ready != READY:
            raise _Died("it does not speak as it should")
        self._log.debug("blob verification is ready")
        return child

    async def _ask(self, child: Process, job: Job) -> Verdict:
        assert child.stdin is not None
        child.stdin.write(job.encode())
        (size,) = _LENGTH.unpack(await self._read(child, _LENGTH.size, self._options.verify_timeout))
        return read_verdict(await self._read(child, size, self._options.verify_timeout))

    async def _read(self, child: Process, size: int, timeout: float) -> bytes:
        assert child.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                return await child.stdout.readexactly(size)
        except TimeoutError:
            raise _Died(f"no answer within {timeout:g} s") from None
        except (asyncio.IncompleteReadError, OSError):
            raise _Died("it ended") from None

    async def _end(self, grace: float = 0.0) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        # Killing one that has ended by itself makes asyncio complain: it takes the status that it waits for.
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await child.wait()
        with suppress(ProcessLookupError):
            if child.returncode is None:
                child.kill()
        await child.wait()
