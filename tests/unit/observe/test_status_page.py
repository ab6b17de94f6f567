"""The status page: what it says, to whom, and that nobody's text becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.observe.masks import mask_host
from relay.observe.pages import Readiness
from relay.observe.snapshot import MetricsSnapshot, PeerKind, TorView
from relay.observe.status_page.html import policy
from relay.observe.status_page.markup import Html, join, tag
from relay.observe.status_page.pulse import INTERVAL, MAX_EVENTS, MAX_RATES, Pulse
from relay.observe.status_page.site import MAX_LIVE, Found, StatusSite, is_local
from relay.observe.status_page.source import OwnAddress, PeerRow
from relay.observe.status_page.view import span
from relay.relaying.counters import RelayCounters
from tests.unit.observe.conftest import Loop, Source

ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>*{display:none}",
    "javascript:alert(1)//",
    "&lt;b&gt;",
    "\x1b[2J\u202eevil\ud800\x00",
    "{{constructor.constructor('alert(1)')()}}",
    "A" * 65536,
)


@dataclass(frozen=True)
class Request:
    path: str = "/"
    client: str = "127.0.0.1"
    headers: Mapping[str, str] = field(default_factory=dict)


class Told:
    """A StatusSource."""

    def __init__(self) -> None:
        self.addresses = [OwnAddress("onion", ONION, 30303, True)]
        self.rows = [PeerRow(name, "ipv4", True, False, 69, 3.0, "93.184.216.34") for name in HOSTILE]

    def own_addresses(self) -> list[OwnAddress]:
        return self.addresses

    def peers(self) -> list[PeerRow]:
        return self.rows


class Desk:
    """A site and what it looks at."""

    def __init__(self, source: Source, loop: Loop) -> None:
        self.source, self.loop, self.told = source, loop, Told()
        self.parts: tuple[Readiness, ...] = (
            Readiness("started", True, "all steps done"),
            Readiness("tor", False, "45%"),
        )
        self.site = StatusSite(source, self.told, lambda: self.parts, lambda: 0.25, loop, version="1.2.3")

    def get(self, path: str = "/", **words: object) -> Found:
        return self.site.answer(Request(path, **words))

    def text(self, path: str = "/", **words: object) -> str:
        return self.get(path, **words).body.decode()


@pytest.fixture
def desk(source: Source, loop_clock: Loop) -> Desk:
    counters = RelayCounters()
    counters.seen, counters.relayed = 1234, 567
    source.now = MetricsSnapshot(
        peers={PeerKind("onion", False): 2, PeerKind("ipv4", True): 3},
        tor=TorView(bootstrap_percent=100, control_connected=True, introductions=3),
        transactions=counters,
        head=23_900_000,
    )
    return Desk(source, loop_clock)


class Reader(HTMLParser):
    """Elements of a page, their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == name]


# -- what it says --------------------------------------------------------------------------------------


def test_page_says_how_the_relay_is(desk: Desk) -> None:
    desk.loop.now += 7200
    words = " ".join(Reader(desk.text()).words)

    for said in (
        "pyrelay 1.2.3",
        "not ready: tor",
        "2 h",
        "23,900,000",
        "1,234",
        ONION + ":30303",
        "100 %",
        "45%",
    ):
        assert said in words
    assert re.search(r"onion\s+0\s+2", words)
    assert re.search(r"ipv4\s+3\s+0", words)
    assert "held for 250 ms" in words


def test_page_without_tor_says_so(desk: Desk) -> None:
    desk.parts = (Readiness("started", True),)

    assert "not used" in " ".join(Reader(desk.text()).words)
    assert "ready" in desk.text()


def test_page_is_small_and_asks_for_nothing_else(desk: Desk) -> None:
    page = desk.text()
    reader = Reader(page)

    assert len(page) < 20_000
    asked = [
        value
        for _, each in reader.elements
        for key, value in each.items()
        if key in ("src", "href", "action")
    ]
    assert asked
    assert all(value is not None and value.startswith(("/", "#")) and value[:2] != "//" for value in asked)
    assert not re.search(r"https?://(?!www\.w3\.org/)", page)
    assert not any(key.startswith("on") or key == "style" for _, each in reader.elements for key in each)


def test_policy_names_the_very_style_and_script(desk: Desk) -> None:
    page, rules = desk.text(), desk.get().headers["Content-Security-Policy"]

    for name in ("style", "script"):
        [text] = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}';" in rules
    assert rules.startswith("default-src 'none';")
    assert "unsafe" not in rules
    assert rules == policy()


def test_graph_is_told_in_words_and_as_lines(desk: Desk) -> None:
    desk.site.pulse.start()
    for seen in (1234, 1284, 1384):
        desk.source.now.transactions.seen = seen
        desk.loop.pass_time(INTERVAL)

    view = desk.site.view(local=True)
    assert view.rate_words == "now 20.0 in and 0.0 out a second; at most 20.0 in five minutes"
    assert view.line("seen") == "289.8,80.0 294.9,42.0 300.0,4.0"
    assert f'points="{view.line("seen")}"' in desk.text()


# -- who is told what ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "headers", "local"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("::ffff:127.0.0.1", {}, True),
        ("", {}, True),
        ("192.0.2.7", {}, False),
        ("::ffff:192.0.2.7", {}, False),
        ("fe80::1%eth0", {}, False),
        ("odd", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}, False),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.7"}, False),
    ],
)
def test_this_machine_is_told_from_others(client: str, headers: dict[str, str], local: bool) -> None:
    assert is_local(Request(client=client, headers=headers)) is local


async def test_others_are_told_what_the_metrics_tell(desk: Desk) -> None:
    remote = {"client": "192.0.2.7"}
    stream = desk.get("/events", **remote).stream
    assert stream is not None
    await anext(stream)
    pictures = desk.text(**remote) + (await anext(stream)).decode()
    await stream.aclose()

    assert ONION[:8] not in pictures
    assert "read over a network" in pictures
    assert [desk.get(path, **remote).status for path in ("/peers", "/peers/addresses")] == [403, 403]
    assert b"93.184" not in desk.get("/peers", **remote).body


def test_addresses_of_peers_are_masked_until_asked(desk: Desk) -> None:
    assert "93.184" not in desk.text()
    assert "93.184.*.*" in desk.text("/peers")
    assert "216.34" not in desk.text("/peers")
    assert "93.184.216.34" in desk.text("/peers/addresses")


@pytest.mark.parametrize(
    ("host", "masked"),
    [
        ("93.184.216.34", "93.184.*.*"),
        ("2001:4860:4860::8888", "2001:4860:*"),
        ("::1", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        (ONION, "vww6yb*.onion"),
        ("a" * 52 + ".b32.i2p", "aaaaaa*.b32.i2p"),
        ("host.example", "*"),
    ],
)
def test_masks(host: str, masked: str) -> None:
    assert mask_host(host) == masked


# -- hostile texts -------------------------------------------------------------------------------------


def test_no_name_of_a_peer_becomes_markup(desk: Desk) -> None:
    desk.told.rows = []
    plain = [name for name, _ in Reader(desk.text("/peers")).elements]
    desk.told.rows = [PeerRow(name, name, True, True, 69, 3.0, name) for name in HOSTILE]
    reader = Reader(desk.text("/peers/addresses"))

    row = ["tr", *["td"] * 7]
    assert [name for name, _ in reader.elements if name not in ("tr", "td")] == [
        name for name in plain if name not in ("tr", "td")
    ]
    assert len(reader.elements) - len(plain) == len(row) * len(HOSTILE)
    assert len(reader.named("script")) == len(reader.named("style")) == 1


def test_hostile_details_stay_texts(desk: Desk) -> None:
    desk.parts = tuple(Readiness(name[:60], False, name[:200]) for name in HOSTILE)
    desk.source.now = replace(desk.source.now, peers={PeerKind(HOSTILE[0], True): 1})
    reader = Reader(desk.text())

    assert len(reader.named("script")) == len(reader.named("style")) == 1
    assert not reader.named("img")


LINE = st.text(st.characters(exclude_characters="\r\n\x00", codec="utf-8"))


@given(LINE, LINE)
def test_markup_escapes_whatever_is_put_in(text: str, value: str) -> None:
    reader = Reader(tag("p", text, class_=value))

    assert reader.elements == [("p", {"class": value})]
    assert len("".join(reader.words)) == len(text)


@pytest.mark.parametrize("value", [*HOSTILE[:5], "' onclick='x", '" onclick="x'])
def test_attributes_keep_to_their_quotes(value: str) -> None:
    assert Reader(tag("p", "x", class_=value)).elements == [("p", {"class": value})]


def test_markup_leaves_out_what_is_none() -> None:
    assert tag("a", None, "x", href=None, hidden=True, data_x="1") == '<a hidden data-x="1">x</a>'
    assert join("<", Html("<br>"), 3) == "&lt;<br>3"


# -- the stream ----------------------------------------------------------------------------------------


async def test_stream_brings_pictures_and_has_room_for_so_many(desk: Desk) -> None:
    streams = []
    for _ in range(MAX_LIVE):
        stream = desk.get("/events").stream
        assert stream is not None
        assert await anext(stream) == b"retry: 3000\n\n"
        streams.append(stream)

    picture = (await anext(streams[0])).decode()
    assert desk.get("/events").status == 503
    assert json.loads(picture.removeprefix("data: "))["total"] == 5
    assert picture.count("\n\n") == 1
    for stream in streams:
        await stream.aclose()
    again = desk.get("/events")
    assert again.status == 200
    assert again.stream is not None
    await again.stream.aclose()


# -- the pulse -----------------------------------------------------------------------------------------


def test_events_are_differences_of_metrics(source: Source, loop_clock: Loop) -> None:
    pulse = Pulse(loop_clock, source.snapshot)
    pulse.start()
    source.now = MetricsSnapshot(
        peers={PeerKind("onion", False): 2, PeerKind("onion", True): 1},
        tor=TorView(bootstrap_percent=100, control_connected=True, service_up=True),
    )
    loop_clock.pass_time(INTERVAL)
    source.now = MetricsSnapshot(tor=TorView(bootstrap_percent=100), breaches=1)
    loop_clock.pass_time(INTERVAL)
    loop_clock.pass_time(INTERVAL)

    assert [each.words for each in pulse.events] == [
        "this relay started",
        "onion peers: 3, up from 0",
        "Tor's start: 100 %",
        "Tor's control port answers",
        "peers can reach the onion service",
        "onion peers: 0, down from 3",
        "Tor's control port does not answer",
        "peers can not reach the onion service",
        "the tripwire stopped a call that would have got outside of Tor",
    ]
    assert [each.number for each in pulse.events] == list(range(1, 10))


def test_pulse_keeps_a_bounded_past_and_stops(source: Source, loop_clock: Loop) -> None:
    pulse = Pulse(loop_clock, source.snapshot)
    pulse.start()
    for number in range(200):
        source.now = MetricsSnapshot(peers={PeerKind("onion", False): number})
        loop_clock.pass_time(INTERVAL)

    assert (len(pulse.rates), len(pulse.events)) == (MAX_RATES, MAX_EVENTS)
    pulse.stop()
    before = pulse.events[-1]
    source.now = MetricsSnapshot()
    loop_clock.pass_time(INTERVAL)
    assert pulse.events[-1] is before


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_spans(seconds: float, words: str) -> None:
    assert span(seconds) == words
