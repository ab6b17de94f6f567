"""The page's contents at one moment, as rows of texts: for the HTML, and as JSON for the script in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from relay.observe.snapshot import MetricsSnapshot
from relay.observe.status_page.pulse import Event, Pulse, Rate
from relay.observe.status_page.source import OwnAddress

__all__ = ["GRAPH", "Part", "StatusView", "look", "span"]

NETWORKS: Final = ("onion", "i2p", "ipv4", "ipv6")
GRAPH: Final = (300, 80)  # width and height of the graph's coordinates
Row = tuple[str | int | bool, ...]


class Part(Protocol):
    """What has to be so (`relay.observe.pages.Readiness`)."""

    @property
    def name(self) -> str:
        """One word."""
        ...

    @property
    def ready(self) -> bool:
        """It is so."""
        ...

    @property
    def detail(self) -> str:
        """For a person."""
        ...


@dataclass(frozen=True, slots=True)
class StatusView:
    """One moment.

    Attributes:
        ready: all parts are.
        uptime: in words.
        parts: name, whether it is so, detail.
        tor: name and value; empty without Tor.
        peers: network, inbound, outbound.
        total: peers.
        chain: name and value of what is relayed.
        rates: oldest first.
        events: newest first: number, age, words.
        own: addresses of ours; none for who is not on this machine.
    """

    ready: bool
    uptime: str
    parts: tuple[Row, ...]
    tor: tuple[Row, ...]
    peers: tuple[Row, ...]
    total: int
    chain: tuple[Row, ...]
    rates: tuple[Rate, ...]
    events: tuple[tuple[int, str, str], ...]
    own: tuple[OwnAddress, ...] = ()

    @property
    def ready_words(self) -> str:
        """Whether peers can be reached and can reach us."""
        missing = [str(name) for name, is_so, *_ in self.parts if not is_so]
        return "ready" if self.ready else "not ready: " + ", ".join(missing)

    @property
    def rate_words(self) -> str:
        """The graph for who does not see it."""
        if not self.rates:
            return "measured every 5 seconds; nothing yet"
        now, most = self.rates[-1], max(max(each.seen, each.relayed) for each in self.rates)
        return f"now {now.seen:.1f} in and {now.relayed:.1f} out a second; at most {most:.1f} in five minutes"

    def line(self, name: str) -> str:
        """Return the points of a line of the graph: seen or sent."""
        width, height = GRAPH
        most = max((max(each.seen, each.relayed) for each in self.rates), default=0.0) or 1.0
        values = [each.seen if name == "seen" else each.relayed for each in self.rates]
        step = width / 59
        first = width - step * (len(values) - 1)
        return " ".join(
            f"{first + step * at:.1f},{height - value / most * (height - 4):.1f}"
            for at, value in enumerate(values)
        )

    def to_json(self) -> dict[str, Any]:
        """Return what the script reads."""
        return {
            "ready": self.ready,
            "ready_words": self.ready_words,
            "uptime": self.uptime,
            "parts": self.parts,
            "tor": self.tor,
            "peers": self.peers,
            "total": self.total,
            "chain": self.chain,
            "rate_words": self.rate_words,
            "lines": {name: self.line(name) for name in ("seen", "sent")},
            "events": self.events[::-1],
            "own": [(each.host, each.up) for each in self.own],
        }


def look(
    now: MetricsSnapshot,
    parts: Sequence[Part],
    pulse: Pulse,
    *,
    clock: Callable[[], float],
    started: float,
    stall: float,
    own: Sequence[OwnAddress] = (),
) -> StatusView:
    """Make the view of this moment.

    Args:
        now: the metrics.
        parts: readiness.
        pulse: rates and events.
        clock: monotonic seconds; started: when it began.
        started: as said.
        stall: longest time that the event loop was held within a minute, seconds.
        own: addresses of ours that may be told.
    """
    counts = now.transactions
    networks = dict.fromkeys((*NETWORKS, *sorted(kind.network for kind in now.peers)))
    by_kind = {(kind.network, kind.inbound): count for kind, count in now.peers.items()}
    return StatusView(
        ready=all(part.ready for part in parts),
        uptime=span(clock() - started),
        parts=tuple((part.name, part.ready, part.detail) for part in parts),
        tor=_tor(now, any(part.name.startswith(("tor", "onion")) for part in parts)),
        peers=tuple((name, by_kind.get((name, True), 0), by_kind.get((name, False), 0)) for name in networks),
        total=sum(now.peers.values()),
        chain=(
            ("head of the chain", f"{now.head:,}" if now.head else "not known yet"),
            ("transactions held", f"{now.pool_transactions:,} ({_size(now.pool_bytes)})"),
            ("came in", f"{counts.seen:,}"),
            ("relayed", f"{counts.relayed:,}"),
            ("from peers, to peers", f"{_size(now.ingress)}, {_size(now.egress)}"),
            ("event loop", f"held for {stall * 1000:.0f} ms at most, last minute"),
        ),
        rates=tuple(pulse.rates),
        events=tuple(_told(event, clock()) for event in reversed(pulse.events)),
        own=tuple(own),
    )


def _tor(now: MetricsSnapshot, has_tor: bool) -> tuple[Row, ...]:
    if not has_tor:
        return ()
    tor = now.tor
    age = "never" if tor.service_upload_age is None else f"{span(tor.service_upload_age)} ago"
    return (
        ("control port answers", tor.control_connected),
        ("start", f"{tor.bootstrap_percent} %"),
        ("peers can reach our onion", tor.service_up),
        ("introduction points", str(tor.introductions)),
        ("descriptor last taken", age),
        ("descriptor uploads", f"{tor.service_uploads}, {tor.service_upload_failures} failed"),
    )


def _told(event: Event, now: float) -> tuple[int, str, str]:
    return event.number, f"{span(now - event.at)} ago", event.words


def span(seconds: float) -> str:
    """Return a length of time in words."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
