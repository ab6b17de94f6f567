"""A client on a connection that stays: its requests, answered side by side, and what it has subscribed to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from relay.rpc.dispatcher import Dispatcher, Meter
from relay.rpc.errors import RpcError
from relay.rpc.messages import NULL, decode, encode_error
from relay.rpc.outbox import CutOff, Outbox, Total
from relay.rpc.subscriptions import PendingFeed, Pushing, Subscriptions

__all__ = ["Conversation"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """How the clients of one server are served.

    Attributes:
        dispatcher: answers.
        feeds: what eth_subscribe offers of our own, by name; None for no subscriptions at all.
        pushing: who tells of the rest; None for nobody.
        at_once: requests of one client that are answered at a time; no more of it is read meanwhile.
        counters: of clients that were cut off.
        total: of bytes that wait for all clients.
    """

    dispatcher: Dispatcher
    feeds: Mapping[str, PendingFeed] | None = None
    pushing: Pushing | None = None
    at_once: int = 32
    counters: Counter[str] = field(default_factory=Counter)
    total: Total = field(default_factory=Total)

    async def hold(
        self, values: AsyncGenerator[bytes, None], outbox: Outbox, meter: Meter | None = None
    ) -> None:
        """Serve one client until it ends, or sends what is no JSON, which is told last.

        Args:
            values: JSON, one request or batch each; may raise RpcError for what is none, OSError at a break.
            outbox: what goes to the client.
            meter: counts its calls.
        """
        subscriptions = Subscriptions(self.feeds or {}, outbox.put, self.pushing)
        dispatcher = self.dispatcher
        if self.feeds is not None:
            dispatcher = dispatcher.extended(subscriptions.methods())
        talk = _Talk(dispatcher, subscriptions, outbox, meter, asyncio.Semaphore(self.at_once))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(outbox.run(), name="outbox")
                async with aclosing(values):
                    await talk.run(values)
                outbox.finish()
        except* (CutOff, OSError):
            pass  # it does not read, or hung up in the middle
        finally:
            subscriptions.close()
            outbox.close()


@dataclass(frozen=True, slots=True)
class _Talk:
    """One client's side of it."""

    dispatcher: Dispatcher
    subscriptions: Subscriptions
    outbox: Outbox
    meter: Meter | None
    turn: asyncio.Semaphore

    async def run(self, values: AsyncGenerator[bytes, None]) -> None:
        """Answer what comes; returns when all is answered."""
        last: RpcError | None = None
        async with asyncio.TaskGroup() as calls:
            try:
                async for value in values:
                    await self.outbox.room()
                    await self.turn.acquire()
                    calls.create_task(self._answer(decode(value)), name="rpc request")
            except RpcError as error:
                last = error
        if last is not None:
            self.outbox.put(encode_error(NULL, last).encode())

    async def _answer(self, value: object) -> None:
        try:
            answer = await self.dispatcher.answer_value(value, self.meter)
        finally:
            self.turn.release()
        if answer:
            self.outbox.put(answer)
        self.subscriptions.release(answer)
