"""A geth as a relay on our own chain: fresh, with a large pool, told by the Engine API that it is synced."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.processes import Process, free_port
from relay.primitives.keys import NodeKey

START_SECONDS = 60.0


class Geth:
    """What the scenarios need of a relay: start, port, public key, pid, stop.

    The first `start` makes the folder; the next ones begin afresh.
    """

    name = "geth"

    def __init__(self, binary: Path, genesis: dict[str, object], chain_id: int) -> None:
        self._binary, self._genesis, self._chain_id = binary, genesis, chain_id
        self._key = NodeKey(hashlib.sha256(b"pyrelay benchmark geth").digest())
        self._jwt = hashlib.sha256(b"pyrelay benchmark jwt").digest()
        self._engine_port = 0
        self._process: Process | None = None
        self.port = 0
        self.flags: list[str] = []
        self.public_key = self._key.public_key

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def version(self) -> str:
        out = subprocess.run([self._binary, "version"], capture_output=True, text=True, check=True).stdout
        return next(line.split()[1] for line in out.splitlines() if line.startswith("Version:"))

    def start(self, directory: Path, max_peers: int) -> None:
        data = directory / "geth"
        data.mkdir(parents=True)
        genesis = directory / "genesis.json"
        genesis.write_text(json.dumps(self._genesis))
        subprocess.run(
            [self._binary, "init", "--datadir", data, genesis], check=True, capture_output=True, timeout=60
        )
        jwt = directory / "jwt.hex"
        jwt.write_text(self._jwt.hex())
        self.port, self._engine_port = free_port(), free_port()
        # The port of the p2p listener alone: --port would open it on every address.
        config = directory / "p2p.toml"
        config.write_text(f'[Node.P2P]\nListenAddr = "127.0.0.1:{self.port}"\n')
        arguments = self._arguments(max_peers, data=data, config=config, jwt=jwt)
        self.flags = [word for word in arguments if str(directory) not in word]
        self._process = Process([str(self._binary), *arguments], directory / "geth.log")
        self._until_up()
        self._say_synced()

    def _arguments(self, max_peers: int, *, data: Path, config: Path, jwt: Path) -> list[str]:
        return [
            f"--datadir={data}", "--syncmode=full", f"--networkid={self._chain_id}",
            "--nodiscover", "--nat=none", "--netrestrict=127.0.0.0/8", "--discovery.dns=",
            f"--config={config}", f"--maxpeers={max_peers}", "--maxpendpeers=600",
            f"--nodekeyhex={self._key.secret.hex()}",
            "--authrpc.addr=127.0.0.1", f"--authrpc.port={self._engine_port}", f"--authrpc.jwtsecret={jwt}",
            "--ipcdisable", "--http", "--http.addr=127.0.0.1", f"--http.port={free_port()}",
            "--http.api=eth,net,admin,txpool,debug",
            "--txpool.globalslots=400000", "--txpool.globalqueue=400000",
            "--txpool.accountslots=4096", "--txpool.accountqueue=4096",
            "--txpool.journal=", "--txpool.nolocals", "--cache=512", "--verbosity=3",
        ]  # fmt: skip

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def metrics(self) -> dict[str, float]:
        return {}

    # -- the Engine API

    def _until_up(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._process.check()
            try:
                self._call("eth_chainId")
                return
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _say_synced(self) -> None:
        """A geth that no consensus client has told where the head is drops what its peers send."""
        head = self._call("eth_getBlockByNumber", "latest", False)["hash"]
        state = {"headBlockHash": head, "safeBlockHash": head, "finalizedBlockHash": head}
        self._call("engine_forkchoiceUpdatedV3", state, None)

    def _call(self, method: str, *params: object) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._engine_port}",
            body,
            {"content-type": "application/json", "authorization": f"Bearer {self._token()}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        answer = json.loads(opener.open(request, timeout=30).read())
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _token(self) -> str:
        claims = _base64(b'{"alg":"HS256","typ":"JWT"}') + b"." + _base64(b'{"iat":%d}' % time.time())
        return (claims + b"." + _base64(hmac.new(self._jwt, claims, "sha256").digest())).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
