"""Makes the pictures of `pyrelay monitor` and of the status page, from made-up figures.

python docs/img/make_monitor.py     writes monitor.svg, and status-*.png where chromium is there
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import shutil
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from relay.monitor.geography import Nowhere
from relay.monitor.node import NodeView
from relay.monitor.peer import Address, Peer, read_client
from relay.monitor.render import Canvas, draw_screen
from relay.monitor.view import ViewState
from relay.monitor.watch import Watch
from relay.observe.loop_stall import LoopStallMonitor
from relay.observe.metrics import Metrics
from relay.observe.pages import Pages, Readiness
from relay.observe.snapshot import MetricsSnapshot, PeerKind, TorView
from relay.observe.status_page.pulse import Event, Rate
from relay.observe.status_page.site import StatusSite
from relay.observe.status_page.source import OwnAddress, PeerRow
from relay.relaying.counters import RelayCounters
from relay.rpc.httpd import HttpServer
from relay.transports.sockets import SocketFactory, SocketRules

HERE: Final = Path(__file__).parent
CHROMIUM: Final = shutil.which("chromium")
ONION: Final = (
    "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"  # of the specification's tests
)
CLIENTS: Final = (
    *["Geth/v1.17.8-stable/linux-amd64/go1.24"] * 5,
    *["Nethermind/v1.36.0/linux-x64/dotnet10"] * 3,
    *["reth/v2.5.1/x86_64-unknown-linux-gnu"] * 2,
    "besu/v26.3.0/osx-aarch_64/openjdk-21",
    "erigon/v3.1.0/windows-amd64/go1.24",
    "pyrelay/v0.1.0",
)
HEAD: Final = 23_900_000
EVENTS: Final = (
    "this relay started",
    "Tor's start: 100 %",
    "peers can reach the onion service",
    "onion peers: 23, up from 22",
    "ipv4 peers: 24, up from 23",
)


def some_peer(dice: random.Random, number: int) -> Peer:
    """Make a peer up, at an address that is kept for documentation."""
    network = dice.choice(("onion", "ipv4", "ipv4", "ipv6"))
    host = {"onion": ONION, "ipv4": f"203.0.113.{number}", "ipv6": f"2001:db8:{number:x}::1"}[network]
    return Peer(
        key=dice.randbytes(32).hex(),
        name=read_client(dice.choice(CLIENTS)),
        inbound=dice.random() < 0.6,
        trusted=number == 3,
        static=number in (3, 7),
        address=Address(network, host, 30303),
        eth=dice.choice((68, 69, 70)),
        snap=dice.choice((None, 1)),
        head=HEAD - dice.choice((0, 0, 0, 1, 2, 40)),
    )


def draw_monitor() -> None:
    """Draw the live screen."""
    dice, watch = random.Random(8), Watch(0.0)
    peers = [some_peer(dice, number) for number in range(50)]
    for minute in range(40):
        at = max(12, int(50 * (1 - 0.5 ** (minute / 4))))
        watch.take(
            NodeView("execution", "Geth/v1.17.8", "a", "mainnet", HEAD, False, None, tuple(peers[:at])),
            minute * 60,
        )
    drawn = draw_screen(
        watch, 39 * 60 + 1, Canvas(112, 28), Nowhere(), ViewState(sort="age", descending=True)
    )
    console = Console(record=True, width=112, height=28, file=io.StringIO(), force_terminal=True)
    for line in drawn.lines:
        console.print(line, no_wrap=True, crop=True)
    console.save_svg(str(HERE / "monitor.svg"), title="pyrelay monitor")


class Sample:
    """A relay on a good day."""

    def __init__(self) -> None:
        counters = RelayCounters()
        counters.seen, counters.relayed = 184_213, 171_902
        self.now = MetricsSnapshot(
            peers={
                PeerKind("onion", False): 14, PeerKind("onion", True): 9,
                PeerKind("ipv4", False): 11, PeerKind("ipv4", True): 13, PeerKind("ipv6", True): 3,
            },
            ingress=1_830_000_000, egress=2_410_000_000, head=HEAD, transactions=counters,
            pool_transactions=4_120, pool_bytes=1_900_000,
            tor=TorView(100, True, True, 24, 0, 1_260.0, 3),
        )  # fmt: skip
        self.parts = [Readiness("started", True, "all steps done"), Readiness("listening", True)]
        self.parts += [Readiness("tor", True, "bootstrapped 100%"), Readiness("onion-service", True)]

    def snapshot(self) -> MetricsSnapshot:
        """See `MetricsSource`."""
        return self.now

    def own_addresses(self) -> list[OwnAddress]:
        """See `StatusSource`."""
        return [OwnAddress("onion", ONION, 30303, True)]

    def peers(self) -> list[PeerRow]:
        """See `StatusSource`."""
        return []


async def shoot_page() -> None:
    """Take pictures of the page: light, dark, and as a telephone shows it."""
    from playwright.async_api import async_playwright  # noqa: PLC0415

    sample, loop = Sample(), asyncio.get_running_loop()
    stalls = LoopStallMonitor(loop)
    site = StatusSite(sample, sample, lambda: sample.parts, lambda: 0.012, loop, version="0.1.0")
    dice = random.Random(3)
    site.pulse.rates.extend(Rate(14 + dice.gauss(0, 3), 12 + dice.gauss(0, 3)) for _ in range(60))
    for number, words in enumerate(EVENTS, 1):
        site.pulse.events.append(Event(number, loop.time() - 400 / number, words))
    pages = Pages(
        Metrics(sample, stalls, version="0.1.0"), stalls, lambda: sample.parts, clock=loop.time, site=site
    )
    server = HttpServer(pages.answer)
    sock = SocketFactory(SocketRules.anywhere()).listen_tcp("127.0.0.1", 0)
    await server.start(sock)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
    async with async_playwright() as driver:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=root)
        for name, scheme, width in (("light", "light", 1060), ("dark", "dark", 1060), ("small", "dark", 390)):
            options: dict[str, Any] = {"color_scheme": scheme, "viewport": {"width": width, "height": 700}}
            page = await browser.new_page(**options)
            await page.goto(url)
            await page.screenshot(path=str(HERE / f"status-{name}.png"), full_page=True)
            await page.close()
        await browser.close()
    await server.close()


if __name__ == "__main__":
    draw_monitor()
    if CHROMIUM is not None:
        asyncio.run(shoot_page())
