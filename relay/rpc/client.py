"""Calls a daemon by its unix socket; for the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

from relay.primitives.address import UnixAddress
from relay.primitives.errors import LocalError, TransportError
from relay.transports.sockets import SocketFactory, SocketRules

__all__ = ["CallFailed", "call"]

MAX_ANSWER: Final = 32 * 1024 * 1024  # bytes of one line


class CallFailed(LocalError):
    """The daemon answers with an error.

    Attributes:
        code: of JSON-RPC.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


async def call(path: str, method: str, params: Sequence[object] = (), *, timeout: float = 10.0) -> Any:  # noqa: ANN401 - the method's own shape
    """Return the result of one call.

    Args:
        path: of the daemon's socket.
        method: its name.
        params: what json can write.
        timeout: seconds for all of it.

    Raises:
        CallFailed: the daemon says no.
        LocalError: nobody answers there, or not in time, or not JSON-RPC.
    """
    address = UnixAddress(path)
    try:
        async with asyncio.timeout(timeout):
            line = await _exchange(address, _request(method, params))
    except TimeoutError:
        raise LocalError(f"{address} does not answer within {timeout:g} s: is the daemon stuck?") from None
    except (TransportError, OSError) as error:
        raise LocalError(f"{address} can not be reached: is the daemon running? ({error})") from error
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise LocalError(f"{address} hung up in the middle of its answer") from error
    return _result(address, line)


def _request(method: str, params: Sequence[object]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}).encode() + b"\n"


async def _exchange(address: UnixAddress, request: bytes) -> bytes:
    sockets = SocketFactory(SocketRules.only(address))
    reader, writer = await sockets.open_stream(address, limit=MAX_ANSWER)
    try:
        writer.write(request)
        await writer.drain()
        return await reader.readuntil(b"\n")
    finally:
        writer.close()


def _result(address: UnixAddress, line: bytes) -> Any:  # noqa: ANN401 - the method's own shape
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    match answer:
        case {"error": {"code": int(code), "message": str(message)}}:
            raise CallFailed(code, message)
        case {"result": result}:
            return result
        case _:
            raise LocalError(f"{address} does not speak JSON-RPC")
