"""The daemon inside of the test's own process, where its parts can be broken and its log be read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from structlog.testing import capture_logs

from relay.app.daemon import Daemon
from relay.rpc.client import call
from relay.settings import Settings
from tests.aids.http_client import exchange, request
from tests.aids.until import until


class Running:
    """A daemon that runs, and what it says.

    Attributes:
        daemon: itself.
        logs: its events, growing.
        task: of `Daemon.run`.
    """

    def __init__(self, settings: Settings, daemon: Daemon, logs: list[Any], task: asyncio.Task[None]) -> None:
        self.settings, self.daemon, self.logs, self.task = settings, daemon, logs, task

    def events(self, name: str) -> list[Any]:
        return [each for each in self.logs if each["event"] == name]

    async def event(self, name: str, count: int = 1, deadline: float = 30.0) -> Any:
        """The newest event of a name, once there are so many."""
        await until(lambda: self.task.done() or len(self.events(name)) >= count, name, deadline)
        if len(self.events(name)) < count:
            await self.task  # most often it raises the cause
        assert len(self.events(name)) >= count, self.logs
        return self.events(name)[-1]

    @property
    def steps(self) -> list[str]:
        return [each["step"] for each in self.events("start-up step done")]

    def port(self, event: str, index: int = 0) -> int:
        return int(self.events(event)[index]["address"].rpartition(":")[2])

    async def page(self, path: str) -> tuple[int, str]:
        """A page of the metrics port, which is the first thing that is served."""
        await self.event("serving")
        reply = await exchange(self.port("serving"), request(path=path, headers={"Connection": "close"}))
        return reply.status, reply.body.decode()

    async def metric(self, name: str) -> float:
        _, text = await self.page("/debug/metrics")
        return float(next(line for line in text.splitlines() if line.startswith(name + " ")).split()[1])

    async def rpc(self, method: str, *params: object) -> Any:
        return await call(str(self.settings.ipc_path), method, params)

    async def post(self, method: str) -> Any:
        """JSON-RPC over HTTP, the third thing that is served."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": []})
        headers = {"Content-Type": "application/json", "Connection": "close"}
        reply = await exchange(self.port("serving", 2), request("POST", body=body, headers=headers))
        return json.loads(reply.body)["result"]

    async def stop(self) -> None:
        self.daemon.stop()
        await self.task


@asynccontextmanager
async def running(settings: Settings, *, ready: bool = True) -> AsyncIterator[Running]:
    """Run a daemon; at the end of the block it is stopped, within the five seconds that it promises."""
    with capture_logs() as logs:
        daemon = Daemon(settings)
        task = asyncio.create_task(daemon.run())
        found = Running(settings, daemon, logs, task)
        try:
            if ready:
                await found.event("ready")
            yield found
        finally:
            daemon.stop()
            async with asyncio.timeout(5):
                await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and (error := task.exception()) is not None and ready:
        raise error
