"""Writes the page: complete without JavaScript; the script in it only keeps it fresh."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Final

from relay.observe.masks import mask_host
from relay.observe.status_page.markup import Html, join, tag
from relay.observe.status_page.source import OwnAddress, PeerRow
from relay.observe.status_page.view import GRAPH, Row, StatusView, span

__all__ = ["peers_page", "policy", "status_page"]

MAX_ROWS: Final = 1_000
MAX_CLIENT: Final = 120
LINKS: Final = (
    ("/debug/metrics", "metrics for Prometheus"),
    ("/healthz", "health"),
    ("/readyz", "readiness"),
)
NOT_HERE: Final = (
    "This page is read over a network: it tells what the metrics tell. Open it on the relay's own machine,"
    " as by ssh -L or kubectl port-forward, to see its addresses and peers."
)


@cache
def _asset(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


@cache
def policy() -> str:
    """Return the Content-Security-Policy: our style and our script by their hashes, and nothing else."""
    style, script = (_hash(_asset(name)) for name in ("style.css", "script.js"))
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def status_page(view: StatusView, version: str, *, local: bool) -> bytes:
    """Write the page. local: whoever asks is on this machine."""
    body = join(
        _header(view, version),
        tag(
            "main",
            _own(view.own) if local else None,
            _card("Peers by network", _peers(view)),
            _card("Transactions a second", _graph(view)),
            _card("Tor", _facts("tor", view.tor) if view.tor else tag("p", "not used")),
            _card("Health", _facts("parts", view.parts)),
            _card("Relaying", _facts("chain", view.chain)),
            _card("Recent events", _events(view)),
            _card("Each peer", _links_to_peers() if local else tag("p", NOT_HERE, class_="soft")),
            id="main",
        ),
        _footer(),
    )
    newest = str(view.events[0][0]) if view.events else "0"
    return _document("pyrelay", body, data_live="1", data_event=newest)


def peers_page(rows: Sequence[PeerRow], *, addresses: bool) -> bytes:
    """Write the page of peers, masked or not."""
    shown = rows[:MAX_ROWS]
    other = ("/peers", "mask addresses") if addresses else ("/peers/addresses", "show whole addresses")
    titles = ("network", "direction", "client", "eth", "connected", "kept", "address")
    table = tag(
        "table",
        tag("caption", f"{len(rows)} peers" + (f", {len(shown)} shown" if len(shown) < len(rows) else "")),
        tag("thead", tag("tr", *(tag("th", title, scope="col") for title in titles))),
        tag("tbody", *(_peer(row, addresses) for row in shown)),
    )
    links = (tag("a", "status", href="/"), tag("a", other[1], href=other[0]))
    scrolled = tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="peers")
    body = join(
        tag("header", tag("h1", "Peers"), *links),
        tag("main", tag("section", scrolled, class_="wide"), id="main"),
        _footer(),
    )
    return _document("pyrelay: peers", body)


def _document(title: str, body: Html, **attributes: str) -> bytes:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(_asset("style.css"))),
    )
    skip = tag("a", "to the contents", class_="skip", href="#main")
    script = tag("script", Html(_asset("script.js")))
    whole = tag("html", head, tag("body", skip, body, script, **attributes), lang="en")
    return b"<!doctype html>\n" + whole.encode("utf-8", "replace") + b"\n"


def _header(view: StatusView, version: str) -> Html:
    return tag(
        "header",
        tag("h1", f"pyrelay {version}"),
        tag("span", view.ready_words, id="ready", class_="ok" if view.ready else "bad", role="status"),
        tag("span", "up for ", tag("span", view.uptime, id="uptime"), class_="soft"),
        tag("span", "", id="live", class_="soft", role="status"),
    )


def _card(title: str, *children: str | None, wide: bool = False) -> Html:
    return tag("section", tag("h2", title), *children, class_="wide" if wide else None)


def _own(addresses: Iterable[OwnAddress]) -> Html:
    shown = [_own_address(each, f"own{number}") for number, each in enumerate(addresses)]
    words = None if shown else tag("p", "none that is given away", class_="soft")
    return _card("Our own address", *shown, words, tag("p", "", id="said", role="status", class_="soft"))


def _own_address(address: OwnAddress, name: str) -> Html:
    text, kind = _written(address), "ok" if address.up else "bad"
    reach = tag(
        "span", "reachable" if address.up else "not reachable yet", class_=kind, data_own=address.host
    )
    copy = tag("button", f"Copy the {address.network} address", type="button", data_copy=name, hidden=True)
    code = tag(
        "div", _qr(text), class_="qr", role="img", aria_label=f"QR code of the {address.network} address"
    )
    return tag(
        "div", tag("p", tag("code", text, id=name)), tag("p", f"{address.network}: ", reach), copy, code
    )


def _written(address: OwnAddress) -> str:
    return f"{address.host}:{address.port}" if address.port else address.host


@cache
def _qr(text: str) -> Html:
    import segno  # noqa: PLC0415 - 2 MB that a relay whose page nobody opens need not hold

    code = segno.make(text, error="m", micro=False)
    return Html(code.svg_inline(border=4, svgclass=None, lineclass=None, omitsize=True))


def _peers(view: StatusView) -> Html:
    titles = (("network", None), ("inbound", "n"), ("outbound", "n"))
    return tag(
        "table",
        tag("caption", tag("span", view.total, id="total"), " peers"),
        tag("thead", tag("tr", *(tag("th", title, scope="col", class_=kind) for title, kind in titles))),
        tag("tbody", *map(_row, view.peers), id="peers"),
    )


def _facts(name: str, rows: Iterable[Row]) -> Html:
    return tag("div", tag("table", tag("tbody", *map(_row, rows), id=name)), class_="scroll")


def _row(cells: Row) -> Html:
    first, *rest = cells
    return tag("tr", tag("th", first, scope="row"), *map(_cell, rest))


def _cell(value: str | int | bool) -> Html:
    if isinstance(value, bool):
        return tag("td", "yes" if value else "no", class_="ok" if value else "bad")
    return tag("td", value, class_="n" if isinstance(value, int) else None)


def _graph(view: StatusView) -> Html:
    width, height = GRAPH
    lines = [
        tag("polyline", id=f"line-{name}", class_=name, points=view.line(name)) for name in ("seen", "sent")
    ]
    graph = tag(
        "svg", *lines, class_="graph", viewBox=f"0 0 {width} {height}", preserveAspectRatio="none",
        aria_hidden="true",
    )  # fmt: skip
    keys = [
        tag("span", _key(name), f" {words}  ") for name, words in (("seen", "in"), ("sent", "out (dashed)"))
    ]
    return join(graph, tag("p", *keys), tag("p", view.rate_words, id="rate"))


def _key(name: str) -> Html:
    line = tag("polyline", class_=name, points="0,5 30,5")
    return tag("svg", line, class_="graph key", viewBox="0 0 30 10", aria_hidden="true")


def _events(view: StatusView) -> Html:
    items = [tag("li", tag("time", age), " ", words) for _, age, words in view.events]
    return tag("ol", *items, id="events", aria_live="polite", tabindex="0", aria_label="recent events")


def _links_to_peers() -> Html:
    masked = tag("a", "show them, addresses masked", href="/peers")
    whole = tag("a", "with whole addresses", href="/peers/addresses")
    return join(tag("p", masked), tag("p", whole, tag("span", " (personal data)", class_="soft")))


def _peer(row: PeerRow, addresses: bool) -> Html:
    address = (row.host if addresses else mask_host(row.host)) if row.host else "not known"
    texts = (
        row.network, "in" if row.inbound else "out", row.client[:MAX_CLIENT], row.eth, span(row.seconds),
        "yes" if row.kept else "", address,
    )  # fmt: skip
    return tag("tr", *(tag("td", text) for text in texts))


def _footer() -> Html:
    links = [tag("a", words, href=path) for path, words in LINKS]
    return tag("footer", *(join(link, " · ") for link in links[:-1]), links[-1])
