"""``pyrelay discover`` as a process, in a network of nodes on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from contextlib import asynccontextmanager

import pytest

from relay.app.networks import current_fork_id, load_network
from relay.discovery.udp import ClearnetDiscovery
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.daemon import ROOT

NODES = 12


class Process:
    """The command, running."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child

    async def end(self) -> tuple[int, str, str]:
        async with asyncio.timeout(30):
            out, err = await self.child.communicate()
        assert self.child.returncode is not None
        return self.child.returncode, out.decode(), err.decode()


async def start(*words: object, stdout: int = asyncio.subprocess.PIPE) -> Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYRELAY_")}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.cli.main", "discover", *map(str, words),
        cwd=ROOT, env=environment, stdout=stdout, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    return Process(child)


@asynccontextmanager
async def swarm(count: int = NODES, *, v4: bool = False):
    """Nodes on loopback, each of which knows the one before; gives their records."""
    sockets, fork, loop = (
        SocketFactory(SocketRules.anywhere()),
        current_fork_id(load_network("hoodi")),
        asyncio.get_running_loop(),
    )
    records: list[NodeRecord] = []
    nodes: list[ClearnetDiscovery] = []
    try:
        for _ in range(count):
            key, holder = NodeKey.generate(secrets.token_bytes), []
            before = [Node.from_record(each) for each in records[-1:]]
            node = ClearnetDiscovery(
                key, lambda holder=holder: holder[0], clock=loop, unix=time.time, rand=secrets.token_bytes,
                v4=v4, v5=not v4, bootnodes=before,
            )  # fmt: skip
            holder.append(build_record(key, 1))
            await node.start(sockets, "127.0.0.1", 0)
            holder[0] = build_record(key, 2, ip="127.0.0.1", udp=node.port, tcp=node.port, fork_id=fork)
            records.append(holder[0])
            nodes.append(node)
        yield records
    finally:
        for node in nodes:
            node.stop()


def words(tmp_path, *more: object, boot: NodeRecord, discovery: str = "v5") -> tuple[object, ...]:
    return (
        "--datadir", tmp_path / "none", "--network", "hoodi", "--listen-address", "127.0.0.1",
        "--discovery", discovery, "--bootnodes", boot.to_text(), *more,
    )  # fmt: skip


async def test_all_of_twelve_nodes_are_found_and_told_as_json_and_in_geths_file(tmp_path):
    async with swarm() as records:
        file = tmp_path / "nodes.json"
        running = await start(*words(tmp_path, "--json", "--out", file, "--timeout", 25, boot=records[0]))
        code, out, err = await running.end()
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["answered"] == NODES
    assert {node["id"] for node in found["nodes"]} == {each.node_id.hex() for each in records}
    assert found["totals"]["chains"] == {"hoodi": NODES}
    assert found["seconds"] < 25  # it ended by itself
    written = json.loads(file.read_text())
    assert {each["record"] for each in written.values()} == {each.to_text() for each in records}
    assert not (tmp_path / "none").exists()


async def test_discv4_nodes_are_found_in_the_table_without_a_terminal(tmp_path):
    async with swarm(4, v4=True) as records:
        running = await start(*words(tmp_path, "--timeout", 15, boot=records[0], discovery="v4"))
        code, out, err = await running.end()
    assert code == 0
    assert out.startswith("4 nodes answered")
    assert all(each.public_key.hex()[:16] in out for each in records)
    assert max(map(len, out.splitlines())) <= 140
    assert "0 nodes answered" in err  # a line now and then


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_an_endless_crawl_with_what_was_found(tmp_path, number):
    async with swarm(3) as records:
        running = await start(*words(tmp_path, "--json-lines", "--timeout", 0, boot=records[0]))
        assert running.child.stdout is not None
        async with asyncio.timeout(60):
            first = await running.child.stdout.readline()
        running.child.send_signal(number)
        code, out, err = await running.end()
    assert (code, err) == (0, "")
    found = [json.loads(line)["id"] for line in (first.decode() + out).splitlines()]
    assert 1 <= len(found) == len(set(found))
    assert set(found) <= {each.node_id.hex() for each in records}


async def test_reader_that_has_enough_ends_the_crawl_without_a_word(tmp_path):
    async with swarm(3) as records:
        reading, writing = os.pipe()
        running = await start(
            *words(tmp_path, "--json-lines", "--timeout", 0, boot=records[0]), stdout=writing
        )
        os.close(writing)
        os.close(reading)
        async with asyncio.timeout(60):
            _, err = await running.child.communicate()
    assert (running.child.returncode, err) == (1, b"")


async def test_hello_says_why_there_is_no_name(tmp_path):
    async with swarm(1) as records:
        running = await start(*words(tmp_path, "--json-lines", "--hello", "--timeout", 15, boot=records[0]))
        code, out, _ = await running.end()
    assert code == 0
    assert json.loads(out)["client"] is None
    assert json.loads(out)["no_client"]  # nobody listens on that port
