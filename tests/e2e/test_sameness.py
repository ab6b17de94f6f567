"""Two only-onion relays on hosts unlike each other: what they show differs in keys and counters alone."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from relay.app.networks import load_network
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord
from tests.aids.http_client import exchange, request
from tests.aids.lab import CHAIN_ID, OnionRelay, free_port
from tests.aids.netns import host_named
from tests.aids.scripted_peer import ScriptedPeer
from tests.aids.tor_lab import ScriptedTor, scripted_lab
from tests.aids.until import until
from tests.aids.upstream import ScriptedHttp
from tests.aids.walled import needs_walls

pytestmark = [needs_walls, pytest.mark.slow]

NODE = "node.example"
HOSTS: dict[str, dict[str, str]] = {
    "alices-thinkpad": {"LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu", "USER": "alice", "LANGUAGE": "tr"},
    "build-7.corp.example": {"LC_ALL": "C", "TZ": "America/St_Johns", "USER": "bob"},
}


class Elsewhere(OnionRelay):
    """A relay on a host of its own name, in a folder of its own."""

    host = ""

    def launch(self) -> None:
        with host_named(self.host):
            super().launch()


@dataclass
class Shown:
    """All that a relay shows, keys and addresses replaced."""

    hello: object
    status: object
    record: object
    log: dict[str, set[str]]
    metrics: Mapping[str, Any]
    heads: dict[str, object]
    asked: list[str]


@pytest_asyncio.fixture
async def shown() -> AsyncIterator[dict[str, Shown]]:
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(scripted_lab())
        node = await stack.enter_async_context(
            ScriptedHttp(chain=CHAIN_ID, results={"eth_getBalance": "0x7"})
        )
        assert isinstance(place.proxies, ScriptedTor)
        place.proxies.routes[NODE, 8545] = ("127.0.0.1", node.port)
        found = {}
        for host, variables in HOSTS.items():
            home = place.folder / host.partition("-")[0] / "home" / variables["USER"]
            relay = Elsewhere(
                home / ".local" / "share" / "pyrelay", place.chain.path, "--only-onion",
                "--http", "--http.port", str(free_port()), "--rpc-upstream", f"http://{NODE}:8545",
                environment={**variables, "HOME": str(home)},
            )  # fmt: skip
            relay.host = host
            relay.arguments += await place.proxies.flags(relay)
            stack.push_async_callback(relay.stop)
            await relay.start(30)
            found[host] = await look(relay, node, str(place.chain.path))
            node.heads.clear()
        yield found


async def look(relay: OnionRelay, node: ScriptedHttp, genesis: str) -> Shown:
    """Ask it everything."""
    chain = load_network(genesis)
    host, port = relay.listener("onion")
    peer = await ScriptedPeer.dial(Enode(relay.key.public_key, host, port, 0).url, chain)
    async with peer:
        status = await peer.join()
        hello = peer.connection.remote_hello
    http = int(relay.arguments[relay.arguments.index("--http.port") + 1])
    call = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": ["0x" + "11" * 20, "latest"]}
    )
    rpc = await exchange(http, request("POST", body=call, headers={"Content-Type": "application/json"}))
    assert json.loads(rpc.body)["result"] == "0x7"
    assert relay.metrics_port is not None
    page = await exchange(relay.metrics_port, request(path="/debug/metrics"))
    wrong = await exchange(http, request("GET", "/nowhere", headers={"Connection": "close"}))
    record = NodeRecord.from_text(await relay.own_record())
    metrics = await relay.metrics()
    await until(lambda: node.heads, "the upstream was asked", 10)
    assert await relay.stop() == 0
    return Shown(
        hello=cleaned(repr(hello), relay),
        status=repr(status),
        record={
            name: cleaned(repr(value), relay)
            for name, value in record.pairs.items()
            if name not in ("secp256k1", "onion3")
        },
        log=log_of(relay),
        metrics=metrics,
        heads={
            "rpc": dict(rpc.headers),
            "page": {**page.headers, "content-length": ""},
            "wrong": dict(wrong.headers),
        },
        asked=[re.sub(r'"id": ?\d+', "", head) for head in node.heads],
    )


def cleaned(text: str, relay: OnionRelay) -> str:
    """Leave out what must differ: keys and addresses made of them, and ports that the system chose."""
    for secret in (relay.onion, relay.id, relay.key.public_key.hex(), repr(relay.key.public_key)):
        text = text.replace(secret, "KEY")
    return text.replace(relay.onion.removesuffix(".onion"), "KEY")


def log_of(relay: OnionRelay) -> dict[str, set[str]]:
    """Each event with its entries, times and numbers left out."""
    found: dict[str, set[str]] = {}
    for entry in relay.events():
        values = {name: value for name, value in entry.items() if name not in ("time", "seconds", "peer")}
        text = cleaned(json.dumps(values, sort_keys=True), relay)
        found.setdefault(entry["event"], set()).add(re.sub(r"\d+(\.\d+)?", "N", text))
    return found


async def test_two_relays_differ_in_keys_and_counters_alone(shown: dict[str, Shown]) -> None:
    one, other = shown.values()
    assert one.hello == other.hello
    assert "listen_port=0" in str(one.hello)
    assert one.status == other.status
    assert one.record == other.record
    assert one.heads == other.heads
    assert one.asked == other.asked
    assert {**one.log} == {**other.log}
    shapes = []
    for each in (one, other):
        shapes.append(
            {
                name: sorted(map(str, (entry["labels"] for entry in value)))
                if isinstance(value, list)
                else "number"
                for name, value in each.metrics.items()
            }
        )
    assert shapes[0] == shapes[1]


async def test_nothing_shown_names_the_host_its_owner_or_its_clock(shown: dict[str, Shown]) -> None:
    for host, found in shown.items():
        text = repr(found)
        for word in (host, HOSTS[host]["USER"], HOSTS[host]["TZ"], "+05:45", "/home/", "Kathmandu", "tr_TR"):
            assert word not in text, word
        for head in found.heads.values():
            assert isinstance(head, dict)
            assert "date" not in head
            assert head["server"] == "pyrelay"
        for asked in found.asked:
            assert "python" not in asked.lower()
            assert "aiohttp" not in asked.lower()
