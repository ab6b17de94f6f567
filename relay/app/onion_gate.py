"""Who takes the connections of the onion listener: peers, discovery, and Tor's word on the circuit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from relay.app.onions import STREAM_FIRST
from relay.discovery.streams import OnionStreams
from relay.transports.first_byte import FirstByteOptions, Gate, Route

RLPX_FIRST: Final = range(0x09)  # of a handshake, which begins with its size: at most 2048 bytes (EIP-8)

Peers = tuple[Callable[[], asyncio.BaseProtocol], Callable[[], bool]]


def onion_gate(
    peers: Peers | None, streams: OnionStreams | None, *, shows_circuits: bool, waiting: int | None = None
) -> Gate | None:
    """Make the gate; None where every connection is a peer's and nothing stands before its first byte.

    Args:
        peers: makes a peer's protocol, and whether there is room for one.
        streams: discovery, where the mode has it.
        shows_circuits: Tor writes a line with the circuit's id before each connection. It is demanded then,
            and taken from nobody otherwise: where Tor writes none, a peer could write its own.
        waiting: connections that may be without a first byte.
    """
    if peers is not None and streams is None and not shows_circuits:
        return None
    routes = []
    if peers is not None:
        make, has_room = peers
        routes.append(Route(RLPX_FIRST, lambda _circuit: make(), has_room))
    if streams is not None:
        routes.append(Route(STREAM_FIRST, streams.protocol, streams.has_room))
    default = FirstByteOptions()
    options = FirstByteOptions(
        waiting=default.waiting if waiting is None else waiting, circuit_line=shows_circuits
    )
    return Gate(routes, clock=asyncio.get_running_loop(), options=options)
