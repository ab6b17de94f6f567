"""Kubernetes Events: what the operator should know, where `kubectl describe pod` and `get events` show it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from relay.kubernetes.api import Api
from relay.kubernetes.failures import ApiFailed, Trouble
from relay.kubernetes.options import Own

__all__ = ["EventWriter"]

log = structlog.get_logger("relay.kubernetes")

SPACING: Final = 600.0  # seconds until the same reason is written again
MOST: Final = 32  # waiting ones; more say nothing new
REPORTER: Final = "pyrelay"
_LATER: Final = frozenset({Trouble.UNREACHABLE, Trouble.SERVER, Trouble.THROTTLED, Trouble.BROKEN})
_LONGEST: Final = 900  # characters of a message; the API server refuses over 1,024


class EventWriter:
    """Writes Events about this pod, each reason seldom; a failure to do so is told once, and harms nothing.

    Args:
        api: of our namespace.
        own: the pod that Events are about.
        clock: monotonic seconds.
        wall: seconds since 1970.
        rand: random bytes, for names.
    """

    def __init__(
        self,
        api: Api,
        own: Own,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rand: Callable[[int], bytes],
    ) -> None:
        self._api, self._own = api, own
        self._clock, self._wall, self._rand = clock, wall, rand
        self._last: dict[str, float] = {}
        self._waiting: list[tuple[str, str, str]] = []
        self._told = False
        self.written = 0

    def note(self, reason: str, message: str, *, warning: bool = True, about: str = "") -> None:
        """Have an Event written with the next `flush`. about: separates Events of one reason."""
        now, key = self._clock(), f"{reason}/{about}"
        last = self._last.get(key)
        if (last is not None and now - last < SPACING) or len(self._waiting) >= MOST:
            return
        if len(self._last) > 16 * MOST:
            self._last.clear()
        self._last[key] = now
        self._waiting.append((reason, message[:_LONGEST], "Warning" if warning else "Normal"))

    async def flush(self) -> None:
        """Write what waits."""
        while self._waiting:
            try:
                await self._api.create_event(self._event(*self._waiting[0]))
                self.written += 1
            except ApiFailed as error:
                if error.trouble in _LATER:
                    return  # they wait: an API server that was away should hear of it
                if not self._told:
                    self._told = True
                    log.warning("Events can not be written", cause=str(error))
            self._waiting.pop(0)

    def _event(self, reason: str, message: str, kind: str) -> dict[str, Any]:
        place = self._own.place
        stamp = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {"apiVersion": "v1", "kind": "Pod", "name": place.pod, "namespace": place.namespace}
        if self._own.uid:
            about["uid"] = self._own.uid
        return {
            "metadata": {"name": f"{place.pod}.{self._rand(8).hex()}", "namespace": place.namespace},
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "type": kind,
            "count": 1,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "source": {"component": REPORTER},
            "reportingComponent": REPORTER,
            "reportingInstance": place.pod,
        }
