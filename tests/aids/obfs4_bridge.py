"""A bridge of the private Tor network that speaks obfs4 and nothing else to its clients."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from relay.localnet.network import PrivateTor
from relay.localnet.ports import free_ports
from relay.localnet.torrc import LOOPBACK, node_lines
from relay.tor.process import TorProcess, find_tor
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.until import until

READY = 30.0  # seconds


@asynccontextmanager
async def obfs4_bridge(network: PrivateTor, folder: Path, program: str) -> AsyncIterator[str]:
    """Run one until the end of the block; yields its line, as an operator gives it to users."""
    or_port, obfs4_port = free_ports(2, SocketFactory(SocketRules.anywhere()), secrets.token_bytes)
    process = TorProcess(
        find_tor(),
        folder,
        [
            *network.client_lines,
            *node_lines("labbridge", folder, or_port, os.getpid()),
            "BridgeRelay 1",
            "PublishServerDescriptor 0",
            "ExitRelay 0",
            "ContactInfo nobody@localhost",
            f"ServerTransportPlugin obfs4 exec {program}",
            f"ServerTransportListenAddr obfs4 {LOOPBACK}:{obfs4_port}",
            "ExtORPort auto",
        ],
    )
    await process.start()
    try:
        fingerprint = (await _found(folder / "data" / "fingerprint", r"^\S+ ([0-9A-F]{40})$"))[1]
        secret = (await _found(folder / "data" / "pt_state" / "obfs4_bridgeline.txt", r"cert=\S+ \S+"))[0]
        await _found(process.log_path, "(?i)bootstrapped 100%")
        yield f"obfs4 {LOOPBACK}:{obfs4_port} {fingerprint} {secret}"
    finally:
        await process.stop()


async def _found(path: Path, pattern: str) -> re.Match[str]:
    def search() -> re.Match[str] | None:
        return re.search(pattern, path.read_text() if path.exists() else "", re.MULTILINE)

    found: re.Match[str] = await until(search, f"{pattern} in {path.name}", READY)
    return found
