"""discv5 nodes of others as processes: tests/counterparts says what they understand."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import socket
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeKey
from tests.aids.geth_tools import leash

__all__ = ["TOOLS", "Counterpart", "PeerFailed", "free_udp_port"]

ROOT = Path(__file__).parents[2]
TOOLS = {"js": "node", "rust": "cargo", "geth": "go"}
"""The counterparts, and what installs them."""
DEADLINE = 20.0  # seconds for an answer; their own time-outs are shorter


class PeerFailed(Exception):
    """A counterpart says that a command came to nothing."""


@cache
def program(kind: str) -> tuple[str, ...]:
    """Install a counterpart and return how it is started."""
    assert shutil.which(TOOLS[kind]), f"the {kind} counterpart needs {TOOLS[kind]}"
    script = ROOT / "tools" / f"install-discv5-{kind}.sh"
    path = subprocess.run([script], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return ("node", path) if kind == "js" else (path,)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Counterpart:
    """A node of another implementation: an async context manager; may be entered again, as a restart.

    Args:
        kind: js, rust or geth.
        key: its identity.
        bootnodes: what it knows at the start.
        log: where its stderr goes.

    Attributes:
        record: its own, once it runs.
    """

    record: NodeRecord

    def __init__(self, kind: str, key: NodeKey, log: Path, bootnodes: Sequence[NodeRecord] = ()) -> None:
        self.kind, self.key, self.port = kind, key, free_udp_port()
        self._bootnodes = [each.to_text() for each in bootnodes]
        self._log = log
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *leash(),
                *program(self.kind),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=1 << 20,
            )
        self._reader = asyncio.create_task(self._read())
        try:
            self.record = await self._records(
                "start", key=self.key.secret.hex(), port=self.port, bootnodes=self._bootnodes
            )
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()
        await self._reader

    async def ping(self, to: NodeRecord) -> int:
        """Return the sequence number that the PONG tells."""
        seq: int = await self.ask("ping", enr=to.to_text())
        return seq

    async def findnode(self, to: NodeRecord, distances: Sequence[int]) -> list[NodeRecord]:
        found: list[NodeRecord] = await self._records("findnode", enr=to.to_text(), distances=list(distances))
        return found

    async def talkreq(self, to: NodeRecord, protocol: str, payload: bytes) -> bytes:
        return bytes.fromhex(
            await self.ask("talkreq", enr=to.to_text(), protocol=protocol, payload=payload.hex())
        )

    async def lookup(self, target: bytes) -> list[NodeRecord]:
        found: list[NodeRecord] = await self._records("lookup", target=target.hex())
        return found

    async def table(self) -> list[NodeRecord]:
        found: list[NodeRecord] = await self._records("table")
        return found

    async def set(self, name: str, value: bytes) -> NodeRecord:
        """Change an entry of its record."""
        self.record = await self._records("set", name=name, value=value.hex())
        return self.record

    async def ask(self, do: str, **arguments: object) -> Any:
        """Give a command; raises PeerFailed."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        stdin = self._child.stdin
        assert stdin is not None
        stdin.write(json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n")
        async with asyncio.timeout(DEADLINE):
            return await future

    async def _records(self, do: str, **arguments: object) -> Any:
        answer = await self.ask(do, **arguments)
        if isinstance(answer, str):
            return NodeRecord.from_text(answer)
        return [NodeRecord.from_text(each) for each in answer]

    async def _read(self) -> None:
        stdout = self._child.stdout
        assert stdout is not None
        async for line in stdout:
            self._answered(json.loads(line))
        for future in self._waiting.values():
            future.set_exception(PeerFailed(f"the {self.kind} counterpart has ended; see {self._log}"))
        self._waiting.clear()

    def _answered(self, answer: dict[str, Any]) -> None:
        future = self._waiting.pop(answer["id"])
        if future.done():
            return
        if "error" in answer:
            future.set_exception(PeerFailed(f"{self.kind}: {answer['error']}"))
        else:
            future.set_result(answer["ok"])
