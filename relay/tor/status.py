"""What is known of Tor and of our onion service at this moment: a frozen snapshot and who watches it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from relay.tor.control_protocol import Reply, parse_keywords, shown

StatusListener = Callable[["TorStatus"], None]


@dataclass(frozen=True, slots=True)
class TorStatus:
    """One moment's state; made anew at every change."""

    version: str = ""
    """As Tor prints it; empty before the first connection."""
    bootstrap_percent: int = 0
    bootstrap_summary: str = ""
    service_up: bool = False
    """Whether peers can reach our onion address: published and still held by Tor."""
    uploads: int = 0
    """Descriptor uploads that succeeded since the start."""
    upload_failures: int = 0
    """Descriptor uploads that a directory refused or that did not get through, since the start."""
    last_upload: float | None = None
    """When the last one succeeded, by the board's clock."""
    introductions: int = 0
    """Circuits to introduction points that are established."""
    control_connected: bool = False
    network_live: bool = False
    """Tor's own opinion (network-liveness)."""
    clock_skew: float = 0.0
    """Seconds that this clock seems to be off by Tor's reports; 0 when no report came."""
    problem: str = ""
    """Why the service is not up, for a person; empty when nothing is wrong."""


class StatusBoard:
    """Holds the snapshot and tells listeners, synchronously, of each change.

    Args:
        now: monotonic seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._status = TorStatus()
        self._listeners: list[StatusListener] = []

    @property
    def status(self) -> TorStatus:
        """The newest snapshot."""
        return self._status

    def subscribe(self, listener: StatusListener) -> None:
        """Call `listener` with each new snapshot, and with the present one at once."""
        self._listeners.append(listener)
        listener(self._status)

    def update(self, **changes: Any) -> None:  # noqa: ANN401 - the fields of TorStatus, checked by replace
        """Replace fields of the snapshot; nobody is told when nothing changes."""
        changed = replace(self._status, **changes)
        if changed != self._status:
            self._status = changed
            for listener in self._listeners:
                listener(changed)

    @property
    def upload_age(self) -> float | None:
        """Seconds since a directory last took our descriptor; None before the first time."""
        last = self._status.last_upload
        return None if last is None else self._now() - last

    # -- what Tor tells

    def take_upload(self) -> None:
        """A directory holds our descriptor."""
        self.update(uploads=self._status.uploads + 1, last_upload=self._now(), service_up=True)

    def take_upload_failure(self) -> None:
        """A directory did not take it."""
        self.update(upload_failures=self._status.upload_failures + 1)

    def take_bootstrap(self, text: str) -> None:
        """Read ``NOTICE BOOTSTRAP PROGRESS=80 TAG=... SUMMARY="..."`` (GETINFO and STATUS_CLIENT alike)."""
        fields = parse_keywords(text)
        percent = fields.get("PROGRESS", "")
        if "BOOTSTRAP" not in text or not is_small_number(percent):
            return
        summary = shown(fields.get("SUMMARY", ""))
        self.update(bootstrap_percent=min(int(percent), 100), bootstrap_summary=summary)
        if "WARNING" in fields:
            self.update(problem=f"tor's bootstrap: {shown(fields['WARNING'])}")

    def take_status_event(self, reply: Reply) -> None:
        """STATUS_CLIENT and STATUS_GENERAL events: bootstrap progress and clock skew."""
        text = reply.text
        self.take_bootstrap(text)
        skew = parse_keywords(text).get("SKEW", "")
        if " CLOCK_SKEW " in text and is_small_number(skew.removeprefix("-")):
            self.update(clock_skew=float(skew))

    def take_liveness(self, text: str) -> None:
        """``UP`` or ``DOWN`` at the end of an event or a GETINFO answer."""
        self.update(network_live=text.upper().endswith("UP"))


def is_small_number(text: str) -> bool:
    """Whether text is a decimal number short enough to be meant."""
    return text.isascii() and text.isdigit() and len(text) <= 10
