"""The real daemon as a process of its own, in a data folder of its own.

    async with RelayProcess(tmp_path / "relay", "--network", str(genesis)) as relay:
        await relay.rpc("admin_addPeer", enode)
        await relay.until_metric("p2p_peers", 1)

Ports are free ones that the daemon chose itself. The process ends with this one, however this one ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from relay.primitives.enode import Enode
from relay.primitives.errors import LocalError
from relay.primitives.keys import NodeKey
from relay.rpc.client import call
from tests.aids.http_client import exchange, request
from tests.aids.until import until

__all__ = ["ROOT", "DaemonEnded", "RelayProcess"]

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 8.0
TAIL = 40  # lines of the log in messages


class DaemonEnded(AssertionError):
    """The daemon ended though nobody asked it to; with what it said last."""


class RelayProcess:
    """The daemon. Nothing runs before `start`; after `stop` it may be started again in the same folder.

    Attributes:
        directory: its data folder; write static-nodes.json and the like before the start.
        arguments: flags beyond data folder, ports and log format; may be changed between two starts.
        log_path: what it wrote to standard output and error, over all starts; kept.
        name: of the folder, for messages.
        module: what is run; a test may put its own around the command.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        clearnet: bool = True,
        verbosity: int = 4,
        static_nodes: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare the folder.

        Args:
            directory: made when it is missing.
            arguments: flags; one given here wins over those of this aid.
            clearnet: listen on loopback; False leaves the listener to the mode.
            verbosity: as the flag; 3 at least, since the log tells the ports.
            static_nodes: enode URLs or records for static-nodes.json.
            environment: variables on top of ours.
        """
        assert verbosity >= 3
        self.directory = directory
        self.arguments = list(arguments)
        self.name = directory.name
        self.module = "relay.cli.main"
        self.log_path = directory / "pyrelay.log"
        self._clearnet, self._verbosity = clearnet, verbosity
        self._environment = dict(environment or {})
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._metrics_port: int | None = None
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if static_nodes:
            self.write_static_nodes(static_nodes)

    # -- life ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        code = await self.stop()
        # A bug of ours stops the daemon with 1, also one that shows in its very last moment.
        assert code == 0 or kind is not None, f"{self.name} ended with {code}\n{self.tail()}"

    def launch(self) -> None:
        """Start the process and return at once."""
        assert not self.running
        flags = ["--datadir", str(self.directory), "--metrics.port", "0", "--log-format", "json"]
        # Peers are those that a test names, unless it asks for more: a later flag wins.
        flags += ["--verbosity", str(self._verbosity), "--discovery", "off"]
        # What a test submits is to be gossiped at once, with Tor too, unless it is about who sees what first.
        flags += ["--private-broadcast", "off", "--dandelion", "off"]
        if self._clearnet:
            flags += ["--listen-address", "127.0.0.1", "--port", "0"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYRELAY_")
        } | self._environment
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._metrics_port = None
            self._child = subprocess.Popen(
                [
                    sys.executable, "-m", "relay.localnet.leash", self.module,
                    *flags, *self.arguments,
                ],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    async def start(self, deadline: float = 20.0) -> None:
        """Start, and return when /readyz says yes (with Tor this is after publication)."""
        self.launch()
        try:
            await self.wait_ready(deadline)
        except BaseException:
            self.kill()
            raise

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL for one that breaks its promise; returns the exit code."""
        child = self._child
        if child is None:
            return 0
        with suppress(ProcessLookupError):
            child.terminate()
        with suppress(TimeoutError):
            await until(lambda: child.poll() is not None, f"{self.name} stops", STOP_SECONDS)
        return self.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._child is not None
        self._child.send_signal(number)

    async def wait_exit(self, deadline: float = STOP_SECONDS) -> int:
        """Wait for an end that was asked for in another way than by `stop`; returns the exit code."""
        child = self._child
        assert child is not None
        await until(lambda: child.poll() is not None, lambda: f"{self.name} ends\n{self.tail()}", deadline)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL if it runs still; returns the exit code."""
        child, self._child = self._child, None
        if child is None:
            return 0
        if child.poll() is None:
            child.kill()
        code = child.wait()
        if child.stdin is not None:
            child.stdin.close()
        return code

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """Of the daemon itself: the leash runs it in its own process."""
        assert self._child is not None
        return self._child.pid

    def check(self) -> None:
        """Raise DaemonEnded when it ended by itself."""
        if self._child is not None and self._child.poll() is not None:
            raise DaemonEnded(f"{self.name} ended with {self._child.returncode}\n{self.tail()}")

    # -- what it says ----------------------------------------------------------------------------------

    async def wait_ready(self, deadline: float = 20.0) -> None:
        """Return when /readyz answers 200; DaemonEnded as soon as the process is gone."""

        async def ready() -> bool:
            self.check()
            try:
                return self.metrics_port is not None and (await self.page("/readyz"))[0] == 200
            except OSError:
                return False

        await until(ready, lambda: f"{self.name} is ready\n{self.tail()}", deadline)

    async def page(self, path: str, *, accept: str = "text/plain") -> tuple[int, bytes]:
        """Return status and body of a page on the metrics port; OSError while nobody serves it."""
        port = self.metrics_port
        if port is None:
            raise ConnectionRefusedError(f"{self.name} has not said its metrics port")
        reply = await exchange(port, request(path=path, headers={"Accept": accept, "Connection": "close"}))
        return reply.status, reply.body

    async def metrics(self) -> dict[str, Any]:
        """Return the metrics page as JSON."""
        status, body = await self.page("/debug/metrics", accept="application/json")
        assert status == 200, body
        values: dict[str, Any] = json.loads(body)
        return values

    async def metric(self, name: str, **labels: str) -> float:
        """Return one number; with labels the sum of those that match."""
        value = (await self.metrics())[name]
        if not isinstance(value, list):
            return float(value)
        matching = [each for each in value if labels.items() <= each["labels"].items()]
        return float(sum(each["value"] for each in matching))

    async def until_metric(
        self,
        name: str,
        wanted: float | Callable[[float], bool],
        deadline: float = 15.0,
        every: float = 0.05,
        **labels: str,
    ) -> float:
        """Wait until a metric has a value, or fulfils a condition; returns it."""
        seen: list[float] = [0.0]

        async def reached() -> bool:
            self.check()
            seen[0] = await self.metric(name, **labels)
            return wanted(seen[0]) if callable(wanted) else seen[0] == wanted

        goal = "what is wanted" if callable(wanted) else f"{wanted:g}"
        await until(
            reached, lambda: f"{self.name}: {name} is {seen[0]:g}, not {goal}\n{self.tail()}", deadline, every
        )
        return seen[0]

    async def rpc(self, method: str, *params: object) -> Any:
        """Call the daemon by its unix socket; CallFailed when it says no."""
        return await call(str(self.ipc_path), method, params)

    async def peers(self) -> list[dict[str, Any]]:
        """Return admin_peers."""
        found: list[dict[str, Any]] = await self.rpc("admin_peers")
        return found

    async def until_peers(self, count: int, deadline: float = 15.0) -> list[dict[str, Any]]:
        """Wait until it has exactly so many peers; returns admin_peers."""
        seen: list[dict[str, Any]] = []

        async def reached() -> bool:
            self.check()
            with suppress(LocalError):
                seen[:] = await self.peers()
                return len(seen) == count
            return False

        await until(
            reached, lambda: f"{self.name} has {len(seen)} peers, not {count}\n{self.tail()}", deadline
        )
        return seen

    # -- who and where it is ---------------------------------------------------------------------------

    @property
    def ipc_path(self) -> Path:
        """Its JSON-RPC socket."""
        return self.directory / "pyrelay.ipc"

    @property
    def node_key(self) -> NodeKey:
        """Its identity; there is one once it was started."""
        return NodeKey(bytes.fromhex((self.directory / "nodekey").read_text()))

    @property
    def metrics_port(self) -> int | None:
        """As the log tells it, first of what is served; None before."""
        if self._metrics_port is None:
            for event in self.events("serving"):
                host, _, port = str(event["address"]).rpartition(":")
                if host != "unix":
                    self._metrics_port = int(port)
                    break
        return self._metrics_port

    def listener(self, label: str = "clearnet") -> tuple[str, int]:
        """Where peers come in, by label: clearnet or onion."""
        for event in self.events("listening"):
            if event["listener"] == label:
                host, _, port = str(event["address"]).rpartition(":")
                return host, int(port)
        raise AssertionError(f"{self.name} does not listen on {label}\n{self.tail()}")

    @property
    def enode(self) -> str:
        """Its URL on the clearnet listener."""
        host, port = self.listener()
        return Enode(self.node_key.public_key, host, port, 0).url

    def write_static_nodes(self, urls: Sequence[str]) -> None:
        """Replace static-nodes.json, atomically, as an editor or a ConfigMap does."""
        new = self.directory / "static-nodes.json.new"
        new.write_text(json.dumps(list(urls)) + "\n")
        new.replace(self.directory / "static-nodes.json")

    # -- its log ---------------------------------------------------------------------------------------

    def log(self) -> str:
        """What it wrote since it was started last."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(self._log_start)
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def events(self, event: str = "") -> list[dict[str, Any]]:
        """The log's entries since the last start, all or those of one name."""
        found = []
        for line in self.log().splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and event in ("", entry.get("event")):
                    found.append(entry)
        return found

    async def until_event(self, event: str, deadline: float = 15.0, **fields: object) -> dict[str, Any]:
        """Wait for a log entry of this name with these fields; returns the first."""

        def found() -> dict[str, Any] | None:
            self.check()
            matching = (each for each in self.events(event) if fields.items() <= each.items())
            return next(matching, None)

        entry: dict[str, Any] = await until(
            found, lambda: f"{self.name} logs {event!r} {fields}\n{self.tail()}", deadline
        )
        return entry

    def tail(self) -> str:
        """The end of its log, for messages."""
        return "\n".join(self.log().splitlines()[-TAIL:])

    # -- what it costs ---------------------------------------------------------------------------------

    def status_kib(self, field: str = "VmRSS") -> int:
        """A size of /proc/PID/status in KiB (Linux)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
        raise AssertionError(f"no {field}")

    def open_files(self) -> int:
        """How many descriptors it has open (Linux)."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))
