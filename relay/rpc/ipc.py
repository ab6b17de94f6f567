"""JSON-RPC on a unix socket, as `geth attach` speaks it: JSON values in a row; an answer ends with a newline.

Who may connect is decided by the rights of the socket's file (0600, see relay.transports), so every module is
offered here, admin included. A client is read only as fast as it takes its answers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from relay.rpc.conversation import Conversation
from relay.rpc.dispatcher import Dispatcher, Meter
from relay.rpc.framing import JsonFramer
from relay.rpc.outbox import Outbox
from relay.rpc.subscriptions import PendingFeed, Pushing
from relay.transports.sockets import StreamSocket

__all__ = ["IpcOptions", "IpcServer"]

_log = structlog.get_logger("relay.rpc")


@dataclass(frozen=True, slots=True)
class IpcOptions:
    """Limits of the unix socket.

    Attributes:
        clients: at a time; a further one is hung up on.
        request_bytes: of one request or batch.
        backlog_bytes: of answers that a client has not taken; beyond it is hung up on.
        write_seconds: within which a client has to make room for the next answer (geth: defaultWriteTimeout).
        read_bytes: read at a time.
    """

    clients: int = 64
    request_bytes: int = 5 * 1024 * 1024
    backlog_bytes: int = 64 * 1024 * 1024
    write_seconds: float = 10.0
    read_bytes: int = 64 * 1024


class IpcServer:
    """Serves a listening unix socket until it is closed.

    Args:
        dispatcher: answers the requests.
        tasks: a client is a task of this group; a client's fault ends that client, a bug of ours all.
        options: limits.
        feeds: what eth_subscribe offers, by name; without any there are no subscriptions.
        pushing: tells of what an upstream knows.
        meters: makes a counter of a client's calls.
        counters: of clients that were cut off.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        tasks: asyncio.TaskGroup,
        *,
        options: IpcOptions | None = None,
        feeds: Mapping[str, PendingFeed] | None = None,
        pushing: Pushing | None = None,
        meters: Callable[[], Meter] | None = None,
        counters: Counter[str] | None = None,
    ) -> None:
        told = Counter() if counters is None else counters
        self._conversation = Conversation(dispatcher, feeds or None, pushing, counters=told)
        self._meters = meters
        self._tasks = tasks
        self._options = options or IpcOptions()
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._file: _SocketFile | None = None

    async def start(self, sock: StreamSocket) -> None:
        """Serve a listening socket, which this object owns from now on."""
        self._file = _SocketFile(Path(sock.getsockname()))
        limit = self._options.read_bytes
        self._server = await asyncio.start_unix_server(self._accept, sock=sock, limit=limit)

    async def close(self) -> None:
        """Hang up on everybody and remove the socket's file, unless somebody else has put a new one there."""
        if self._server is None or self._file is None:
            return
        self._server.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        if clients:
            await asyncio.wait(clients)
        self._file.remove()
        self._server = self._file = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= self._options.clients:
            _log.warning("ipc client refused", clients=len(self._clients))
            writer.transport.abort()
            return
        client = self._tasks.create_task(self._serve(reader, writer), name="ipc client")
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send(messages: Sequence[bytes]) -> None:
            writer.write(b"".join(message + b"\n" for message in messages))
            await writer.drain()

        options = self._options
        outbox = Outbox(
            send,
            writer.transport.abort,
            self._conversation.counters,
            self._conversation.total,
            limit=options.backlog_bytes,
            seconds=options.write_seconds,
        )
        meter = None if self._meters is None else self._meters()
        try:
            await self._conversation.hold(self._values(reader), outbox, meter)
        finally:
            # Not abort(): what is written may still be on its way to a client that has only closed its side.
            writer.close()

    async def _values(self, reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
        framer = JsonFramer(max_value=self._options.request_bytes)
        while data := await reader.read(self._options.read_bytes):
            for value in framer.feed(data):
                yield value
        if rest := framer.finish():
            yield rest


class _SocketFile:
    """The file of our socket, which another daemon may have replaced when we want to remove it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = path.stat().st_ino

    def remove(self) -> None:
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
