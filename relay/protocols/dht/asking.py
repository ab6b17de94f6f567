"""Requests to the core and what is to be done with their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from relay.primitives.keys import NodeId
from relay.protocols.dht.keys import Key
from relay.protocols.dht.messages import PROTOCOL, Request
from relay.protocols.discv5 import (
    Contact,
    Discv5,
    Event,
    Failure,
    LookupDone,
    RequestDone,
    RequestFailed,
    Result,
)

__all__ = ["Asking", "Outcome"]

Outcome: TypeAlias = Result | LookupDone | Failure
_Done: TypeAlias = Callable[[Outcome, float], None]


class Asking:
    """Requests of the layer that are under way; each ends with one call of its `done`, never at once."""

    __slots__ = ("_core", "_running")

    def __init__(self, core: Discv5) -> None:
        self._core = core
        self._running: dict[int, _Done] = {}

    def __len__(self) -> int:
        return len(self._running)

    def talk(self, to: Contact, message: Request, done: _Done, now: float) -> None:
        """Send a message; done gets the bytes of the answer."""
        self._running[self._core.talkreq(to, PROTOCOL, message.encode(), now)] = done

    def ping(self, to: Contact, done: _Done, now: float) -> None:
        """Send a PING; done gets a Ponged."""
        self._running[self._core.ping(to, now)] = done

    def lookup(self, key: Key, done: _Done, now: float, known: Sequence[Contact] = ()) -> None:
        """Search for the nodes nearest to a key; done gets a LookupDone. known: more nodes to begin with."""
        self._running[self._core.lookup(NodeId(key), now, known)] = done

    def settle(self, event: Event, now: float) -> None:
        """Learn of the end of a request, ours or not."""
        match event:
            case RequestDone(request, _, result):
                outcome: Outcome = result
            case LookupDone(request):
                outcome = event
            case RequestFailed(request, _, failure):
                outcome = failure
            case _:
                return
        done = self._running.pop(request, None)
        if done is not None:
            done(outcome, now)
