"""A process that is told what to do by JSON lines; tests/counterparts has those that are."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.aids.geth_tools import leash

__all__ = ["LineProcess", "PeerFailed", "installed"]

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0  # seconds for an answer; their own time-outs are shorter


class PeerFailed(Exception):
    """A counterpart says that a command came to nothing."""


@cache
def installed(script: str) -> str:
    """Run an install script of tools/ and return the program that it prints; skip the test where it fails."""
    done = subprocess.run([ROOT / "tools" / script], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"tools/{script} failed: {done.stderr[-600:]}")
    return done.stdout.strip()


class LineProcess:
    """The process: runs from `open` to `close`.

    Args:
        program: its words.
        log: where its stderr goes.
    """

    def __init__(self, program: Sequence[str], log: Path) -> None:
        self._program, self._log = program, log
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def open(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *leash(),
                *self._program,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=1 << 24,
            )
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        """End it."""
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()
        await self._reader

    async def ask(self, do: str, **arguments: object) -> Any:
        """Give a command; raises PeerFailed."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        stdin = self._child.stdin
        assert stdin is not None
        stdin.write(json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n")
        async with asyncio.timeout(DEADLINE):
            return await future

    async def _read(self) -> None:
        stdout = self._child.stdout
        assert stdout is not None
        async for line in stdout:
            self._answered(json.loads(line))
        for future in self._waiting.values():
            future.set_exception(PeerFailed(f"{self._program[-1]} has ended; see {self._log}"))
        self._waiting.clear()

    def _answered(self, answer: dict[str, Any]) -> None:
        future = self._waiting.pop(answer["id"])
        if future.done():
            return
        if "error" in answer:
            future.set_exception(PeerFailed(f"{self._log.name}: {answer['error']}"))
        else:
            future.set_result(answer["ok"])
