"""Subscriptions at upstreams: one for all who want the same, and begun anew where a connection is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import structlog

from relay.rpc.errors import RpcError, server_error
from relay.rpc.upstream.faults import UpstreamFault
from relay.rpc.upstream.messages import MessageLink
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.texts import encode_params
from relay.rpc.upstream.upstream import Upstream

__all__ = ["Listener", "Pushes"]

UNSUPPORTED: Final = -32601
MAX_EARLY: Final = 16  # subscriptions, and notifications of each, that come before the answer that names them
MAX_EARLY_BYTES: Final = 64 * 1024  # of one of these
LONGEST_PAUSE: Final = 30.0  # seconds between two tries to begin anew

Listener = Callable[[str], None]
"""Is told JSON of each notification's result."""
_log = structlog.get_logger("relay.rpc")


@dataclass(slots=True, eq=False)
class _Topic:
    """What is subscribed to once, for all its listeners."""

    params: str
    listeners: dict[int, Listener] = field(default_factory=dict)
    source: Upstream | None = None
    key: str = ""
    ready: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pushes:
    """The subscriptions at all upstreams.

    Args:
        upstreams: those that push, in the order in which they are asked.
        options: limits.
        tasks: where lost ones are begun anew.
        counters: of losses.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        options: UpstreamOptions,
        tasks: asyncio.TaskGroup,
        counters: Counter[str],
    ) -> None:
        self._upstreams = upstreams
        self._options = options
        self._tasks = tasks
        self._counters = counters
        self._serial = itertools.count(1)
        self._topics: dict[str, _Topic] = {}
        self._by_key: dict[tuple[int, str], _Topic] = {}
        self._early: OrderedDict[tuple[int, str], list[str]] = OrderedDict()
        self._closed = False
        for each in upstreams:
            if isinstance(each.link, MessageLink):
                each.link.on_push = _pushed_by(self, each)
                each.link.on_lost = _lost_by(self, each)

    async def subscribe(self, params: object, listener: Listener) -> Callable[[], None]:
        """Subscribe, and return what ends it.

        Raises:
            RpcError: there is no upstream for it, or it says no.
        """
        text = encode_params(params)
        if not self._upstreams:
            raise RpcError(UNSUPPORTED, "no upstream that can push is configured: give a ws, wss or unix one")
        topic = self._topics.get(text)
        if topic is None:
            if len(self._topics) >= self._options.subscriptions:
                raise server_error("too many subscriptions at the upstreams")
            topic = self._topics[text] = _Topic(text)
        number = next(self._serial)
        topic.listeners[number] = listener
        with ExitStack() as guard:
            guard.callback(self._forget, topic, number)
            await self._ensure(topic)
            guard.pop_all()
        return lambda: self._forget(topic, number)

    def close(self) -> None:
        """Begin nothing anew."""
        self._closed = True

    def pushed(self, source: Upstream, key: str, result: str) -> None:
        """Take a notification."""
        place = (source.number, key)
        topic = self._by_key.get(place)
        if topic is None:
            self._keep_early(place, result)
            return
        for listener in tuple(topic.listeners.values()):
            listener(result)

    def lost(self, source: Upstream) -> None:
        """Take the end of an upstream's connection."""
        for topic in [each for each in self._by_key.values() if each.source is source]:
            self._by_key.pop((source.number, topic.key), None)
            topic.source, topic.key = None, ""
            if topic.listeners and not self._closed:
                self._counters["subscription lost"] += 1
                self._tasks.create_task(self._begin_anew(topic), name="subscribe anew")

    async def _ensure(self, topic: _Topic) -> None:
        async with topic.ready:
            if topic.source is None:
                await self._begin(topic)

    async def _begin(self, topic: _Topic) -> None:
        refusal: RpcError | None = None
        for each in self._upstreams:
            if not each.admits():
                continue
            try:
                answer = await each.ask("eth_subscribe", topic.params, seconds=self._options.attempt_seconds)
            except RpcError as error:
                refusal = error
                continue
            except UpstreamFault:
                continue
            if isinstance(each.link, MessageLink) and each.link.connected:
                self._begun(topic, each, str(answer.value))
                return
        raise refusal or server_error("no upstream answers that can push")

    def _begun(self, topic: _Topic, source: Upstream, key: str) -> None:
        early = self._early.pop((source.number, key), [])
        if not topic.listeners:  # all have left meanwhile
            self._tasks.create_task(self._end(source, key), name="unsubscribe")
            return
        topic.source, topic.key = source, key
        self._by_key[(source.number, key)] = topic
        for result in early:
            self.pushed(source, key, result)

    async def _begin_anew(self, topic: _Topic) -> None:
        pause = self._options.pause_seconds
        while topic.listeners and topic.source is None and not self._closed:
            try:
                await self._ensure(topic)
            except RpcError as error:
                _log.debug("subscription not begun anew", why=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _forget(self, topic: _Topic, number: int) -> None:
        topic.listeners.pop(number, None)
        if topic.listeners or self._topics.get(topic.params) is not topic:
            return
        del self._topics[topic.params]
        if topic.source is not None:
            self._by_key.pop((topic.source.number, topic.key), None)
            if not self._closed:
                self._tasks.create_task(self._end(topic.source, topic.key), name="unsubscribe")

    async def _end(self, source: Upstream, key: str) -> None:
        try:
            await source.ask("eth_unsubscribe", json.dumps([key]), seconds=self._options.attempt_seconds)
        except (RpcError, UpstreamFault) as error:
            _log.debug("not unsubscribed", upstream=source.number, why=str(error))

    def _keep_early(self, place: tuple[int, str], result: str) -> None:
        kept = self._early.setdefault(place, [])
        if len(kept) < MAX_EARLY and len(result) <= MAX_EARLY_BYTES:
            kept.append(result)
        while len(self._early) > MAX_EARLY:
            self._early.popitem(last=False)


def _pushed_by(pushes: Pushes, source: Upstream) -> Callable[[str, str], None]:
    return lambda key, result: pushes.pushed(source, key, result)


def _lost_by(pushes: Pushes, source: Upstream) -> Callable[[], None]:
    return lambda: pushes.lost(source)
