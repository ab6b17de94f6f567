"""All upstreams as one: whom to ask, whom to ask instead, and what to tell when nobody answers."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from relay.rpc.errors import METHOD_NOT_FOUND, RpcError
from relay.rpc.messages import RawJson
from relay.rpc.upstream.budget import Budget
from relay.rpc.upstream.cache import Cache, cache_key
from relay.rpc.upstream.faults import Fault, UpstreamFault
from relay.rpc.upstream.http import HttpLink
from relay.rpc.upstream.messages import MessageLink
from relay.rpc.upstream.opener import Opener, TlsContext, system_tls
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.policy import is_read, is_write
from relay.rpc.upstream.pushes import Listener, Pushes
from relay.rpc.upstream.texts import UNREAD, Answer, encode_params
from relay.rpc.upstream.upstream import Link, Upstream
from relay.rpc.upstream.urls import UpstreamUrl
from relay.transports.dialer import Dialer
from relay.transports.sockets import SocketFactory

__all__ = ["Upstreams"]

UNAVAILABLE: Final = -32002  # EIP-1474: resource unavailable
LIMITED: Final = -32005  # EIP-1474: limit exceeded
MAX_FILTERS: Final = 4096  # of which we know at which upstream they are
_MAKE_FILTER: Final = frozenset({"eth_newFilter", "eth_newBlockFilter", "eth_newPendingTransactionFilter"})
_USE_FILTER: Final = frozenset({"eth_getFilterChanges", "eth_getFilterLogs", "eth_uninstallFilter"})


class Upstreams:
    """The upstreams of one purpose; another purpose has its own, so that no connection is shared.

    Args:
        urls: in the user's order.
        dialer: the mode's own way out: through Tor alone where the mode hides our address.
        sockets: for unix sockets, which the rules must allow.
        tasks: where connections are looked after.
        options: limits.
        clock: monotonic seconds.
        rand: random bytes.
        cache_bytes: for answers that never change; 0 for none.
        tls: makes the context of https and wss.

    Attributes:
        counters: calls, failovers, hedges, faults by kind, hits and misses of the cache.
    """

    def __init__(
        self,
        urls: Sequence[UpstreamUrl],
        dialer: Dialer,
        sockets: SocketFactory,
        tasks: asyncio.TaskGroup,
        *,
        clock: Callable[[], float],
        rand: Callable[[int], bytes],
        options: UpstreamOptions | None = None,
        cache_bytes: int = 0,
        tls: TlsContext = system_tls,
    ) -> None:
        self.counters: Counter[str] = Counter()
        assert urls, "a pool of no upstreams is none"
        self._options = options or UpstreamOptions()
        self._tasks = tasks
        self._clock = clock
        self.cache = Cache(cache_bytes, clock, self.counters)
        self._caches = cache_bytes > 0
        self._budget = Budget(self._options.held_bytes)
        self._round = itertools.count()
        self._filters: OrderedDict[str, Upstream] = OrderedDict()
        self._upstreams = tuple(
            Upstream(
                number,
                url,
                self._link(Opener(url, dialer, sockets, seconds=self._options.connect_seconds, tls=tls)),
                self._options,
                clock=clock,
                rand=rand,
                counters=self.counters,
            )
            for number, url in enumerate(urls, 1)
        )
        pushing = [each for each in self._upstreams if each.url.scheme.pushes]
        self._pushes = Pushes(pushing, self._options, tasks, self.counters)

    def _link(self, opener: Opener) -> Link:
        if opener.url.scheme.pushes:
            return MessageLink(opener, self._options, self._budget)
        return HttpLink(opener, self._options, self._budget)

    @property
    def well(self) -> int:
        """How many are not in a pause."""
        return sum(each.is_well for each in self._upstreams)

    def __len__(self) -> int:
        return len(self._upstreams)

    async def run(self) -> None:
        """Look after the health of all, until cancelled."""
        seconds = self._options.health_seconds
        while seconds:
            await asyncio.sleep(seconds)
            for each in self._upstreams:
                if self._clock() - each.last_answer >= seconds and each.admits():
                    await each.check()

    def close(self) -> None:
        """Close all connections; subscriptions just end."""
        self._pushes.close()
        for each in self._upstreams:
            each.close()

    def leave(self) -> None:
        """Have the next calls open connections of their own; calls under way go on."""
        for each in self._upstreams:
            each.leave()

    # -- calls -----------------------------------------------------------------------------------------

    async def call(self, method: str, params: object = None, *, timeout: float | None = None) -> object:
        """Ask, and return the decoded result.

        Args:
            method: its name.
            params: a list, or what is decoded of one.
            timeout: seconds for all of it; the options' by default.

        Raises:
            RpcError: the upstream's own error, or ours that says what failed.
        """
        answer = await self._call(method, params, timeout)
        try:
            return answer.read()
        except (ValueError, RecursionError):
            raise RpcError(UNAVAILABLE, "the upstream's answer is not JSON") from None

    async def call_raw(self, method: str, params: object = None, *, timeout: float | None = None) -> RawJson:
        """Ask, and return the result as the upstream wrote it; raises as `call` does."""
        return RawJson((await self._call(method, params, timeout)).text)

    async def subscribe(self, params: object, on_message: Listener) -> Callable[[], None]:
        """Subscribe, such as to ["newHeads"], at an upstream that pushes.

        Args:
            params: of eth_subscribe.
            on_message: is told JSON of each result, of the first ones before this call has ended.

        Returns:
            What ends it.

        Raises:
            RpcError: there is no such upstream, or it says no.
        """
        return await self._pushes.subscribe(params, on_message)

    async def _call(self, method: str, params: object, timeout: float | None) -> Answer:
        self.counters["call"] += 1
        key = cache_key(method, params) if self._caches else None
        if key is not None and (kept := self.cache.get(key)) is not None:
            return Answer(kept, UNREAD)
        deadline = self._clock() + (self._options.call_seconds if timeout is None else timeout)
        answer = await self._ask_somebody(method, params, deadline)
        if key is not None and self.cache.offer(key, answer):
            self.cache.asking()
            self._tasks.create_task(self._ask_for_finalized(), name="finalized block")
        return answer

    async def _ask_somebody(self, method: str, params: object, deadline: float) -> Answer:
        text = encode_params(params)
        if is_write(method):
            return await self._ask_one(method, text, deadline)
        if method in _USE_FILTER and (holder := self._filter_holder(params)) is not None:
            return await self._ask_all(method, text, deadline, iter((holder,)))
        if self._options.hedge_seconds and is_read(method) and len(self._upstreams) > 1:
            return await self._ask_hedged(method, text, deadline)
        return await self._ask_all(method, text, deadline, self._order())

    # -- whom ------------------------------------------------------------------------------------------

    def _order(self) -> Iterator[Upstream]:
        """Give upstreams as they are to be asked; those in a pause are passed over."""
        ranked = list(self._upstreams)
        if self._options.balance == "balanced":
            turn = next(self._round) % len(ranked)
            ranked = sorted(ranked[turn:] + ranked[:turn], key=lambda each: each.in_flight)
        return (each for each in ranked if each.admits())

    def _filter_holder(self, params: object) -> Upstream | None:
        key = params[0] if isinstance(params, list) and params else None
        return self._filters.get(key) if isinstance(key, str) else None

    async def _ask_one(self, method: str, text: str, deadline: float) -> Answer:
        """Hand something over: to one upstream, once."""
        chosen = next(self._order(), None)
        if chosen is None:
            raise self._unavailable([])
        try:
            return await chosen.ask(method, text, seconds=deadline - self._clock(), once=True)
        except UpstreamFault as fault:
            raise self._unavailable([(chosen, fault)]) from None

    async def _ask_all(self, method: str, text: str, deadline: float, order: Iterator[Upstream]) -> Answer:
        """Ask one after another until one answers."""
        faults: list[tuple[Upstream, UpstreamFault]] = []
        unknown: RpcError | None = None
        for chosen in order:
            left = deadline - self._clock()
            if left <= 0:
                break
            if faults:
                self.counters["failover"] += 1
            try:
                answer = await chosen.ask(method, text, seconds=self._patience(left, len(faults)))
            except UpstreamFault as fault:
                faults.append((chosen, fault))
            except RpcError as error:
                if error.code != METHOD_NOT_FOUND:
                    raise
                unknown = error  # another one may know it
            else:
                self._note_filter(method, answer, chosen)
                return answer
        raise unknown or self._unavailable(faults)

    async def _ask_hedged(self, method: str, text: str, deadline: float) -> Answer:
        """Ask one, and after a while a second one, too; the first answer counts."""
        order = self._order()
        first = next(order, None)
        if first is None:
            raise self._unavailable([])
        async with asyncio.TaskGroup() as tasks:
            begun = tasks.create_task(self._outcome(method, text, deadline, iter((first,))))
            await asyncio.wait((begun,), timeout=self._options.hedge_seconds)
            racing = {begun}
            if not begun.done() or _is_no_answer(begun.result()):
                self.counters["failover" if begun.done() else "hedge"] += 1
                racing.add(tasks.create_task(self._outcome(method, text, deadline, order)))
            outcome = await _first_good(racing)
            for each in racing:
                each.cancel()
        if isinstance(outcome, _Failed):
            raise outcome.error
        return outcome

    async def _outcome(
        self, method: str, text: str, deadline: float, order: Iterator[Upstream]
    ) -> Answer | _Failed:
        """As `_ask_all`, but an error is returned: raised, it would end the other one of a race."""
        try:
            return await self._ask_all(method, text, deadline, order)
        except RpcError as error:
            return _Failed(error)

    def _patience(self, left: float, tried: int) -> float:
        """Return the seconds for one upstream: all that is left for the last one."""
        is_last = tried + 1 >= len(self._upstreams)
        return left if is_last else min(left, self._options.attempt_seconds)

    def _note_filter(self, method: str, answer: Answer, holder: Upstream) -> None:
        """Remember who has a filter: others don't know it."""
        if method in _MAKE_FILTER and isinstance(answer.value, str):
            self._filters[answer.value] = holder
            while len(self._filters) > MAX_FILTERS:
                self._filters.popitem(last=False)

    # -- what else -------------------------------------------------------------------------------------

    async def _ask_for_finalized(self) -> None:
        deadline = self._clock() + self._options.attempt_seconds
        try:
            answer = await self._ask_all(
                "eth_getBlockByNumber", '["finalized",false]', deadline, self._order()
            )
        except RpcError:
            return  # a chain without finality: nothing is kept
        self.cache.finalized(answer.value)

    def _unavailable(self, faults: Sequence[tuple[Upstream, UpstreamFault]]) -> RpcError:
        """Tell why nobody answers; hosts are not named, since a caller need not know whom we ask."""
        if not faults:
            rest = min((each.rest for each in self._upstreams), default=0.0)
            return RpcError(UNAVAILABLE, f"no upstream answers; the next try is in {rest:.1f} s")
        told = "; ".join(f"{chosen}: {fault}" for chosen, fault in faults)
        limited = all(fault.fault in (Fault.LIMITED, Fault.BUSY) for _, fault in faults)
        return RpcError(LIMITED if limited else UNAVAILABLE, f"no upstream answers: {told}")


class _Failed:
    """An error as a value."""

    def __init__(self, error: RpcError) -> None:
        self.error = error


def _is_no_answer(outcome: Answer | _Failed) -> bool:
    """Whether another upstream may do better; an error that an upstream has told, all would tell."""
    return isinstance(outcome, _Failed) and outcome.error.code in (UNAVAILABLE, LIMITED, METHOD_NOT_FOUND)


async def _first_good(
    racing: set[asyncio.Task[Answer | _Failed]],
) -> Answer | _Failed:
    """Return the first answer; a failure only where the others fail, too."""
    waiting, failed = racing, None
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            outcome = each.result()
            if not _is_no_answer(outcome):
                return outcome
            failed = outcome
    assert failed is not None
    return failed
