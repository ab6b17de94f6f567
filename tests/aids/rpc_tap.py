"""A unix socket in front of another that keeps everything that is asked through it."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path
from typing import Self

__all__ = ["RpcTap"]


class RpcTap:
    """Listens at `path` and passes on to `behind` from `__aenter__` to `__aexit__`.

    Attributes:
        path: of its socket.
        asked: the bytes of all clients, in order.
    """

    def __init__(self, path: Path, behind: Path) -> None:
        self.path, self._behind = path, behind
        self.asked = bytearray()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def methods(self) -> list[str]:
        """The methods that were asked, in order."""
        return [found.decode() for found in re.findall(rb'"method": ?"([^"]+)"', bytes(self.asked))]

    def named(self, tx_hash: str) -> bool:
        """Whether a hash stands in anything that was asked."""
        return tx_hash.removeprefix("0x").lower().encode() in bytes(self.asked).lower()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                inward, outward = await asyncio.open_unix_connection(self._behind)
                try:
                    async with asyncio.TaskGroup() as ways:
                        ways.create_task(self._pass_on(reader, outward, keep=True))
                        ways.create_task(self._pass_on(inward, writer, keep=False))
                finally:
                    outward.close()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if keep:
                    self.asked += data
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.write_eof()
