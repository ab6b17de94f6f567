"""Builds the lab of `tests.aids.leaks`: the relay behind walls, a scripted Tor there, all others out here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey
from tests.aids.beacon_api import BeaconApi, blinded_block
from tests.aids.control_server import ControlServer
from tests.aids.discv5 import node_key, onion_record
from tests.aids.dns_server import DnsServerAid
from tests.aids.dnsdisc import signed_tree
from tests.aids.lab import CHAIN_ID, OnionRelay
from tests.aids.leaks import BEACON, LIST, NODE, NUMBERED, ONION_LISTEN, RESOLVER, Lab
from tests.aids.onion_streams import StreamWorld
from tests.aids.socks_server import Route
from tests.aids.tor_lab import ScriptedTor, scripted_lab
from tests.aids.upstream import ScriptedHttp
from tests.aids.walled import Walled
from tests.aids.walled_relay import HTTP, METRICS, WalledRelay, WalledSocks

__all__ = ["walled_lab"]


@asynccontextmanager
async def walled_lab(*flags: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Lab]:
    """Build everything; nothing runs yet but what is in this process."""
    async with AsyncExitStack() as stack:
        walls = stack.enter_context(Walled())
        place = await stack.enter_async_context(scripted_lab())
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        relay = WalledRelay(place.folder / "walled", place.chain.path, *flags, environment=environment)
        relay.walls = walls
        stack.push_async_callback(relay.stop)

        others = ("--discovery", "off", "--dial-ratio", "1000")
        dialed = await place.relay("--only-onion", *others)
        dialer = await place.relay("--only-onion", "--discovery", "off")
        plain = place.plain("--listen-address", "127.0.0.1", "--port", "0")

        onion_world = StreamWorld(tasks)
        stack.callback(onion_world.close)
        first, first_port = await _node(onion_world, 1, stack)
        second, second_port = await _node(onion_world, 2, stack)
        first.core.add_bootnode(second.enode)
        for each in (second, first):
            each.driver.start()

        records = [
            onion_record(7, ip="198.51.100.70"),
            build_record(node_key(8), 1, ip="198.51.100.80", tcp=30303, udp=30303),
        ]
        tree, link = signed_tree(LIST, records)
        dns = await stack.enter_async_context(
            DnsServerAid({name: [text] for name, text in tree.texts(link.domain).items()})
        )
        node = await stack.enter_async_context(
            ScriptedHttp(chain=CHAIN_ID, results={"eth_getBalance": "0x7"})
        )
        beacon = await stack.enter_async_context(BeaconApi(blinded_block("1", "0x" + "44" * 32)))

        routes: dict[tuple[str, int], Route] = {
            (RESOLVER, 53): ("127.0.0.1", dns.port),
            (NODE, 8545): ("127.0.0.1", node.port),
            (BEACON, 5052): ("127.0.0.1", int(beacon.url.rpartition(":")[2])),
            (first.endpoint.host, 30303): ("127.0.0.1", first_port),
            (second.endpoint.host, 30303): ("127.0.0.1", second_port),
        }
        assert isinstance(place.proxies, ScriptedTor)
        proxies = place.proxies

        def route(host: str, port: int) -> Route | None:
            if (host, port) == NUMBERED and plain.running:
                return plain.listener()
            return routes.get((host, port)) or proxies._route(host, port)

        socks = WalledSocks(routes=route)
        socks.walls = walls
        await stack.enter_async_context(socks)
        control = await _control(walls, place.folder, relay, tasks, stack)
        proxies._controls[relay.onion] = control
        door = await _door(walls, stack)
        relay.arguments += [
            "--tor-proxy", f"127.0.0.1:{socks.port}", "--tor-control", f"127.0.0.1:{control.port}",
            "--onion-listen", f"127.0.0.1:{ONION_LISTEN}", "--onion-target", f"127.0.0.1:{door}",
            "--metrics.port", str(METRICS), "--http", "--http.port", str(HTTP),
            "--discovery", "onion,dht,dns",
            "--bootnodes", f"{first.record.to_text()},{second.record.to_text()}",
            "--dns-lists", str(link), "--dns-resolver", f"tcp://{RESOLVER}:53",
            "--dandelion", "on", "--rpc-upstream", f"http://{NODE}:8545", "--beacon-api", f"http://{BEACON}:5052",
        ]  # fmt: skip
        dead = OnionKey.generate(secrets.token_bytes)
        yield Lab(
            walls, relay, dialed, dialer, plain, place.chain, socks, control, dns, node, beacon,
            NodeKey.generate(secrets.token_bytes), str(dead.address),
        )  # fmt: skip
        await relay.stop()


async def _node(world: StreamWorld, number: int, stack: AsyncExitStack) -> tuple[Any, int]:
    """A node of the onion DHT whose record tells addresses of all kinds."""
    record: NodeRecord = onion_record(number, ip=f"198.51.100.{number}", udp=30303)
    node = world.add(number, record=record)
    server = await asyncio.get_running_loop().create_server(node.gate.protocol, "127.0.0.1", 0)
    stack.callback(server.close)
    return node, server.sockets[0].getsockname()[1]


async def _control(
    walls: Walled, folder: Path, relay: OnionRelay, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> ControlServer:
    control = ControlServer(folder / "walled cookie", service_id=relay.onion.removesuffix(".onion"))
    control.cookie_path.write_bytes(control.cookie)
    server = await asyncio.start_server(
        lambda reader, writer: tasks.create_task(control.serve(reader, writer)), sock=walls.listen()
    )
    control.port = server.sockets[0].getsockname()[1]
    stack.callback(control.drop)
    stack.callback(server.close)
    return control


async def _door(walls: Walled, stack: AsyncExitStack) -> int:
    """A port out here that leads to the onion listener behind the walls: what Tor does for a service."""
    loop = asyncio.get_running_loop()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = walls.stream_socket()
        try:
            await loop.sock_connect(sock, ("127.0.0.1", ONION_LISTEN))
        except OSError:
            sock.close()
            writer.transport.abort()
            return
        there = await asyncio.open_connection(sock=sock)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        for each in (writer, there[1]):
            each.transport.abort()

    server = await asyncio.start_server(lead, "127.0.0.1", 0)
    stack.callback(server.close)
    return int(server.sockets[0].getsockname()[1])


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()
