"""The status page in a real browser: Debian's Chromium without a screen, by playwright.

tools/install-chromium.sh installs it. Without it, or without playwright, these tests are skipped, which
pytest's summary tells.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from relay.observe.loop_stall import LoopStallMonitor
from relay.observe.metrics import Metrics
from relay.observe.pages import Pages, Readiness
from relay.observe.snapshot import MetricsSnapshot, PeerKind, TorView
from relay.observe.status_page.site import StatusSite
from relay.observe.status_page.source import OwnAddress, PeerRow
from relay.rpc.httpd import HttpServer
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.daemon import RelayProcess

playwright = pytest.importorskip(
    "playwright.async_api", reason="playwright is not installed (uv pip install)"
)
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: run tools/install-chromium.sh"),
]

ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"
SECONDS = 60_000  # milliseconds that playwright waits: a busy machine is slow
EVIL = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>'


class Relayed:
    """What the page looks at, as a test wants it."""

    def __init__(self) -> None:
        self.now = MetricsSnapshot(
            peers={PeerKind("onion", False): 7, PeerKind("ipv4", True): 3},
            tor=TorView(bootstrap_percent=100, control_connected=True, service_up=True, introductions=3),
            head=23_900_000,
        )
        self.parts = [Readiness("started", True, "all steps done"), Readiness("tor", True)]
        self.addresses = [OwnAddress("onion", ONION, 30303, True)]
        self.rows = [
            PeerRow(EVIL, "ipv4", True, False, 69, 65.0, "93.184.216.34"),
            PeerRow("Geth/v1.17.8-stable/linux-amd64/go1.24", "onion", False, True, 70, 4000.0, ""),
        ]

    def snapshot(self) -> MetricsSnapshot:
        return self.now

    def own_addresses(self) -> list[OwnAddress]:
        return self.addresses

    def peers(self) -> list[PeerRow]:
        return self.rows


class Served(Relayed):
    """The page on a port of loopback."""

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        stalls = LoopStallMonitor(loop)
        self.site = StatusSite(self, self, lambda: self.parts, lambda: 0.01, loop, version="1.2.3")
        self.site.pulse.start()
        pages = Pages(
            Metrics(self, stalls, version="1.2.3"),
            stalls,
            lambda: self.parts,
            clock=loop.time,
            site=self.site,
        )
        self.server = HttpServer(pages.answer)
        sock = SocketFactory(SocketRules.anywhere()).listen_tcp("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        await self.server.start(sock)

    async def stop(self) -> None:
        self.site.pulse.stop()
        await self.server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    async with playwright.async_playwright() as driver:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = await driver.chromium.launch(executable_path=CHROMIUM, args=root)
        yield found
        await found.close()


@pytest_asyncio.fixture(loop_scope="module")
async def served() -> AsyncIterator[Served]:
    site = Served()
    await site.start()
    yield site
    await site.stop()


class Tab:
    """A page, and what it did besides showing itself."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Any) -> AsyncIterator[Tab]:
    context = await browser.new_context()
    context.set_default_timeout(SECONDS)
    yield Tab(await context.new_page())
    await context.close()


async def opened(browser: Any, url: str, **options: Any) -> Any:
    context = await browser.new_context(**options)
    context.set_default_timeout(SECONDS)
    page = await context.new_page()
    await page.goto(url)
    return page


async def test_page_asks_nobody_else_and_breaks_no_rule_of_its_own(served: Served, tab: Tab) -> None:
    await tab.page.goto(served.url + "/")
    await playwright.expect(tab.page.locator("#live")).to_have_text("live", timeout=SECONDS)

    assert {url.rpartition("/")[0] for url in tab.asked} == {served.url}
    assert set(tab.asked) <= {served.url + "/", served.url + "/events", served.url + "/favicon.ico"}
    assert [each for each in tab.complaints if "favicon" not in each and "404" not in each] == []


async def test_page_is_live(served: Served, tab: Tab) -> None:
    await tab.page.goto(served.url + "/")
    await playwright.expect(tab.page.locator("#peers tr").first).to_have_text("onion07", timeout=SECONDS)
    served.now = replace(served.now, peers={PeerKind("onion", True): 12}, head=23_900_001)
    served.parts[1] = Readiness("tor", False, "bootstrapped 45%")

    await playwright.expect(tab.page.locator("#peers tr").first).to_have_text("onion120", timeout=SECONDS)
    await playwright.expect(tab.page.locator("#total")).to_have_text("12", timeout=SECONDS)
    await playwright.expect(tab.page.locator("#ready")).to_have_text("not ready: tor", timeout=SECONDS)
    await playwright.expect(tab.page.locator("#ready")).to_have_class("bad", timeout=SECONDS)
    events = tab.page.locator("#events li")
    await playwright.expect(events.first).to_contain_text("onion peers: 12, up from 7", timeout=SECONDS)
    assert await events.count() == len(served.site.pulse.events)


async def test_page_says_when_the_relay_is_gone(served: Served, tab: Tab) -> None:
    await tab.page.goto(served.url + "/")
    await playwright.expect(tab.page.locator("#live")).to_have_text("live", timeout=SECONDS)
    await served.stop()

    await playwright.expect(tab.page.locator("#live")).to_contain_text(
        "what is shown is old", timeout=SECONDS
    )


async def test_page_stands_without_javascript(served: Served, browser: Any) -> None:
    page = await opened(browser, served.url + "/", java_script_enabled=False)

    words = await page.inner_text("body")
    assert ONION + ":30303" in words
    assert "23,900,000" in words
    assert re.search(r"onion\s+0\s+7", words)
    assert await page.locator("button:visible").count() == 0
    await page.get_by_role("link", name="show them, addresses masked").click()
    assert "93.184.*.*" in await page.inner_text("table")
    await page.context.close()


async def test_hostile_names_are_shown_and_never_run(served: Served, tab: Tab) -> None:
    served.parts = [Readiness(EVIL, False, EVIL)]
    for path in ("/", "/peers", "/peers/addresses"):
        await tab.page.goto(served.url + path)
        if path == "/":
            await playwright.expect(tab.page.locator("#live")).to_have_text("live", timeout=SECONDS)
        assert await tab.page.evaluate("window.owned") is None
        assert await tab.page.locator("script").count() == 1
        assert await tab.page.locator("img").count() == 0
        assert "<script>window.owned=1</script>" in await tab.page.inner_text("body")
    assert "93.184.216.34" in await tab.page.inner_text("body")


async def test_policy_stops_what_would_be_injected(served: Served, tab: Tab) -> None:
    await tab.page.goto(served.url + "/")
    await tab.page.evaluate("""() => {
        const script = document.createElement('script');
        try { script.text = 'window.owned = 1'; } catch (_) { return; }
        document.body.append(script);
    }""")

    assert await tab.page.evaluate("window.owned") is None


async def test_copy_button_copies_the_address(served: Served, browser: Any) -> None:
    page = await opened(browser, served.url + "/", permissions=["clipboard-read", "clipboard-write"])
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "to the contents"
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Copy the onion address"
    await page.keyboard.press("Enter")

    await playwright.expect(page.locator("#said")).to_have_text("copied", timeout=SECONDS)
    assert await page.evaluate("navigator.clipboard.readText()") == f"{ONION}:30303"
    await page.context.close()


async def test_screen_readers_find_names_for_everything(served: Served, tab: Tab) -> None:
    await tab.page.goto(served.url + "/")

    assert await tab.page.get_by_role("main").count() == 1
    assert await tab.page.get_by_role("heading", level=1).inner_text() == "pyrelay 1.2.3"
    headings = await tab.page.get_by_role("heading", level=2).all_inner_texts()
    assert headings[:3] == ["Our own address", "Peers by network", "Transactions a second"]
    assert await tab.page.get_by_role("img", name="QR code of the onion address").count() == 1
    assert await tab.page.get_by_role("rowheader", name="onion", exact=True).count() == 1
    assert await tab.page.get_by_role("columnheader").all_inner_texts() == ["network", "inbound", "outbound"]
    assert await tab.page.get_by_role("list", name="recent events").count() == 1
    tree = await tab.page.locator("body").aria_snapshot()
    assert "now" in tree or "measured every 5 seconds" in tree
    assert await tab.page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_page_follows_the_colours_that_are_wanted(served: Served, browser: Any, scheme: str) -> None:
    page = await opened(browser, served.url + "/", color_scheme=scheme)
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert (min(map(int, re.findall(r"\d+", ground))) > 200) is (scheme == "light")
    await page.context.close()


@pytest.mark.parametrize("width", [320, 768, 1400])
async def test_page_fits_screens(served: Served, browser: Any, width: int) -> None:
    for path in ("/", "/peers/addresses"):
        page = await opened(browser, served.url + path, viewport={"width": width, "height": 700})
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await page.context.close()


async def test_relay_serves_its_page(tmp_path: Path, tab: Tab) -> None:
    async with RelayProcess(tmp_path / "relay") as relay:
        [served] = [each["address"] for each in relay.events("serving") if "127.0.0.1" in each["address"]]
        await tab.page.goto(f"http://{served}/")
        await playwright.expect(tab.page.locator("#live")).to_have_text("live", timeout=SECONDS)

        assert await tab.page.inner_text("#ready") == "ready"
        assert "none that is given away" in await tab.page.inner_text("main")
        await tab.page.goto(f"http://{served}/peers")
        assert "0 peers" in await tab.page.inner_text("table")
        await tab.page.goto("about:blank")
