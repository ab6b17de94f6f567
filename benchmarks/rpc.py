"""JSON-RPC next to geth: how many eth_chainId a second, and what a call costs that passes through to a geth.

`python -m benchmarks.rpc [--json] [--calls N]`. Direct and proxied calls take turns over two connections that
stay, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from benchmarks.geth import Geth
from benchmarks.processes import cpu_seconds, free_port
from benchmarks.pyrelay import Pyrelay
from benchmarks.transactions import CHAIN_ID, genesis

ROOT = Path(__file__).parents[1]
CALLS = 4000
WARM = 300
LOADERS = 4  # connections of the second throughput figure
HEAD_BYTES = 1 << 16
CHAIN_ID_CALL: tuple[str, list[object]] = ("eth_chainId", [])
PROXIED: dict[str, tuple[str, list[object]]] = {
    "eth_getBalance": ("eth_getBalance", ["0x" + "11" * 20, "latest"]),
    "eth_getBlockByNumber": ("eth_getBlockByNumber", ["latest", True]),
}


class Connection:
    """One that stays, with a blocking socket: the client's own time is a few microseconds."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, request: bytes) -> bytes:
        self._socket.sendall(request)
        data = self._socket.recv(HEAD_BYTES)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._socket.recv(HEAD_BYTES)
        head = data[:end].lower()
        at = head.index(b"content-length:") + 15
        whole = end + 4 + int(head[at:].split(b"\r\n", 1)[0])
        while len(data) < whole:
            data += self._socket.recv(1 << 20)
        return data[end + 4 :]

    def close(self) -> None:
        self._socket.close()


def request(method: str, params: list[object]) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    fields = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    head = f"POST / HTTP/1.1\r\n{fields}\r\n\r\n"
    return head.encode() + body


def measure(calls: int) -> dict[str, Any]:
    """Start a geth and a pyrelay before it, and measure both."""
    folder = (
        os.environ.get("PYRELAY_TEST_GETH")
        or subprocess.run(
            [ROOT / "tools" / "install-geth.sh"], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
    )
    geth = Geth(Path(folder) / "geth", genesis(), CHAIN_ID)
    with tempfile.TemporaryDirectory(prefix="pr-") as place:
        try:
            geth.start(Path(place) / "geth", 10)
            upstream = int(
                next(flag for flag in geth.flags if flag.startswith("--http.port=")).partition("=")[2]
            )
            port = free_port()
            flags = ["--http", f"--http.port={port}", f"--rpc-upstream=http://127.0.0.1:{upstream}"]
            relay = Pyrelay(genesis(), flags)
            try:
                relay.start(Path(place) / "pyrelay", 10)
                return _figures(relay.pid, port, geth.pid, upstream, calls)
            finally:
                relay.stop()
        finally:
            geth.stop()


def _figures(pid: int, port: int, geth_pid: int, upstream: int, calls: int) -> dict[str, Any]:
    return {
        "chain_id": {
            "pyrelay": _throughput(pid, port, calls),
            "geth": _throughput(geth_pid, upstream, calls),
        },
        "proxied": {
            name: _compare(port, upstream, request(*call), calls // 4) for name, call in PROXIED.items()
        },
    }


def _throughput(pid: int, port: int, calls: int) -> dict[str, float]:
    """eth_chainId a second: over one connection, over some, and by second of the server's own CPU."""
    _load(port, WARM)
    cpu = cpu_seconds(pid)
    alone = calls / _timed(lambda: _load(port, calls))
    per_cpu = calls / max(cpu_seconds(pid) - cpu, 0.01)
    with multiprocessing.get_context("spawn").Pool(LOADERS) as pool:
        pool.starmap(_load, [(port, WARM)] * LOADERS)
        several = calls * LOADERS / _timed(lambda: pool.starmap(_load, [(port, calls)] * LOADERS))
    return {"one_connection": alone, "several_connections": several, "per_cpu_second": per_cpu}


def _load(port: int, calls: int) -> None:
    wire = request(*CHAIN_ID_CALL)
    connection = Connection(port)
    for _ in range(calls):
        answer = connection.call(wire)
    assert b'"result":"0x' in answer, answer
    connection.close()


def _compare(port: int, upstream: int, wire: bytes, calls: int) -> dict[str, float]:
    """The same call to the upstream itself and through us, in turns."""
    ways = {"direct": Connection(upstream), "proxied": Connection(port)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(WARM + calls):
        answers = []
        for name, connection in ways.items():
            began = perf_counter()
            answers.append(connection.call(wire))
            if number >= WARM:
                seconds[name].append(perf_counter() - began)
        if number == 0:
            first, second = (json.loads(answer) for answer in answers)
            assert first == second, (first, second)
    for connection in ways.values():
        connection.close()
    figures = {f"{name}_p50_us": median(times) * 1e6 for name, times in seconds.items()}
    figures |= {f"{name}_p99_us": quantiles(times, n=100)[98] * 1e6 for name, times in seconds.items()}
    return figures | {"added_p50_us": figures["proxied_p50_us"] - figures["direct_p50_us"]}


def _timed(run: Callable[[], object]) -> float:
    began = perf_counter()
    run()
    return perf_counter() - began


def _report(found: dict[str, Any]) -> str:
    lines = []
    for name, figures in found["chain_id"].items():
        told = ", ".join(f"{what.replace('_', ' ')} {value:,.0f}/s" for what, value in figures.items())
        lines.append(f"eth_chainId, {name}: {told}")
    for name, figures in found["proxied"].items():
        lines.append(
            f"{name}: direct p50 {figures['direct_p50_us']:,.0f} us, through pyrelay "
            f"{figures['proxied_p50_us']:,.0f} us, added {figures['added_p50_us']:,.0f} us (target: 500)"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rpc", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    options = parser.parse_args()
    found = measure(options.calls)
    print(json.dumps(found, indent=1) if options.json else _report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
