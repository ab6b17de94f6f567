"""Asks a node: JSON-RPC over HTTP, WebSocket or a unix socket, and a beacon node's API by GET.

The connections are those of relay.rpc.upstream; what is different here is that an answer may hold thousands
of peers, of which only one is ever decoded at a time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from relay.monitor.peer import clean
from relay.primitives.errors import RelayError
from relay.rpc.upstream.budget import Budget
from relay.rpc.upstream.faults import UpstreamFault
from relay.rpc.upstream.http import HttpLink
from relay.rpc.upstream.messages import MessageLink
from relay.rpc.upstream.opener import Opener
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.upstream import Link
from relay.rpc.upstream.urls import UpstreamUrl
from relay.transports.dialer import Dialer
from relay.transports.sockets import SocketFactory

__all__ = ["BeaconApi", "JsonRpc", "MethodMissing", "RpcRefused", "RpcSaidNo", "items"]

MAX_ANSWER: Final = 64 * 1024 * 1024  # bytes; 10,000 peers take eight MB
_WHOLE_BELOW: Final = 256 * 1024  # bytes of an answer that are decoded at once
_ARRAY: Final = re.compile(
    r'\s*\{(?:\s*"(?:jsonrpc"\s*:\s*"2\.0"|id"\s*:\s*\d{1,15})\s*,){0,2}\s*"(?:result|data)"\s*:\s*\[\s*(?!\])'
)
_AFTER: Final = re.compile(r"\s*([,\]])\s*")
_NOT_SERVED: Final = frozenset({-32601, -32604})  # EIP-1474; the other one is Besu's METHOD_NOT_ENABLED


class RpcRefused(RelayError):
    """The node does not answer as it should: absent, slow, unauthorised, or something else than a node."""


class RpcSaidNo(RpcRefused):
    """The node is there, and answers with an error."""


class MethodMissing(RpcSaidNo):
    """The node does not have the method, or not at this address."""


class JsonRpc:
    """An execution node.

    Args:
        url: of its JSON-RPC.
        dialer: for anything but unix sockets.
        sockets: for unix sockets.
        seconds: for one answer.
    """

    def __init__(self, url: UpstreamUrl, dialer: Dialer, sockets: SocketFactory, *, seconds: float) -> None:
        options = _options(seconds)
        opener = Opener(url, dialer, sockets, seconds=options.connect_seconds)
        kind = MessageLink if url.scheme.pushes else HttpLink
        self._link: Link = kind(opener, options, Budget(MAX_ANSWER))
        self._seconds = seconds
        self._ids = itertools.count(1)

    async def call(self, method: str, *params: object) -> Any:  # noqa: ANN401 - the method's own shape
        """Return a result.

        Raises:
            MethodMissing: the node does not serve the method here.
            RpcRefused: any other reason for which there is none.
        """
        return _result(_decoded(await self._exchange(method, params)))

    async def call_for_list(self, method: str) -> Iterator[Any]:
        """Return the entries of a result that is a list, one after another; raises as `call`, also later."""
        return items(await self._exchange(method, ()))

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    async def _exchange(self, method: str, params: tuple[object, ...]) -> bytes:
        call_id = next(self._ids)
        words = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": list(params)}
        return await _asked(self._link, call_id, json.dumps(words).encode(), self._seconds)


class BeaconApi:
    """A beacon node.

    Args:
        url: of its API; http or https.
        dialer: as `JsonRpc`.
        sockets: as `JsonRpc`.
        seconds: for one answer.
    """

    def __init__(self, url: UpstreamUrl, dialer: Dialer, sockets: SocketFactory, *, seconds: float) -> None:
        self._url, self._dialer, self._sockets, self._seconds = url, dialer, sockets, seconds
        self._links: dict[str, HttpLink] = {}

    async def get(self, path: str) -> Any:  # noqa: ANN401 - the path's own shape
        """Return what stands under data; raises as `JsonRpc.call`."""
        answer = _decoded(await self._exchange(path))
        if not isinstance(answer, dict) or "data" not in answer:
            raise RpcRefused(f"{path}: the answer has no data: is this a beacon node's API?")
        return answer["data"]

    async def get_list(self, path: str) -> Iterator[Any]:
        """Return the entries of a list under data; raises as `get`, also later."""
        return items(await self._exchange(path))

    def close(self) -> None:
        """Close the connections."""
        for link in self._links.values():
            link.close()

    async def _exchange(self, path: str) -> bytes:
        link = self._links.get(path)
        if link is None:
            options = _options(self._seconds)
            target = replace(self._url, target=self._url.target.rstrip("/") + path)
            opener = Opener(target, self._dialer, self._sockets, seconds=options.connect_seconds)
            link = self._links[path] = HttpLink(opener, options, Budget(MAX_ANSWER), method=b"GET")
        return await _asked(link, 0, b"", self._seconds)


def items(body: bytes) -> Iterator[Any]:
    """Yield the entries of the list that an answer holds, decoding one at a time.

    Raises:
        RpcRefused: it holds an error, no list, or no JSON.
    """
    if len(body) >= _WHOLE_BELOW:
        text = _text(body)
        begin = _ARRAY.match(text)
        if begin is not None:
            yield from _one_by_one(text, begin.end())
            return
    found = _result(_decoded(body))
    if not isinstance(found, list):
        raise RpcRefused(f"the answer is no list but {_kind(found)}")
    yield from found


def _one_by_one(text: str, at: int) -> Iterator[Any]:
    decode = json.JSONDecoder().raw_decode
    try:
        while True:
            entry, at = decode(text, at)
            yield entry
            after = _AFTER.match(text, at)
            if after is None:
                raise RpcRefused("the answer is no JSON")
            if after[1] == "]":
                return
            at = after.end()
    except (ValueError, RecursionError):
        raise RpcRefused("the answer is no JSON") from None


async def _asked(link: Link, call_id: int, body: bytes, seconds: float) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await link.exchange(call_id, body, once=False)
    except TimeoutError:
        link.close()  # what hangs is no better for the next call
        raise RpcRefused(f"no answer within {seconds:g} s") from None
    except UpstreamFault as fault:
        raise RpcRefused(_explained(str(fault))) from None


def _explained(words: str) -> str:
    if words.endswith(("status 401", "status 403")):
        return words + ": it wants to know who asks, or does not serve this host name"
    return words


def _decoded(body: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(_text(body))
    except (ValueError, RecursionError):
        raise RpcRefused("the answer is no JSON: is this address one of JSON-RPC?") from None


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise RpcRefused("the answer is no UTF-8") from None


def _result(answer: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    match answer:
        case {"error": {"code": int(code), "message": str(message)}}:
            words = clean(message, 120)
            raise MethodMissing(words) if code in _NOT_SERVED else RpcSaidNo(f"it says: {words}")
        case {"error": error} if error is not None:
            raise RpcSaidNo("it answers with an error of no known form")
        case {"result": result}:
            return result
        case {"data": data}:
            return data
        case _:
            raise RpcRefused("the answer is neither a result nor an error of JSON-RPC")


def _kind(value: object) -> str:
    names = {type(None): "null", dict: "an object", str: "a text", bool: "a truth value"}
    return names.get(type(value), "a number")


def _options(seconds: float) -> UpstreamOptions:
    return UpstreamOptions(
        call_seconds=seconds, connect_seconds=seconds, answer_bytes=MAX_ANSWER, held_bytes=MAX_ANSWER, kept=2
    )
