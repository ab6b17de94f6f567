"""Two phases without a shared API server: a daemon tells its node (admin_nodeInfo), ours is told to dial it.

The other daemon is asked over its onion, or on a private network of pods. What it says is checked as any
peer's claim: a record signed by its node key that names an onion service.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from relay.primitives.endpoint import Endpoint
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError, LocalError, UsageError
from relay.primitives.keys import PublicKey
from relay.primitives.node import Node
from relay.rpc.client import CallFailed, call
from relay.rpc.upstream.budget import Budget
from relay.rpc.upstream.faults import UpstreamFault
from relay.rpc.upstream.http import HttpLink
from relay.rpc.upstream.opener import Opener
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.urls import Scheme, UpstreamUrl, parse_upstream
from relay.transports.dialer import Dialer
from relay.transports.sockets import SocketFactory

__all__ = ["CallFailed", "Daemon", "ask_node", "enode_of", "join_url", "node_of_info", "record_of_info"]

MAX_ANSWER: Final = 1 << 20  # bytes; admin_nodeInfo has some 2,000
_REQUEST: Final = b'{"jsonrpc":"2.0","id":1,"method":"admin_nodeInfo","params":[]}'


class Daemon:
    """Our own daemon, by its unix socket.

    Args:
        ipc: path of the socket.
    """

    def __init__(self, ipc: str) -> None:
        self._ipc = ipc

    async def info(self) -> dict[str, Any]:
        """Return what admin_nodeInfo tells.

        Raises:
            LocalError: it does not run, or says no.
        """
        found = await call(self._ipc, "admin_nodeInfo")
        if not isinstance(found, dict):
            raise LocalError("admin_nodeInfo of the daemon is no object")
        return found

    async def add_peer(self, url: str) -> bool:
        """Have it dial a node.

        Raises:
            LocalError: it does not run.
            CallFailed: it refuses, with its reason.
        """
        return bool(await call(self._ipc, "admin_addPeer", [url]))


def record_of_info(info: dict[str, Any], own: PublicKey, onion: str, port: int) -> NodeRecord | None:
    """Return the daemon's record once it tells the onion service of the entry; None before that.

    Raises:
        DecodeError: it is another node's: the daemon runs with other keys than this program read.
    """
    text = info.get("enr")
    if not isinstance(text, str):
        return None
    record = NodeRecord.from_text(text)
    if record.public_key != own:
        raise DecodeError(
            "the daemon has another node key than the one on this volume: does it run with another --datadir?"
        )
    return record if record.onion3 == onion and record.tcp == port else None


def join_url(text: str) -> UpstreamUrl:
    """Check the URL of another daemon.

    Raises:
        UsageError: no URL of HTTP, or one that would be reached over the public network.
    """
    try:
        url = parse_upstream(text)
    except DecodeError as error:
        raise UsageError(f"{text[:80]!r}: {error}") from None
    if url.scheme not in (Scheme.HTTP, Scheme.HTTPS) or url.endpoint is None:
        raise UsageError(f"{text[:80]!r}: expected http://ONION:PORT of a daemon's JSON-RPC")
    if not url.is_onion and not (url.endpoint.is_ip and url.endpoint.is_private):
        raise UsageError(
            f"{text[:80]!r}: expected an onion address, or an IP address of a private network: over the"
            " public one everybody on the way would learn who joins whom"
        )
    return url


async def ask_node(
    url: UpstreamUrl, dialer: Dialer, sockets: SocketFactory, *, seconds: float = 90.0
) -> Node:
    """Ask another daemon for its node.

    Args:
        url: of its JSON-RPC.
        dialer: reaches it: through Tor for an onion.
        sockets: of this process.
        seconds: for all of it.

    Raises:
        LocalError: it can not be reached, says no, or tells no onion service; the text says which.
    """
    options = UpstreamOptions(
        connect_seconds=seconds,
        call_seconds=seconds,
        attempt_seconds=seconds,
        answer_bytes=MAX_ANSWER,
        kept=0,
    )
    link = HttpLink(Opener(url, dialer, sockets, seconds=seconds), options, Budget(MAX_ANSWER))
    try:
        async with asyncio.timeout(seconds):
            answer = await link.exchange(1, _REQUEST, once=True)
    except TimeoutError:
        raise LocalError(f"{url} does not answer within {seconds:g} s") from None
    except UpstreamFault as error:
        raise LocalError(f"{url}: {error}") from None
    finally:
        link.close()
    try:
        return node_of_info(_result(answer))
    except DecodeError as error:
        raise LocalError(f"{url}: {error}") from None


def node_of_info(info: object) -> Node:
    """Return the node that an admin_nodeInfo describes, at its onion.

    Raises:
        DecodeError: no such answer; or it names no onion service.
    """
    if not isinstance(info, dict):
        raise DecodeError("its admin_nodeInfo is no object")
    for name in ("enr", "enode"):
        text = info.get(name)
        if not isinstance(text, str) or not text:
            continue
        node = Node.parse(text)
        if (onion := node.onion) is not None:
            return Node(node.public_key, (onion,), node.record)
    raise DecodeError(
        "it names no onion service: is its service published (readyz), and is it a relay for Tor?"
    )


def enode_of(node: Node) -> str:
    """Return the URL that admin_addPeer takes."""
    onion: Endpoint | None = node.onion
    assert onion is not None
    return Enode(node.public_key, onion.host, onion.port, onion.port).url


def _result(answer: bytes) -> object:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        raise DecodeError("its answer is not JSON") from None
    match value:
        case {"error": {"message": str(message)}}:
            raise DecodeError(
                f"it says no: {message[:120]}; the admin module is not served there by default: --http.api"
                " admin, behind an onion of its own, or pyrelay kubernetes discovery --node-info"
            )
        case {"result": result}:
            return result
        case _:
            raise DecodeError("its answer is not JSON-RPC")
