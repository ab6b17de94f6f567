"""Subscriptions of a client on a connection that stays, as geth has them (v1.17.8, rpc/handler.go).

newPendingTransactions are our own; new heads and logs need a chain, so an upstream tells them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Final, Protocol

from relay.rpc.errors import METHOD_NOT_FOUND, RpcError, server_error
from relay.rpc.methods import Method
from relay.rpc.params import OPTIONAL_FLAG, TEXT, bind

__all__ = ["PENDING", "PendingFeed", "Pushing", "Subscriptions"]

PENDING: Final = "newPendingTransactions"
PUSHED: Final = frozenset({"newHeads", "logs", "syncing"})
MAX_SUBSCRIPTIONS: Final = 128  # of one client; a further one is refused
MAX_HELD: Final = 1024 * 1024  # bytes for a client that is not told the key yet; what comes then is dropped

Listener = Callable[[str], None]


class PooledTransaction(Protocol):
    """The part of a pool's entry that is told (`relay.relaying.pool.PooledTx`)."""

    @property
    def hash(self) -> bytes:
        """32 bytes."""
        ...


Publish = Callable[[PooledTransaction], None]


class PendingFeed:
    """Tells listeners of each transaction that comes into the pool.

    Args:
        attach: hands the pool what to call for each transaction, None while nobody listens: the pool is on
            the hot path, and a call for nothing is a hundredth of what a transaction costs there.
        show: returns a transaction as json can write it, by its hash.
    """

    def __init__(
        self,
        attach: Callable[[Publish | None], None] = lambda _: None,
        show: Callable[[bytes], object] = lambda _: None,
    ) -> None:
        self._attach = attach
        self._show = show
        self._listeners: dict[str, Listener] = {}
        self._whole: dict[str, Listener] = {}

    def publish(self, tx: PooledTransaction) -> None:
        """Tell all."""
        told = f'"0x{tx.hash.hex()}"'
        for listener in tuple(self._listeners.values()):
            listener(told)
        if self._whole:
            shown = json.dumps(self._show(tx.hash), separators=(",", ":"))
            for listener in tuple(self._whole.values()):
                listener(shown)

    def listen(self, key: str, listener: Listener, *, whole: bool = False) -> None:
        """Have `listener` called with each hash, or each whole transaction, as JSON text."""
        if not self._listeners and not self._whole:
            self._attach(self.publish)
        (self._whole if whole else self._listeners)[key] = listener

    def forget(self, key: str) -> None:
        """Call it no more."""
        found = self._listeners.pop(key, None) or self._whole.pop(key, None)
        if found is not None and not self._listeners and not self._whole:
            self._attach(None)


class Pushing(Protocol):
    """Who tells of what only a chain knows (`relay.rpc.upstream.Upstreams`)."""

    async def subscribe(self, params: object, on_message: Listener, /) -> Callable[[], None]:
        """Have `on_message` called with JSON of each result; returns what ends it, or raises RpcError."""
        ...


class _Open:
    """A subscription of a client. What it brings is kept back until the client knows its key."""

    def __init__(self, key: str, write: Callable[[bytes], None]) -> None:
        self.key = key
        self.end: Callable[[], None] = lambda: None
        self._write = write
        self._held: list[bytes] | None = []
        self._room = MAX_HELD

    def tell(self, told: str) -> None:
        line = (
            '{"jsonrpc":"2.0","method":"eth_subscription",'
            f'"params":{{"subscription":"{self.key}","result":{told}}}}}'
        ).encode()
        if self._held is None:
            self._write(line)
        elif len(line) <= self._room:
            self._room -= len(line)
            self._held.append(line)

    def release(self) -> None:
        held, self._held = self._held or [], None
        for line in held:
            self._write(line)


class Subscriptions:
    """What one client has subscribed to.

    Args:
        feeds: our own, by the name that eth_subscribe gives them.
        write: sends a message to the client without waiting.
        pushing: tells of the rest; None for nobody.
    """

    def __init__(
        self,
        feeds: Mapping[str, PendingFeed],
        write: Callable[[bytes], None],
        pushing: Pushing | None = None,
    ) -> None:
        self._feeds = feeds
        self._write = write
        self._pushing = pushing
        self._open: dict[str, _Open] = {}
        self._new: list[_Open] = []

    def methods(self) -> dict[str, Method]:
        """The client's own methods."""
        found = (
            Method("eth_subscribe", self._subscribe, None, is_async=True),
            Method("eth_unsubscribe", self._unsubscribe, (TEXT,)),
        )
        return {method.name: method for method in found}

    def release(self, answer: bytes) -> None:
        """Send what the subscriptions have brought whose keys this answer has told: keys come first."""
        if self._new:
            told = [each for each in self._new if each.key.encode() in answer]
            for each in told:
                self._new.remove(each)
                each.release()

    def close(self) -> None:
        """End all subscriptions."""
        for each in self._open.values():
            each.end()
        self._open.clear()

    async def _subscribe(self, params: object) -> str:
        name = _name(params)
        feed = self._feeds.get(name)
        if feed is None and (self._pushing is None or name not in PUSHED):
            raise RpcError(METHOD_NOT_FOUND, f'no "{name}" subscription in eth namespace{_remedy(name)}')
        if len(self._open) >= MAX_SUBSCRIPTIONS:
            raise server_error(f"too many subscriptions: {MAX_SUBSCRIPTIONS} at most")
        key = hex(int.from_bytes(secrets.token_bytes(16), "big"))
        subscription = self._open[key] = _Open(key, self._write)
        self._new.append(subscription)
        with ExitStack() as guard:
            guard.callback(self._drop, subscription)
            subscription.end = await self._begin(subscription, feed, params)
            guard.pop_all()
        if key not in self._open:  # the client has gone meanwhile
            subscription.end()
        return key

    async def _begin(
        self, subscription: _Open, feed: PendingFeed | None, params: object
    ) -> Callable[[], None]:
        if feed is None:
            assert self._pushing is not None
            return await self._pushing.subscribe(params, subscription.tell)
        _, whole = bind(params, (TEXT, OPTIONAL_FLAG))
        feed.listen(subscription.key, subscription.tell, whole=bool(whole))
        return partial(feed.forget, subscription.key)

    def _drop(self, subscription: _Open) -> None:
        self._open.pop(subscription.key, None)
        self._new.remove(subscription)

    def _unsubscribe(self, key: str) -> bool:
        subscription = self._open.pop(key, None)
        if subscription is None:
            raise server_error("subscription not found")
        subscription.end()
        return True


def _name(params: object) -> str:
    """Read what is subscribed to; further arguments are the upstream's business."""
    name = bind(params[:1] if isinstance(params, list) else params, (TEXT,))[0]
    assert isinstance(name, str)
    return name[:64]


def _remedy(name: str) -> str:
    return ": it needs --rpc-upstream with ws://, wss:// or a unix socket" if name in PUSHED else ""
