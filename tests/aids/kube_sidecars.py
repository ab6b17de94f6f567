"""The sidecar `discovery` of pods on a real API server, in the test's own process, with clocks of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from relay.kubernetes.discovery import Discovery
from relay.kubernetes.identity import Identity
from relay.kubernetes.options import BookMode, BookOptions, DiscoveryOptions
from tests.aids.kube_apiserver import ApiServer
from tests.aids.kube_pods import RunningPod, api_of, real_seams
from tests.aids.until import until

__all__ = [
    "BOOK", "LEASES", "MAPS", "NAMESPACE", "Clocks", "Sidecar", "clear", "events", "met", "running", "stored",
    "told",
]  # fmt: skip

BOOK = "tor-peer-addresses"
NAMESPACE = "gethrelay"
MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{BOOK}"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"
SECONDS = 120.0


def clear(server: ApiServer) -> None:
    """Remove the book, and pods and Events of before."""
    with server.admin() as admin:
        admin.delete(MAPS)
        admin.delete(LEASES)
        admin.delete(f"/api/v1/namespaces/{NAMESPACE}/pods", params={"gracePeriodSeconds": 0})
        admin.delete(EVENTS)


def stored(server: ApiServer) -> dict[str, str]:
    """What the map holds."""
    with server.admin() as admin:
        answer = admin.get(MAPS)
        return answer.json().get("data", {}) if answer.status_code == 200 else {}


def events(server: ApiServer) -> dict[str, str]:
    """The relays' Events: message by reason, one of each."""
    with server.admin() as admin:
        items: list[dict[str, Any]] = admin.get(EVENTS).json()["items"]
    return {each["reason"]: each["message"] for each in items if each["source"].get("component") == "pyrelay"}


class Clocks:
    """Time as one pod has it. monotonic, wall: seconds that are added to the real ones."""

    def __init__(self) -> None:
        self.monotonic = self.wall = 0.0


class Sidecar:
    """Discovery of one pod, as it runs beside the daemon."""

    def __init__(self, it: RunningPod, mode: BookMode = BookMode.AUTO, **more: float) -> None:
        self.pod = it
        self.path = it.account.parent / "static-nodes.json"
        self.clocks = Clocks()
        self.identity: Identity = it.relay.identity
        self._options = BookOptions(mode=mode, **more)
        self.discovery: Discovery

    async def run(self, *, shorten: float = 0.1, patience: float = 5.0) -> None:
        real, clocks = real_seams(shorten), self.clocks
        seams = replace(
            real, clock=lambda: real.clock() + clocks.monotonic, wall=lambda: real.wall() + clocks.wall
        )
        async with api_of(self.pod, timeout=patience) as api:
            files = DiscoveryOptions(self.path, self.pod.account / "no.ipc")
            self.discovery = Discovery(api, self.pod.own, self.identity, self._options, files, seams)
            await self.discovery.run()

    def peers(self) -> list[str]:
        """What the daemon would follow."""
        return sorted(json.loads(self.path.read_text())) if self.path.exists() else []

    @property
    def enode(self) -> str:
        return self.pod.relay.entry().enode


@asynccontextmanager
async def running(*sidecars: Sidecar, patience: float = 5.0) -> AsyncIterator[None]:
    """Run them; none may end by itself. patience: seconds for an answer of the API server."""
    tasks = [asyncio.ensure_future(each.run(patience=patience)) for each in sidecars]
    try:
        yield
        for each in tasks:
            assert not each.done(), each.exception()
    finally:
        for each in tasks:
            each.cancel()
            with suppress(asyncio.CancelledError):
                await each


async def met(*sidecars: Sidecar, deadline: float = SECONDS) -> None:
    """Wait until each has all others in its file, and nobody else."""
    own = [each.enode for each in sidecars]
    others = [set(own) - {enode} for enode in own]

    def all_met() -> bool:
        return all(set(each.peers()) == wanted for each, wanted in zip(sidecars, others, strict=True))

    every = 0.05 if len(own) < 10 else 1.0
    await until(all_met, lambda: [len(each.peers()) for each in sidecars], deadline, every)


async def told(server: ApiServer, reason: str, *words: str) -> str:
    """Wait for an Event, and return what it says."""

    def found() -> str:
        message = events(server).get(reason, "")
        return message if all(each in message for each in words) else ""

    message: str = await until(found, lambda: f"Event {reason} {words}: {events(server)}", SECONDS, 0.2)
    return message
