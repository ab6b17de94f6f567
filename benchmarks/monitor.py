"""What the peer monitor and the status page cost: `python -m benchmarks.monitor [--seconds N] [--json FILE]`.

10,000 peers are refreshed each second from a stand-in of a node in a process of its own, over a unix socket,
by the exporter and by the live screen in a pseudo terminal: share of a core and memory of the monitor. Then a
scrape at 1,000 peers, and size and first paint of the status page in Chromium where that is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pty
import resource
import signal
import statistics
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

from relay.monitor.exporter import Exporter
from relay.monitor.node import NodeView
from relay.monitor.shapes import execution_peers
from relay.monitor.watch import Watch

PEERS = 10_000
SCRAPED = 1_000
LOADS = 15
CLIENTS = (
    "Geth/v1.17.8-stable-{0:08x}/linux-amd64/go1.24.4",
    "reth/v2.5.1-{0:07x}/x86_64-unknown-linux-gnu",
    "Nethermind/v1.36.0+{0:08x}/linux-x64/dotnet10.0.0",
    "besu/v26.3.0/linux-x86_64/openjdk-java-21",
)
GOALS = {"core": 0.30, "memory_mb": 120, "scrape_cpu_ms": 50, "page_kb": 100, "paint_ms": 200}


def entry(number: int, turn: int = 0) -> dict[str, Any]:
    """One entry of geth's admin_peers; its head moves with each turn."""
    host = f"{11 + number // 65536}.{number // 256 % 256}.{number % 256}.7"
    key = f"{number:0128x}"
    return {
        "enr": "enr:-" + "A" * 180,
        "enode": f"enode://{key}@{host}:30303",
        "id": f"{number * 0x9E3779B97F4A7C15 % (1 << 64):016x}" + "0" * 48,
        "name": CLIENTS[number % 4].format(number % 200),
        "caps": ["eth/68", "eth/69", "snap/1"],
        "network": {
            "localAddress": "192.168.1.4:30303", "remoteAddress": f"{host}:30303", "inbound": number % 3 == 0,
            "trusted": False, "static": False,
        },
        "protocols": {
            "eth": {
                "version": 69, "earliestBlock": 0, "latestBlock": 23_000_000 + turn,
                "latestBlockHash": "0x" + f"{number + turn:064x}",
            },
            "snap": {"version": 1},
        },
    }  # fmt: skip


async def serve_node(path: str) -> None:
    """The stand-in: every hundredth peer is another one in each answer."""
    entries = [json.dumps(entry(number)) for number in range(PEERS)]
    turn = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        while line := await _line(reader):
            asked = json.loads(line)
            turn += 1
            if asked["method"] == "admin_peers":
                for number in range(turn % 100, PEERS, 100):
                    entries[number] = json.dumps(entry(number + PEERS * (turn % 50), turn))
                result = f"[{','.join(entries)}]"
            else:
                said = {
                    "admin_nodeInfo": {"id": "ab" * 32, "name": CLIENTS[0].format(1)},
                    "eth_syncing": False,
                }
                result = json.dumps(said.get(asked["method"], "0x15f0000"))
            writer.write(f'{{"jsonrpc":"2.0","id":{asked["id"]},"result":{result}}}\n'.encode())
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(talk, path) as server:
        await server.serve_forever()


async def _line(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await reader.readline()
    return b""


def used(pid: int) -> tuple[float, float]:
    """Seconds of CPU, and MB at most, of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line)
    return ticks / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) / 1024


async def measured(words: list[str], seconds: float, *, screen: bool) -> dict[str, float]:
    """Run the monitor for so long after it has settled."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(leader, (50, 140))
    os.set_blocking(leader, False)
    out = follower if screen else asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", "monitor", *words,
        stdin=follower, stdout=out, stderr=out if screen else asyncio.subprocess.PIPE,
        env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(follower)

    def drain() -> None:
        with contextlib.suppress(OSError):
            os.read(leader, 1 << 16)

    asyncio.get_running_loop().add_reader(leader, drain)
    try:
        port = 0 if child.stderr is None else await _port(child.stderr)
        await asyncio.sleep(5)
        begun, (before, _), first = time.monotonic(), used(child.pid), await _looks(port)
        await asyncio.sleep(seconds)
        (after, memory), last = used(child.pid), await _looks(port)
        spent = after - before
        found = {"core": round(spent / (time.monotonic() - begun), 3), "memory_mb": round(memory, 1)}
        # A machine that is busy with other things looks less often than each second: this is what counts.
        return found | ({"cpu_seconds_a_look": round(spent / (last - first), 3)} if last > first else {})
    finally:
        asyncio.get_running_loop().remove_reader(leader)
        child.send_signal(signal.SIGTERM)
        await child.wait()
        os.close(leader)


async def _port(errors: asyncio.StreamReader) -> int:
    first = (await errors.readline()).decode()
    return int(first.split("/metrics")[0].rpartition(":")[2])


async def _looks(port: int) -> float:
    """How often the monitor has looked, as its exporter says."""
    if not port:
        return 0.0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    return float(text.rpartition("\npeermon_looks_total ")[2].split()[0])


async def monitor_figures(seconds: float) -> dict[str, Any]:
    """Exporter and live screen at PEERS."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/node.ipc"
        node = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.monitor", "--node", path
        )
        try:
            while not Path(path).exists():
                await asyncio.sleep(0.1)
            words = ["--rpc", path, "--interval", "1", "--datadir", folder]
            return {
                "exporter_10000": await measured([*words, "--export", "0"], seconds, screen=False),
                "screen_10000": await measured(words, seconds, screen=True),
            }
        finally:
            node.kill()
            await node.wait()


def scrape_figures() -> dict[str, float]:
    """The exporter's own time for a scrape."""
    watch = Watch(0.0)
    peers = execution_peers(entry(number) for number in range(SCRAPED)).peers
    watch.take(NodeView("execution", "Geth/v1", "a", "mainnet", 23_000_000, False, None, peers), 1.0)
    exporter = Exporter(watch, lambda: 2.0)
    times = []
    for _ in range(30):
        begun = time.process_time()  # of this process alone, whatever else the machine does
        body = exporter.text()
        times.append((time.process_time() - begun) * 1000)
    return {"scrape_cpu_ms": round(statistics.median(times), 2), "scrape_bytes": len(body)}


async def page_figures(folder: Path) -> dict[str, float]:
    """Size and first paint of a relay's status page."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", "--datadir", str(folder), "--metrics.port", "0",
        "--listen-address", "127.0.0.1", "--port", "0", "--discovery", "off", "--log-format", "json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        address = ""
        while not address:
            said = json.loads(await child.stdout.readline())
            address = said.get("address", "") if said.get("event") == "serving" else ""
        return await painted(f"http://{address}/")
    finally:
        child.terminate()
        await child.communicate()


async def painted(url: str) -> dict[str, float]:
    """First paint, the median of loads by turns with those of a page of one line: what Chromium costs."""
    try:
        from playwright.async_api import async_playwright
    except ModuleNotFoundError:
        return {}
    times: dict[str, list[float]] = {url: [], url + "healthz": []}
    size = 0
    async with async_playwright() as driver:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await driver.chromium.launch(executable_path="/usr/bin/chromium", args=root)
        for _ in range(LOADS):
            for each, found in times.items():
                page = await browser.new_page()
                answer = await page.goto(each)
                assert answer is not None
                size = max(size, len(await answer.body()))
                while not (paint := await page.evaluate("performance.getEntriesByName('first-paint')")):
                    await asyncio.sleep(0.05)  # the page's own policy forbids playwright's wait_for_function
                found.append(paint[0]["startTime"])
                await page.close()
        await browser.close()
    whole, line = (statistics.median(found) for found in times.values())
    return {
        "page_kb": round(size / 1000, 1),
        "paint_ms": round(whole, 1),
        "paint_ms_of_one_line": round(line, 1),
        "paint_ms_least": round(min(times[url]), 1),
    }


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--node", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.node:
        await serve_node(arguments.node)
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found: dict[str, Any] = {**await monitor_figures(arguments.seconds), **scrape_figures()}
    with tempfile.TemporaryDirectory() as folder:
        found |= await page_figures(Path(folder))
    found["goals"] = GOALS
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
