"""A relay behind walls, with everything around it that could make it leak, and the count of what it did.

    async with walled_lab("--only-onion") as lab:
        await lab.run()
        assert not lab.evidence().strangers

The relay runs in a network of its own (`tests.aids.walled`): Tor's SOCKS and control port on its loopback,
routes to nowhere for all else. Tor is a scripted proxy and control port in this process, so that it can die
in the very moment that a test wants, and what the proxy leads to is in this process or beside it.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from relay.primitives.enode import Enode
from relay.primitives.keys import NodeKey
from tests.aids.beacon_api import BeaconApi
from tests.aids.control_server import ControlServer
from tests.aids.dns_server import DnsServerAid
from tests.aids.kernel import LISTEN, kind_of, sockets_of
from tests.aids.lab import Chain, OnionRelay
from tests.aids.leaky import JUMP
from tests.aids.socks_server import Act, Script
from tests.aids.until import until
from tests.aids.upstream import ScriptedHttp
from tests.aids.walled import Flow, Walled
from tests.aids.walled_relay import HTTP, METRICS, WalledRelay, WalledSocks

__all__ = ["Evidence", "Lab", "SocketWatch"]

ONION_LISTEN = 40303
LIST, RESOLVER, NODE, BEACON = (
    "list.leaks.example",
    "dns.leaks.example",
    "node.leaks.example",
    "head.leaks.example",
)
NAMED, NUMBERED = ("peer.leaks.example", 30303), ("198.51.100.9", 30303)
TRAP = 9  # a port of loopback that nobody may knock at
SECONDS = 40.0


@dataclass
class Evidence:
    """What came of a run.

    Attributes:
        counts: each feature with how often it worked; all must be above 0.
        to_tor: packets with Tor's ports and our own listeners.
        strangers: packets that are neither.
        looks: how often the process's sockets were looked at.
        odd_sockets: what they were, where they were anything else than TCP with Tor, or our listeners.
    """

    mode: str
    counts: Mapping[str, int]
    to_tor: int
    strangers: Counter[Flow]
    looks: int
    odd_sockets: Counter[str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing left but to Tor."""
        return not self.strangers and not self.odd_sockets

    def table(self) -> str:
        """For people."""
        rows = [*((name, str(count)) for name, count in self.counts.items())]
        rows += [
            ("packets with Tor and own listeners", str(self.to_tor)),
            ("packets with anybody else", str(self.strangers.total())),
            ("looks at the sockets", str(self.looks)),
            ("sockets of any other kind", str(self.odd_sockets.total())),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {value:>7}" for name, value in rows]
        lines += [f"  ! {count} x {flow}" for flow, count in self.strangers.items()]
        lines += [f"  ! {count} x {text}" for text, count in self.odd_sockets.items()]
        return "\n".join([f"{self.mode}:", *lines])


@dataclass
class Lab:
    """See the module.

    Attributes:
        relay: behind the walls.
        dialed, dialer: relays out here, the one dialed and the other dialing, both by onion.
        counts: features that worked.
    """

    walls: Walled
    relay: WalledRelay
    dialed: OnionRelay
    dialer: OnionRelay
    plain: OnionRelay
    chain: Chain
    socks: WalledSocks
    control: ControlServer
    dns: DnsServerAid
    node: ScriptedHttp
    beacon: BeaconApi
    dead: NodeKey
    dead_onion: str
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def exits(self) -> bool:
        """Whether IP peers are dialed."""
        return "tor" in self.relay.arguments

    @property
    def ports(self) -> set[int]:
        """Of loopback behind the walls: Tor's, and the relay's own."""
        return {self.socks.port, self.control.port, ONION_LISTEN, METRICS, HTTP}

    def asked(self, host: str) -> int:
        """How often the proxy was asked for a host."""
        return sum(each.host == host for each in self.socks.asked)

    # -- the scenario ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go through every feature."""
        watch = SocketWatch(self)
        self._watch = watch
        self.write_static_nodes()
        async with asyncio.TaskGroup() as starts:
            starts.create_task(self.dialed.start(SECONDS))
            if self.exits:
                starts.create_task(self.plain.start(SECONDS))
            self.relay.launch()
            watch.start()
            starts.create_task(self.relay.wait_ready(SECONDS))
        self.dialer.write_static_nodes([self.relay.onion_enode])
        await self.dialer.start(SECONDS)
        self.counts["onion service published"] = len(self.control.matching("ADD_ONION"))
        await self._peers()
        await self._transactions()
        await self._discovery()
        await self._upstreams()
        await self._refuse_mid_dial()
        await self._restart_tor()
        await self._hours()
        await self._done()

    def write_static_nodes(self) -> None:
        """Onions, names, IPs, all at once, and everything that means this machine."""
        key = lambda: NodeKey.generate(secrets.token_bytes).public_key.hex()  # noqa: E731
        tricks = ("127.0.0.1", "[::1]", "localhost", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "0.0.0.0")
        numbered = (
            Enode(self.plain.key.public_key, *NUMBERED, 0).url
            if self.exits
            else f"enode://{key()}@{NUMBERED[0]}:{NUMBERED[1]}"
        )
        self.relay.write_static_nodes(
            [
                # An address and an onion: only the onion may be dialed first.
                self.dialed.record(ip="198.51.100.77", onion=self.dialed.onion, tcp=30303),
                numbered,
                f"enode://{key()}@{NAMED[0]}:{NAMED[1]}",
                *(f"enode://{key()}@{host}:{TRAP}" for host in tricks),
                Enode(self.dead.public_key, self.dead_onion, 30303, 0).url,
            ]
        )

    async def _peers(self) -> None:
        await self.relay.until_metric(
            "pyrelay_peers", lambda n: n >= 1, SECONDS, network="onion", direction="inbound"
        )
        await self.relay.until_metric(
            "pyrelay_peers", lambda n: n >= 1, SECONDS, network="onion", direction="outbound"
        )
        self.counts["peer with onion and IP, joined by onion"] = self.asked(self.dialed.onion)
        self.counts["peers that came in by the onion service"] = int(
            await self.relay.metric("p2p_serves_success")
        )
        await until(lambda: self.asked(self.dead_onion), "the dead onion is dialed", SECONDS)
        if not self.exits:
            refused = self.relay.events("static node is not dialed until the nodes change")
            self.counts["static nodes with IP, name or loopback, refused"] = len(refused)
            assert not {NAMED[0], NUMBERED[0]} & {each.host for each in self.socks.asked}
            return
        await self.relay.until_metric(
            "pyrelay_peers", lambda n: n >= 1, SECONDS, network="ipv4", direction="outbound"
        )
        self.counts["IP peer joined through an exit"] = self.asked(NUMBERED[0])
        await until(lambda: self.asked(NAMED[0]), "the named peer is dialed", SECONDS)
        self.counts["named peer, name given to Tor"] = self.asked(NAMED[0])
        tricks = await until(
            lambda: [each for each in self.socks.asked if each.port == TRAP],
            "loopback is asked of Tor",
            SECONDS,
        )
        self.counts["nodes at loopback, asked of Tor alone"] = len(tricks)

    async def _transactions(self) -> None:
        await self._passes(self.dialed, self.relay)
        await self._passes(self.relay, self.dialer)

    async def _passes(self, giver: OnionRelay, taker: OnionRelay) -> None:
        before = await taker.metric("pyrelay_pool_transactions")
        await giver.submit(self.chain.transfers(1))
        await taker.until_metric("pyrelay_pool_transactions", lambda held: held > before, SECONDS)
        self.counts["transactions passed, in and out"] += 1

    async def _discovery(self) -> None:
        await self.relay.until_metric("pyrelay_discovery_live", lambda n: n >= 2, SECONDS, protocol="onion")
        self.counts["nodes met whose records hold IPs"] = int(
            await self.relay.metric("pyrelay_discovery_live", protocol="onion")
        )
        await self.relay.until_event("dns list read", SECONDS)
        self.counts["node lists read, by a resolver's name"] = len(self.relay.events("dns list read"))

    async def _upstreams(self) -> None:
        answers = [
            await self.relay.rpc("eth_getBalance", "0x" + "11" * 20, "latest"),
            (await self.relay.post("eth_getBalance", "0x" + "22" * 20, "latest"))["result"],
        ]
        assert answers == ["0x7", "0x7"]
        self.counts["calls answered by an upstream, by its name"] = self.node.methods.count("eth_getBalance")
        await until(lambda: self.beacon.asked, "the consensus node is asked", SECONDS)
        self.counts["answers of a consensus node, by its name"] = len(self.beacon.asked)

    async def _refuse_mid_dial(self) -> None:
        """The proxy breaks off in place of a reply, then says nothing at all; both are dials that fail."""
        first = before = len(self.socks.asked)
        self.socks.script = Script(Act.CLOSE_AFTER_REQUEST)
        await self._cut_and_move(lambda: len(self.socks.asked) > before)
        self.counts["dials that the proxy broke off"] = len(self.socks.asked) - first
        before = self.socks.connections
        self.socks.script = Script(Act.SILENT)
        await self._cut_and_move(lambda: self.socks.connections > before)
        self.counts["dials that the proxy died in"] = self.socks.connections - before
        await self.socks.stop()  # while they wait for its answer
        self.socks.script = Script()

    async def _cut_and_move(self, reached: Any) -> None:
        self.socks.cut()

        async def moved() -> bool:
            self.relay.signal(signal.SIGUSR1)
            return bool(reached())

        await until(moved, "the relay dials again", SECONDS, 0.5)

    async def _restart_tor(self) -> None:
        """The control port goes, too, and both come back."""
        before = len(self.control.matching("ADD_ONION"))
        self.control.drop()
        await self.relay.until_metric("pyrelay_onion_service_up", 0, SECONDS)
        await self.socks.start()
        self.relay.signal(signal.SIGUSR1)

        async def back() -> bool:
            return len(self.control.matching("ADD_ONION")) > before

        await until(back, "the service is published again", SECONDS)
        self.counts["restarts of Tor, with the service back"] = (
            len(self.control.matching("ADD_ONION")) - before
        )
        await self.relay.until_metric("pyrelay_onion_service_up", 1, SECONDS)

    async def _hours(self) -> None:
        """Three hours in steps of ten minutes, each long enough for what is due."""
        before = Counter(each.host for each in self.socks.asked)
        began = self.counts["minutes that the clock was moved"]
        while self.counts["minutes that the clock was moved"] < began + 180:
            self.counts["minutes that the clock was moved"] += int(JUMP / 60)
            looks = self._watch.looks
            self.relay.signal(signal.SIGUSR1)
            await until(lambda looks=looks: self._watch.looks >= looks + 4, "a moment", SECONDS)
        await self.relay.until_metric("p2p_peers", lambda n: n >= 1, SECONDS)
        await until(lambda: self.asked(self.dead_onion) >= 3, "the dead onion is retried", SECONDS)
        self.counts["retries of an onion that is gone"] = self.asked(self.dead_onion) - 1
        after = Counter(each.host for each in self.socks.asked)
        self.counts["requests to the proxy meanwhile"] = (after - before).total()
        self.counts["peers joined again after the restart"] = int(await self.relay.metric("p2p_peers"))

    async def _done(self) -> None:
        self.counts["requests to the proxy in all"] = len(self.socks.asked)
        self._watch.stop()

    def evidence(self) -> Evidence:
        """Return what came of it, once the relay has stopped or not."""
        self._watch.stop()
        mode = " ".join(
            word for word in self.relay.arguments[:8] if word in ("--only-onion", "--clearnet", "tor")
        )
        return Evidence(
            mode,
            self.counts,
            self.walls.to_ports(self.ports),
            self.walls.strangers(self.ports),
            self._watch.looks,
            self._watch.odd,
        )


class SocketWatch:
    """Looks at the sockets of the relay again and again, in a thread."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.looks = 0
        self.odd: Counter[str] = Counter()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            with suppress(FileNotFoundError, ProcessLookupError, AssertionError, PermissionError):
                self._look(self._lab.relay.pid)

    def _look(self, pid: int) -> None:
        lab = self._lab
        found = sockets_of(pid)
        own = {ONION_LISTEN, METRICS, HTTP}
        for each in found.tcp:
            ends = (each.local, each.remote)
            if each.state == LISTEN:
                fine = each.local[0] == "127.0.0.1" and each.local[1] in own
            else:
                # What was just closed, or is not yet connected, has zeros at an end.
                fine = any(end[1] in lab.ports for end in ends) or all(end[1] == 0 for end in ends)
            if not fine:
                self.odd[f"tcp {each.local} {each.remote}"] += 1
        for inode in found.others:
            kind = kind_of(pid, inode)  # TCP before its connect() is in no table
            if kind not in (None, (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_STREAM)):
                self.odd[f"socket of {kind}"] += 1
        self.looks += 1
