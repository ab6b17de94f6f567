"""Tells several listeners what comes into a pool, which itself tells one."""

from __future__ import annotations

from collections.abc import Callable

from relay.relaying.pool import PooledTx, TxPool

__all__ = ["PoolNews"]

Listener = Callable[[PooledTx], None]


class PoolNews:
    """The listeners of one pool. With one or none of them a transaction costs no call more than it has to.

    Args:
        pool: nobody else sets its `on_added` from now on.
    """

    def __init__(self, pool: TxPool) -> None:
        self._pool = pool
        self._listeners: tuple[Listener, ...] = ()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell a listener of each transaction from now on; returns what ends it."""
        self._attach((*self._listeners, listener))
        return lambda: self._attach(tuple(each for each in self._listeners if each is not listener))

    def _attach(self, listeners: tuple[Listener, ...]) -> None:
        self._listeners = listeners
        match listeners:
            case ():
                self._pool.on_added = None
            case (only,):
                self._pool.on_added = only
            case _:
                self._pool.on_added = self._tell

    def _tell(self, tx: PooledTx) -> None:
        for listener in self._listeners:
            listener(tx)
