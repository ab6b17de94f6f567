"""What a monitor saw, for programs: JSON objects and CSV rows; addresses only when they are asked for."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any, Final

from relay.monitor.anomalies import find_anomalies
from relay.monitor.geography import Geography, Nowhere
from relay.monitor.peer import UNKNOWN, Peer, mask
from relay.monitor.watch import Watch, tally

__all__ = ["COLUMNS", "Reporter"]

COLUMNS: Final = (
    "id", "direction", "network", "static", "trusted", "client", "version", "os",
    "eth", "snap", "head", "head_lag", "seen_seconds", "country", "address",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Reporter:
    """Describes a watch.

    Attributes:
        watch: what was seen.
        geography: for countries.
        addresses: show addresses, whole ids and names: personal data.
    """

    watch: Watch
    geography: Geography | Nowhere
    addresses: bool = False

    def peer(self, peer: Peer, now: float) -> dict[str, Any]:
        """Return what is told of a peer; None for what is not known."""
        view = self.watch.view
        said: dict[str, Any] = {
            "id": peer.key if self.addresses else peer.short_id,
            "direction": {True: "inbound", False: "outbound", None: None}[peer.inbound],
            "network": peer.address.network,
            "static": peer.static,
            "trusted": peer.trusted,
            "client": _known(peer.name.client),
            "version": _known(peer.name.version),
            "os": _known(peer.name.system),
            "eth": peer.eth,
            "snap": peer.snap,
            "head": peer.head,
            "head_lag": None if view is None else view.lag(peer),
            "seen_seconds": round(self.watch.seen_for(peer, now), 1),
            "country": _known(self.geography.country(peer.address)),
            "address": _known(str(peer.address) if self.addresses else mask(peer.address)),
        }
        if self.addresses:
            said |= {"name": peer.full_name, "enode": peer.enode, "caps": list(peer.caps)}
        return said

    def all(self, now: float, wall: float) -> dict[str, Any]:
        """Return everything. wall: unix seconds."""
        watch, view = self.watch, self.watch.view
        age = watch.age(now)
        return {
            "time": round(wall, 3),
            "up": view is not None and not watch.failure,
            "error": watch.failure or None,
            "data_age_seconds": None if age is None else round(age, 3),
            "node": None if view is None else {
                "kind": view.kind,
                "client": view.client or None,
                "chain": view.chain or None,
                "head": view.head,
                "syncing": view.syncing,
                "sync_target": view.target,
            },
            "counts": self._counts(),
            "anomalies": [
                {"kind": each.kind, "severity": each.severity, "words": each.words}
                for each in find_anomalies(watch, now, addresses=self.addresses)
            ],
            "peers": [self.peer(peer, now) for peer in watch.peers],
        }  # fmt: skip

    def _counts(self) -> dict[str, Any]:
        peers, view = self.watch.peers, self.watch.view
        return {
            "peers": len(peers),
            "inbound": sum(peer.inbound is True for peer in peers),
            "outbound": sum(peer.inbound is False for peer in peers),
            "refused": 0 if view is None else view.refused,
            "waiting": 0 if view is None else view.waiting,
            "came": self.watch.connects,
            "went": self.watch.disconnects.total(),
            "networks": dict(tally(peer.address.network for peer in peers)),
            "clients": dict(tally(peer.name.client for peer in peers)),
        }

    def csv(self, now: float) -> str:
        """Return a table with a heading, as RFC 4180 has it."""
        out = io.StringIO()
        rows = csv.writer(out)
        rows.writerow(COLUMNS)
        for peer in self.watch.peers:
            said = self.peer(peer, now)
            rows.writerow([_cell(said[name]) for name in COLUMNS])
        return out.getvalue()


def _known(text: str) -> str | None:
    return None if text in (UNKNOWN, "") else text


def _cell(value: object) -> object:
    """Keep a spreadsheet from taking a client's name for a formula."""
    return "'" + value if isinstance(value, str) and value.startswith(_FORMULA) else value
