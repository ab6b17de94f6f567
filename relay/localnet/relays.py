"""The daemons: what each finds on its disk before it starts, and its process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.localnet.client import ClientHandle
from relay.primitives.address import MAX_UNIX_PATH
from relay.primitives.enode import Enode
from relay.primitives.errors import LocalError, StorageError, UsageError
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey

__all__ = ["RelayDaemon", "RelayFiles", "make_relays", "write_relays"]

ONION_PORT: Final = 30303
STOP_SECONDS: Final = 6.0  # a daemon promises to end in 5
LOG_TAIL: Final = 4096  # bytes
MODULE: Final = "relay.cli.main"


@dataclass(frozen=True, slots=True)
class RelayFiles:
    """A relay's identity and where its files are.

    Attributes:
        number: from 1.
        directory: its data folder.
        node_key: of devp2p.
        onion_key: of its onion service.
        metrics_port: of its page.
        genesis: the chain, shared by all.
        flags: more of the daemon's.
    """

    number: int
    directory: Path
    node_key: NodeKey
    onion_key: OnionKey
    metrics_port: int
    genesis: Path
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For messages, and its folder's name without the space."""
        return f"relay {self.number}"

    @property
    def enode(self) -> Enode:
        """Where the others find it."""
        return Enode(self.node_key.public_key, self.onion_key.address, ONION_PORT, 0)

    @property
    def ipc_path(self) -> Path:
        """Its JSON-RPC socket."""
        return self.directory / "pyrelay.ipc"

    @property
    def log_path(self) -> Path:
        """What it writes to standard error and output."""
        return self.directory / "pyrelay.log"

    def arguments(self, socks: str, control: str) -> list[str]:
        """The daemon's command line. socks, control: HOST:PORT of its Tor client."""
        return [
            "--tor-proxy", socks,
            "--only-onion",
            "--tor-control", control,
            "--datadir", str(self.directory),
            "--network", str(self.genesis),
            "--onion-port", str(ONION_PORT),
            "--metrics.port", str(self.metrics_port),
            "--log-format", "text",
            # This is a stage for gossip at twenty a second; two short connections each would be two Tor
            # circuits each, of which a client may begin two a second.
            "--private-broadcast", "off",
            *self.flags,
        ]  # fmt: skip


def make_relays(
    directory: Path, count: int, ports: Sequence[int], rand: Callable[[int], bytes]
) -> list[RelayFiles]:
    """Make the identities of relays whose folders are below a directory.

    Raises:
        UsageError: the directory's path is too long for a socket below it.
    """
    genesis = directory / "genesis.json"
    relays = [
        RelayFiles(
            number,
            directory / f"relay{number}",
            NodeKey.generate(rand),
            OnionKey.generate(rand),
            port,
            genesis,
        )
        for number, port in zip(range(1, count + 1), ports, strict=True)
    ]
    if len(os.fsencode(relays[-1].ipc_path)) > MAX_UNIX_PATH:
        raise UsageError(
            f"{directory}: this path is too long for the relays' sockets below it; use a shorter one"
        )
    return relays


def write_relays(
    relays: Sequence[RelayFiles], genesis: dict[str, object], *, acquainted: bool = True
) -> None:
    """Write everything that the daemons read: chain, keys, and, if they are acquainted, the others' enodes.

    Raises:
        StorageError: the directory cannot be written.
    """
    try:
        relays[0].genesis.write_text(json.dumps(genesis, indent=1) + "\n", encoding="ascii")
        for relay in relays:
            relay.directory.mkdir(mode=0o700)
            _write_secret(relay.directory / "nodekey", relay.node_key.secret.hex().encode())
            _write_secret(relay.directory / "onion_key", relay.onion_key.to_tor_file())
            if not acquainted:
                continue
            others = [other.enode.url for other in relays if other is not relay]
            nodes = relay.directory / "static-nodes.json"
            nodes.write_text(json.dumps(others, indent=1) + "\n", encoding="ascii")
    except OSError as error:
        raise StorageError(f"{error.filename}: {error.strerror}") from None


def _write_secret(path: Path, content: bytes) -> None:
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)


class RelayDaemon:
    """A daemon's process, which ends with this one, however this one ends.

    Args:
        files: its identity and folder, written already.
    """

    def __init__(self, files: RelayFiles) -> None:
        self.files = files
        self._child: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.returncode is None

    async def start(self, client: ClientHandle) -> None:
        """Start it with its own Tor client.

        Raises:
            StorageError: its log cannot be written, or no process can be made.
        """
        assert not self.running
        arguments = self.files.arguments(str(client.socks), str(client.control))
        try:
            with self.files.log_path.open("ab") as log:
                self._child = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "relay.localnet.leash", MODULE, *arguments,
                    stdin=asyncio.subprocess.PIPE, stdout=log, stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is ours: we stop them, then their Tor
                )  # fmt: skip
        except OSError as error:
            raise StorageError(f"{self.files.name} cannot be started: {error}") from None

    async def watch(self) -> None:
        """Wait for an end that nobody asked for; a task that is cancelled first.

        Raises:
            LocalError: it ended; with what it said last.
        """
        assert self._child is not None
        status = await self._child.wait()
        raise LocalError(f"{self.files.name} ended with status {status}: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of its log."""
        lines: list[str] = []
        with suppress(OSError), self.files.log_path.open("rb") as log:
            log.seek(max(0, self.files.log_path.stat().st_size - LOG_TAIL))
            lines = log.read().decode("utf-8", "replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else "it said nothing"

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not keep its promise."""
        if self._child is None:
            return
        with suppress(ProcessLookupError):
            if self.running:
                self._child.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._child.wait()
        except TimeoutError:
            pass
        finally:
            self.kill()
            await self._child.wait()

    def kill(self) -> None:
        """SIGKILL, now."""
        if self._child is not None and self.running:
            with suppress(ProcessLookupError):
                self._child.kill()
