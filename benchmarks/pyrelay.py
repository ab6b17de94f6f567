"""A pyrelay daemon as the relay in the middle, with the flags a person would give."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from benchmarks.processes import Process, free_port
from relay import __version__
from relay.primitives.keys import NodeKey

START_SECONDS = 60.0


class Pyrelay:
    """What the scenarios need of a relay: start, port, public key, pid, stop.

    Args:
        genesis: the chain.
        extra: more flags.
        module: what is run in place of the command, with its own arguments in front.
    """

    name = "pyrelay"

    def __init__(
        self,
        genesis: dict[str, object],
        extra: Sequence[str] = (),
        module: Sequence[str] = ("relay.cli.main",),
    ) -> None:
        self._genesis, self._extra, self._module = genesis, extra, module
        self._key = NodeKey(sha256(b"pyrelay benchmark node").digest())
        self._metrics_port = 0
        self._process: Process | None = None
        self.port = 0
        self.flags: list[str] = []
        self.public_key = self._key.public_key

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def version(self) -> str:
        return __version__

    def start(self, directory: Path, max_peers: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        genesis = directory / "genesis.json"
        genesis.write_text(json.dumps(self._genesis))
        key = directory / "nodekey"
        key.touch(0o600)
        key.write_text(self._key.secret.hex())
        self.port, self._metrics_port = free_port(), free_port()
        arguments = [
            f"--datadir={directory / 'data'}", f"--network={genesis}", f"--nodekey={key}",
            "--listen-address=127.0.0.1", f"--port={self.port}", f"--metrics.port={self._metrics_port}",
            f"--maxpeers={max_peers}", "--maxpendpeers=600", "--verbosity=2",
            "--peer-tx-rate=0", "--tx-rate=0",  # geth has no such limits
            *self._extra,
        ]  # fmt: skip
        self.flags = [word for word in arguments if str(directory) not in word]
        self._process = Process([sys.executable, "-m", *self._module, *arguments], directory / "pyrelay.log")
        self._until_ready()

    def _until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._process.check()
            try:
                self._get("/readyz")
                return
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def metrics(self) -> dict[str, float]:
        """The metrics without labels."""
        page = json.loads(self._get("/debug/metrics", {"accept": "application/json"}))
        return {name: value for name, value in page.items() if isinstance(value, int | float)}

    def _get(self, path: str, headers: dict[str, str] | None = None) -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._metrics_port}{path}", headers=headers or {}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        body: bytes = opener.open(request, timeout=10).read()
        return body

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None
