"""Subscriptions of a client on the unix socket, as geth has them (v1.17.8, rpc/handler.go and eth/filters).

Only newPendingTransactions, and its hashes only: new heads and logs need a chain, which is not here.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from relay.rpc.errors import METHOD_NOT_FOUND, RpcError, server_error
from relay.rpc.methods import Method
from relay.rpc.params import TEXT

__all__ = ["PENDING", "PendingFeed", "Subscriptions"]

PENDING: Final = "newPendingTransactions"
MAX_SUBSCRIPTIONS: Final = 128  # of one client; a further one is refused

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
    """

    def __init__(self, attach: Callable[[Publish | None], None] = lambda _: None) -> None:
        self._attach = attach
        self._listeners: dict[str, Listener] = {}

    def publish(self, tx: PooledTransaction) -> None:
        """Tell all."""
        told = f'"0x{tx.hash.hex()}"'
        for listener in tuple(self._listeners.values()):
            listener(told)

    def listen(self, key: str, listener: Listener) -> None:
        """Have `listener` called with each hash, as JSON text."""
        if not self._listeners:
            self._attach(self.publish)
        self._listeners[key] = listener

    def forget(self, key: str) -> None:
        """Call it no more."""
        if self._listeners.pop(key, None) is not None and not self._listeners:
            self._attach(None)


class Subscriptions:
    """What one client has subscribed to.

    Args:
        feeds: by the name that eth_subscribe gives them.
        write: sends bytes to the client without waiting.
    """

    def __init__(self, feeds: Mapping[str, PendingFeed], write: Callable[[bytes], None]) -> None:
        self._feeds = feeds
        self._write = write
        self._open: dict[str, PendingFeed] = {}
        self._held: list[bytes] | None = None

    def methods(self) -> dict[str, Method]:
        """The client's own methods."""
        found = (
            Method("eth_subscribe", self._subscribe, (TEXT,)),
            Method("eth_unsubscribe", self._unsubscribe, (TEXT,)),
        )
        return {method.name: method for method in found}

    def hold(self) -> None:
        """Keep notifications back while a request is answered: the subscription's id is told first."""
        if self._held is None:
            self._held = []

    def release(self) -> None:
        """Send what was kept back."""
        held, self._held = self._held, None
        if held:
            self._write(b"".join(held))

    def close(self) -> None:
        """End all subscriptions."""
        for key, feed in self._open.items():
            feed.forget(key)
        self._open.clear()

    def _subscribe(self, name: str) -> str:
        feed = self._feeds.get(name)
        if feed is None:
            raise RpcError(METHOD_NOT_FOUND, f'no "{name}" subscription in eth namespace')
        if len(self._open) >= MAX_SUBSCRIPTIONS:
            raise server_error(f"too many subscriptions: {MAX_SUBSCRIPTIONS} at most")
        key = hex(int.from_bytes(secrets.token_bytes(16), "big"))
        self._open[key] = feed
        feed.listen(key, lambda told: self._notify(key, told))
        return key

    def _unsubscribe(self, key: str) -> bool:
        feed = self._open.pop(key, None)
        if feed is None:
            raise server_error("subscription not found")
        feed.forget(key)
        return True

    def _notify(self, key: str, told: str) -> None:
        line = (
            '{"jsonrpc":"2.0","method":"eth_subscription",'
            f'"params":{{"subscription":{json.dumps(key)},"result":{told}}}}}\n'
        ).encode()
        if self._held is None:
            self._write(line)
        else:
            self._held.append(line)
