"""discv5 nodes of others as processes: tests/counterparts says what they understand."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeKey
from tests.aids.line_process import LineProcess, PeerFailed, installed

__all__ = ["Counterpart", "PeerFailed", "free_udp_port"]


def program(kind: str) -> tuple[str, ...]:
    """Install a counterpart and return how it is started."""
    path = installed(f"install-discv5-{kind}.sh")
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
        self._process = LineProcess(program(kind), log)

    async def __aenter__(self) -> Self:
        await self._process.open()
        try:
            self.record = await self._records(
                "start", key=self.key.secret.hex(), port=self.port, bootnodes=self._bootnodes
            )
        except BaseException:
            await self._process.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.close()

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
        return await self._process.ask(do, **arguments)

    async def _records(self, do: str, **arguments: object) -> Any:
        answer = await self.ask(do, **arguments)
        if isinstance(answer, str):
            return NodeRecord.from_text(answer)
        return [NodeRecord.from_text(each) for each in answer]
