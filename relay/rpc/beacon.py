"""The head of the chain as a consensus node tells it, by its Beacon API.

The block is asked for without its transactions. Its execution header names number and hash, which is all that
is taken. Spec: beacon-APIs, getBlindedBlock.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any, Final

from relay.rpc.upstream.budget import Budget
from relay.rpc.upstream.faults import Fault, UpstreamFault
from relay.rpc.upstream.http import HttpLink
from relay.rpc.upstream.opener import Opener, TlsContext, system_tls
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.urls import UpstreamUrl
from relay.transports.dialer import Dialer
from relay.transports.sockets import SocketFactory

__all__ = ["BeaconNode"]

PATH: Final = "/eth/v1/beacon/blinded_blocks/head"
MAX_ANSWER: Final = 4 * 1024 * 1024  # bytes; attestations of a block take some 100 KiB
_MAX_DIGITS: Final = 20  # of a number of 64 bits


class BeaconNode:
    """A consensus node.

    Args:
        url: of its API; a path in it stands before the API's own.
        dialer: the mode's own.
        sockets: as `Opener` wants them.
        options: how patient we are.
        tls: makes the context.
    """

    def __init__(
        self,
        url: UpstreamUrl,
        dialer: Dialer,
        sockets: SocketFactory,
        options: UpstreamOptions,
        tls: TlsContext = system_tls,
    ) -> None:
        limits = replace(options, answer_bytes=MAX_ANSWER)
        target = replace(url, target=url.target.rstrip("/") + PATH)
        opener = Opener(target, dialer, sockets, seconds=options.connect_seconds, tls=tls)
        self._link = HttpLink(opener, limits, Budget(MAX_ANSWER), method=b"GET")
        self._seconds = options.call_seconds

    async def head(self) -> tuple[int, bytes]:
        """Return number and hash of the block at the head.

        Raises:
            UpstreamFault: the node does not tell.
        """
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._link.exchange(0, b"", once=False)
        except TimeoutError:
            raise UpstreamFault(Fault.TIMEOUT, f"no answer within {self._seconds:g} s") from None
        return _head_in(body)

    def close(self) -> None:
        """Close what is open."""
        self._link.close()


def _head_in(body: bytes) -> tuple[int, bytes]:
    try:
        payload: Any = json.loads(body)["data"]["message"]["body"]["execution_payload_header"]
        number, block_hash = payload["block_number"], payload["block_hash"]
        found = int(number) if number.isdecimal() and len(number) <= _MAX_DIGITS else -1
        digest = bytes.fromhex(block_hash.removeprefix("0x"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UpstreamFault(Fault.GARBAGE, "its answer is no block with an execution header") from None
    if not 0 <= found < 1 << 64 or len(digest) != 32 or not any(digest):
        raise UpstreamFault(Fault.GARBAGE, "its block names no number and hash")
    return found, digest
