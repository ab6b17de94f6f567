"""A standing connection to a daemon's unix socket: calls, and notifications as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from relay.primitives.address import UnixAddress
from relay.primitives.errors import LocalError, TransportError
from relay.rpc.client import CallFailed
from relay.transports.sockets import SocketFactory, SocketRules

__all__ = ["DaemonLink"]

RETRY_SECONDS: Final = 0.05
HUNG_UP_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 10.0
MAX_LINE: Final = 1 << 20  # bytes; a daemon of ours never writes longer ones here


class DaemonLink:
    """JSON-RPC with one daemon.

    Args:
        path: of its socket.
        name: for messages.

    Attributes:
        opened: set once calls can be made.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._address = UnixAddress(str(path))
        self._sockets = SocketFactory(SocketRules.only(self._address))
        self._name = name
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._subscriptions: dict[str, Callable[[Any], None]] = {}
        self._subscribing: dict[int, Callable[[Any], None]] = {}  # by the id of the request
        self._last_id = 0
        self.opened = asyncio.Event()

    async def run(self) -> None:
        """Connect as soon as the daemon listens, and read until cancelled, which hangs up.

        Raises:
            LocalError: the daemon hung up, or speaks something else.
        """
        reader, self._writer = await self._connect()
        self.opened.set()
        try:
            with suppress(OSError):
                while line := await reader.readline():
                    self._take(_decoded(line))
        finally:
            self._writer.close()
        # If it ended, whoever watches its process knows more, and comes first.
        await asyncio.sleep(HUNG_UP_SECONDS)
        raise LocalError(f"{self._name} hung up")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await self._sockets.open_stream(self._address, limit=MAX_LINE)
            except TransportError:
                await asyncio.sleep(RETRY_SECONDS)

    async def call(self, method: str, *params: object) -> Any:  # noqa: ANN401 - the method's own shape
        """Return the result of a call.

        Raises:
            CallFailed: the daemon says no.
            LocalError: it does not answer.
        """
        assert self._writer is not None
        self._last_id += 1
        number = self._last_id
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        self._writer.write(json.dumps(request).encode())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            raise LocalError(f"{self._name} does not answer {method} in {ANSWER_SECONDS:g} s") from None
        finally:
            del self._answers[number]

    async def subscribe(self, what: str, deliver: Callable[[Any], None]) -> None:
        """Have `deliver` called with each notification of eth_subscribe."""
        # Noted before the answer is there: the first notification may come in the same read.
        self._subscribing[self._last_id + 1] = deliver
        await self.call("eth_subscribe", what)

    def _take(self, message: Any) -> None:  # noqa: ANN401 - any JSON
        match message:
            case {"method": "eth_subscription", "params": {"subscription": str(key), "result": result}}:
                deliver = self._subscriptions.get(key)
                if deliver is not None:
                    deliver(result)
            case {"id": int(number), "error": {"code": int(code), "message": str(text)}}:
                self._answer(number).set_exception(CallFailed(code, f"{self._name}: {text}"))
            case {"id": int(number), "result": result}:
                if (waiting := self._subscribing.pop(number, None)) is not None:
                    self._subscriptions[result] = waiting
                self._answer(number).set_result(result)
            case _:
                raise LocalError(f"{self._name} does not speak JSON-RPC")

    def _answer(self, number: int) -> asyncio.Future[Any]:
        answer = self._answers.get(number)
        if answer is None or answer.done():  # its caller has given up
            return asyncio.get_running_loop().create_future()
        return answer


def _decoded(line: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(line)
    except ValueError:
        return None
