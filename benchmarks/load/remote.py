"""The handle of a load process."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from benchmarks.load.worker import Worker
from benchmarks.processes import die_with_parent, many_files
from benchmarks.transactions import TransferSet

_FORK = multiprocessing.get_context("fork")  # the transactions are shared, not copied


class Remote:
    """A `Worker` in a process of its own: `call` runs a command, `begin` and `result` do it in two steps."""

    def __init__(self, transfers: TransferSet, worker: type[Worker] = Worker) -> None:
        self._pipe, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=_run, args=(theirs, transfers, worker), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    def begin(self, name: str, *arguments: object) -> None:
        self._pipe.send((name, arguments))

    def result(self, seconds: float = 180) -> Any:
        if not self._pipe.poll(seconds):
            raise TimeoutError("a load process does not answer")
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def call(self, name: str, *arguments: object) -> Any:
        self.begin(name, *arguments)
        return self.result()


def _run(pipe: Connection, transfers: TransferSet, worker: type[Worker]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the starter's, who ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    many_files()
    worker(pipe, transfers).serve()
