"""One upstream: its connections, its standing, and how many calls it has under way."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import structlog

from relay.rpc.errors import RpcError
from relay.rpc.upstream.breaker import Breaker
from relay.rpc.upstream.faults import Fault, UpstreamFault
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.texts import Answer, read_answer, request
from relay.rpc.upstream.urls import UpstreamUrl

__all__ = ["Link", "Upstream"]

_log = structlog.get_logger("relay.rpc")


class Link(Protocol):
    """The connections to one upstream (`HttpLink`, `MessageLink`)."""

    async def exchange(self, call_id: int, body: bytes, /, *, once: bool) -> bytes:
        """Send a request and return its answer; raises UpstreamFault."""
        ...

    def leave(self) -> None:
        """Give up what is kept open, without harm to calls under way."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class Upstream:
    """One upstream.

    Args:
        number: its place in the list, from 1: what clients are told of it.
        url: where it is.
        link: asks it.
        options: limits.
        clock: monotonic seconds.
        rand: random bytes.
        counters: of faults, by kind.

    Attributes:
        in_flight: calls under way or waiting for their turn.
        last_answer: when it answered last.
    """

    def __init__(
        self,
        number: int,
        url: UpstreamUrl,
        link: Link,
        options: UpstreamOptions,
        *,
        clock: Callable[[], float],
        rand: Callable[[int], bytes],
        counters: Counter[str],
    ) -> None:
        self.number = number
        self.url = url
        self.link = link
        self.in_flight = 0
        self.last_answer = float("-inf")
        self._options = options
        self._clock = clock
        self._counters = counters
        self._breaker = Breaker(options, clock, rand)
        self._turn = asyncio.Semaphore(options.in_flight)
        self._serial = itertools.count(1)
        self._chain_known = options.chain_id is None
        self._checking = asyncio.Lock()

    def __str__(self) -> str:
        return f"upstream {self.number}"

    @property
    def is_well(self) -> bool:
        """Whether it is not in a pause; says nothing for one that was never asked."""
        return not self._breaker.is_open

    @property
    def rest(self) -> float:
        """Seconds left of its pause."""
        return self._breaker.remaining

    def admits(self) -> bool:
        """Tell whether a call may go there now; see `Breaker.admits`."""
        return self._breaker.admits()

    async def ask(self, method: str, params: str, *, seconds: float, once: bool = False) -> Answer:
        """Ask it.

        Args:
            method: its name.
            params: JSON.
            seconds: for the answer, the turn and the connection included.
            once: the request must never be sent twice.

        Raises:
            RpcError: the upstream's own.
            UpstreamFault: it does not answer as it should; its standing has suffered.
        """
        if self.in_flight >= self._options.in_flight + self._options.waiting:
            raise UpstreamFault(Fault.BUSY, "too many calls wait for it")
        self.in_flight += 1
        try:
            async with asyncio.timeout(seconds):
                if not self._chain_known:
                    await self._check_chain()
                answer = await self._exchange(method, params, once=once)
        except TimeoutError:
            fault = UpstreamFault(Fault.TIMEOUT, f"it does not answer within {seconds:g} s")
            self._failed(fault)
            raise fault from None
        except UpstreamFault as fault:
            self._failed(fault)
            raise
        except RpcError:
            self._answered()
            raise
        finally:
            self.in_flight -= 1
        self._answered()
        return answer

    async def check(self) -> None:
        """Ask for its chain, so as to know whether it is there; raises nothing."""
        try:
            async with asyncio.timeout(self._options.attempt_seconds):
                await self._check_chain(anew=True)
        except TimeoutError:
            self._failed(UpstreamFault(Fault.TIMEOUT, "it does not answer"))
        except UpstreamFault as fault:
            self._failed(fault)
        except RpcError:
            self._answered()
        else:
            self._answered()

    def close(self) -> None:
        """Close its connections."""
        self.link.close()

    def leave(self) -> None:
        """Have the next call open a connection of its own; calls under way go on."""
        self.link.leave()

    async def _exchange(self, method: str, params: str, *, once: bool) -> Answer:
        async with self._turn:
            call_id = next(self._serial)
            body = await self.link.exchange(call_id, request(call_id, method, params), once=once)
            return await read_answer(body, call_id)

    async def _check_chain(self, *, anew: bool = False) -> None:
        """Refuse one of another chain: its answers would be taken for ours."""
        async with self._checking:
            if self._chain_known and not anew:
                return
            wanted = self._options.chain_id
            answer = await self._exchange("eth_chainId", "[]", once=False)
            if wanted is not None and answer.value != hex(wanted):
                self._chain_known = False
                shown = str(answer.value)[:24]
                raise UpstreamFault(Fault.WRONG_CHAIN, f"its chain is {shown}, not {hex(wanted)}")
            self._chain_known = True

    def _answered(self) -> None:
        self.last_answer = self._clock()
        if self._breaker.is_open:
            _log.info("upstream answers again", upstream=self.number)
        self._breaker.succeeded()

    def _failed(self, fault: UpstreamFault) -> None:
        self._counters[fault.fault.value] += 1
        if not fault.blames:
            return
        was_open = self._breaker.is_open
        pause = self._options.longest_pause if fault.fault is Fault.WRONG_CHAIN else fault.pause
        self._breaker.failed(pause)
        if self._breaker.is_open:
            if not was_open:
                _log.warning("upstream fails", upstream=self.number, remote=str(self.url), why=str(fault))
            if fault.fault in (Fault.TIMEOUT, Fault.WRONG_CHAIN):
                self._chain_known = self._options.chain_id is None
                self.link.close()  # a connection that hangs is no better for the next call
