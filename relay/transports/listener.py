"""Accepting connections, as many as there is room for, and outliving the shortage of descriptors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from relay.primitives.address import Address, TcpAddress, UnixAddress
from relay.transports.sockets import (
    BACKLOG,
    SocketFactory,
    StreamSocket,
    adopt,
    describe,
    is_exhausted,
    until_readable,
)

__all__ = ["Label", "Listener", "serve"]

log = structlog.get_logger("relay.transports")

EXHAUSTED_PAUSE: Final = 1.0  # seconds without accept() when no descriptor is left


class Label(StrEnum):
    """Where a peer came in, which says more than its address.

    Through Tor everybody is 127.0.0.1 (tor.md 23).
    """

    ONION = "onion"
    I2P = "i2p"
    CLEARNET = "clearnet"


class Listener:
    """An open listener; made by `serve`.

    Attributes:
        label: what it is for.
        address: where it listens, with the real port.
        accepted: connections handed to a protocol.
        refused: connections closed at once, since there was no room.
    """

    def __init__(self, sock: StreamSocket, label: Label, *, remove: Path | None) -> None:
        self.label = label
        self.address = _address_of(sock)
        self.accepted = 0
        self.refused = 0
        self._sock = sock
        self._task: asyncio.Task[None] | None = None
        self._file = None if remove is None else (remove, _inode(remove))

    def start(
        self,
        tasks: asyncio.TaskGroup,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        has_room: Callable[[], bool],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """Begin to accept, in a task of the group."""
        self._task = tasks.create_task(
            self._accept_all(protocol_factory, has_room, sleep), name=f"accept {self.label.value}"
        )
        self._task.add_done_callback(lambda _: self._release())

    async def close(self) -> None:
        """Stop accepting and remove the unix socket's file; connections that are there live on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._release()

    async def _accept_all(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        has_room: Callable[[], bool],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        while True:
            connection = await self._accept(sleep)
            if connection is None:
                continue
            if has_room():
                self.accepted += 1
                await adopt(connection, protocol_factory)
            else:
                self.refused += 1
                connection.close()
                # Nothing above suspends while connections queue up: others must have their turn.
                await asyncio.sleep(0)

    async def _accept(self, sleep: Callable[[float], Awaitable[None]]) -> StreamSocket | None:
        """Return the next connection; None if there is none, or when it was gone before it was ours.

        Not loop.sock_accept: cancelled in the wrong moment it loses the connection that it has accepted.
        """
        try:
            connection, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError):
            await until_readable(self._sock)
            return None
        except OSError as error:
            await self._rest(error, sleep)
            return None
        return connection

    async def _rest(self, error: OSError, sleep: Callable[[float], Awaitable[None]]) -> None:
        if is_exhausted(error):
            # The connection stays in the kernel's queue, so without a pause this would spin.
            log.warning("no file descriptor left, accepting pauses", label=self.label.value)
            await sleep(EXHAUSTED_PAUSE)
        else:
            log.debug("accept failed", label=self.label.value, error=describe(error))
            await asyncio.sleep(0)

    def _release(self) -> None:
        self._sock.close()
        if self._file is not None:
            path, inode = self._file
            # Another process may have put its own socket there since.
            if _inode(path) == inode:
                with suppress(OSError):
                    path.unlink()
            self._file = None


def serve(
    tasks: asyncio.TaskGroup,
    sockets: SocketFactory,
    address: Address,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    label: Label,
    *,
    has_room: Callable[[], bool] = lambda: True,
    backlog: int = BACKLOG,
    mode: int = 0o600,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Listener:
    """Listen and accept until closed or until the group ends.

    Args:
        tasks: where the accepting task lives.
        sockets: makes the socket.
        address: TCP (port 0: a free one) or unix.
        protocol_factory: called for each connection there is room for.
        label: what peers that come in here are counted as.
        has_room: asked at each connection; False closes it at once. This is the bound on connections that are
            not admitted yet: only the room above knows which of them are.
        backlog: connections the kernel holds.
        mode: rights of a unix socket's file.
        sleep: waits while no descriptor is left; for tests.

    Raises:
        LocalError: it can not listen there; says why and what to do.
    """
    with ExitStack() as guard:
        if isinstance(address, UnixAddress):
            sock = sockets.listen_unix(address.path, backlog=backlog, mode=mode)
            listener = Listener(sock, label, remove=Path(address.path))
        else:
            sock = sockets.listen_tcp(address.host, address.port, backlog=backlog)
            listener = Listener(sock, label, remove=None)
        guard.callback(sock.close)
        listener.start(tasks, protocol_factory, has_room, sleep)
        guard.pop_all()
    return listener


def _address_of(sock: StreamSocket) -> Address:
    name = sock.getsockname()
    return UnixAddress(name) if isinstance(name, str) else TcpAddress(name[0], name[1])


def _inode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None
