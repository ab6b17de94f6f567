"""Our discv5 as a process that a benchmark drives; understands tests/counterparts/README.md, and beyond it:

crowd(enr, count)           nodes on sockets of their own greet a node, to fill its table
prove()                     ping all of the table; returns how many are live
greet(enr, count, window)   identities that nobody knows yet, each with one handshake
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

import structlog

from benchmarks.load import greeters
from benchmarks.load.greeters import HOST, Lane
from benchmarks.processes import die_with_parent, many_files
from relay.discovery.buckets import GateOptions, Rate
from relay.discovery.driver import CoreDriver, NoAnswer
from relay.discovery.udp import ClearnetDiscovery, ClearnetOptions
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.keys import NodeKey
from relay.protocols.discv5 import Contact, Event, TalkRequest
from relay.transports.sockets import SocketFactory, SocketRules

Request: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]

ECHO = b"echo"
# All that asks comes from this machine, and shall not be held back at nine tenths of a core.
OPTIONS = ClearnetOptions(gate=GateOptions(lan=Rate(10.0, 10.0)))
WARM_UP = 200  # requests that are not counted


class Peer:
    """One node; every public method is a command."""

    _driver: CoreDriver

    def __init__(self) -> None:
        self._crowd: list[Lane] = []

    async def start(self, key: str, port: int) -> str:
        secret = NodeKey(bytes.fromhex(key))
        record = build_record(secret, 1, ip=HOST, udp=port)
        discovery = ClearnetDiscovery(
            secret,
            lambda: record,
            clock=asyncio.get_running_loop(),
            unix=time.time,
            rand=os.urandom,
            v4=False,
            v5=True,
            options=OPTIONS,
        )
        await discovery.start(SocketFactory(SocketRules.anywhere()), HOST, port)
        assert discovery.v5 is not None
        self._driver = discovery.v5
        self._driver.core.register_talk(ECHO)
        self._driver.listen(self._heard)
        return record.to_text()

    async def crowd(self, enr: str, count: int) -> int:
        self._crowd = await greeters.crowd(NodeRecord.from_text(enr), count)
        return len(self._crowd)

    async def prove(self) -> int:
        table = self._driver.core.table
        for entry in list(table):
            await self._driver.ping(entry.contact)
        return sum(entry.live for entry in table)

    async def greet(self, enr: str, count: int, window: int) -> dict[str, Any]:
        return await greeters.greet(NodeRecord.from_text(enr), count, window)

    async def load(
        self, enr: str, op: str, count: int, window: int, distances: Sequence[int], size: int
    ) -> dict[str, Any]:
        to = self._driver.core.contact(NodeRecord.from_text(enr))
        one = self._request(op, to, tuple(distances), bytes(size))
        await _drain(one, WARM_UP, window)
        return await _drain(one, count, window)

    def _request(self, op: str, to: Contact, distances: tuple[int, ...], body: bytes) -> Request:
        driver = self._driver
        requests: dict[str, Request] = {
            "ping": lambda: driver.ping(to),
            "findnode": lambda: driver.findnode(to, distances),
            "talkreq": lambda: driver.talkreq(to, ECHO, body),
        }
        return requests[op]

    def _heard(self, event: Event) -> None:
        if isinstance(event, TalkRequest):
            self._driver.core.respond_talk(event, event.payload)


async def _drain(one: Request, count: int, window: int) -> dict[str, Any]:
    """Make requests, so many at a time."""
    left, records, done = count, 0, 0
    errors: Counter[str] = Counter()

    async def worker() -> None:
        nonlocal left, records, done
        while left > 0:
            left -= 1
            try:
                answer = await one()
            except NoAnswer as error:
                errors[str(error)] += 1
                continue
            done += 1
            records += len(answer) if isinstance(answer, tuple) else 0

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(window)))
    return {"done": done, "records": records, "errors": errors, "seconds": time.perf_counter() - began}


async def _serve() -> None:
    peer, reader = Peer(), asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async for line in reader:
        command = json.loads(line)
        number, name = command.pop("id"), command.pop("do")
        print(json.dumps({"id": number, "ok": await getattr(peer, name)(**command)}), flush=True)


if __name__ == "__main__":
    die_with_parent()
    many_files()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for answers
    asyncio.run(_serve())
