"""From a request's bytes to its answer's bytes: batches, limits, errors. Knows no transport.

Most methods answer at once, and for those nothing is awaited. Others wait, for a peer or an upstream; they
are coroutine functions, and those of one batch run side by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from relay.primitives.errors import RelayError
from relay.rpc.errors import (
    RpcError,
    batch_too_large,
    empty_batch,
    invalid_request,
    method_name_too_long,
    method_not_found,
    notifications_unsupported,
    parse_error,
    response_too_large,
    server_error,
)
from relay.rpc.messages import (
    NULL,
    Call,
    NotCall,
    decode,
    encode_batch,
    encode_error,
    encode_result,
    read_message,
)
from relay.rpc.methods import Method
from relay.rpc.params import bind

__all__ = ["Dispatcher", "DispatcherOptions", "Fallback", "Meter"]

MAX_METHOD_NAME: Final = 2048  # characters; geth's maxMethodNameLength
TIMED_OUT: Final = -32002  # geth: errcodeTimeout
_SPACE: Final = b" \t\r\n"

Fallback = Callable[[Call], Awaitable[object]]
"""Answers a method that nobody here knows, or raises RpcError."""
_Waiting = Callable[[], Coroutine[Any, Any, str | None]]


class Meter(Protocol):
    """Counts the calls of one client."""

    def admit(self) -> None:
        """Count one; raises RpcError when these are too many."""
        ...


@dataclass(frozen=True, slots=True)
class DispatcherOptions:
    """Limits of a call.

    Attributes:
        depth: brackets inside each other; no request needs more than a few.
        batch_items: requests in one batch (geth: BatchRequestLimit).
        batch_bytes: of results and errors in one batch (geth: BatchResponseMaxSize).
        batch_waiting: calls of one batch that wait for somebody else at a time.
        batch_seconds: for all of a batch that waits; what is not there then is told so.
        slice_seconds: a batch lets the event loop do other things after this long.
    """

    depth: int = 256
    batch_items: int = 1000
    batch_bytes: int = 25_000_000
    batch_waiting: int = 16
    batch_seconds: float = 60.0
    slice_seconds: float = 0.005


class Dispatcher:
    """Answers requests from a table of methods.

    Args:
        methods: by name.
        clock: monotonic seconds.
        options: limits.
        fallback: answers every other method; None for an error.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        clock: Callable[[], float],
        options: DispatcherOptions | None = None,
        fallback: Fallback | None = None,
    ) -> None:
        self._methods = methods
        self._clock = clock
        self._options = options or DispatcherOptions()
        self._fallback = fallback

    def extended(self, methods: Mapping[str, Method]) -> Dispatcher:
        """Return one that knows these methods besides, for a client that has methods of its own."""
        return Dispatcher(
            {**self._methods, **methods}, clock=self._clock, options=self._options, fallback=self._fallback
        )

    async def answer(self, body: bytes, meter: Meter | None = None) -> bytes:
        """Answer one request or batch; empty when there is nothing to say: notifications, an empty body.

        Args:
            body: JSON.
            meter: counts the client's calls.
        """
        if not body.strip(_SPACE):
            return b""
        try:
            value = decode(body)
        except RpcError as error:
            return encode_error(NULL, error).encode()
        return await self.answer_value(value, meter)

    async def answer_value(self, value: object, meter: Meter | None = None) -> bytes:
        """Answer a request or batch that is decoded already."""
        if not _within(value, self._options.depth):
            return encode_error(NULL, parse_error("exceeded max depth")).encode()
        if isinstance(value, list):
            text = await self._batch(value, meter)
        else:
            begun = self._begin(read_message(value), meter)
            text = begun if begun is None or isinstance(begun, str) else await begun()
        return (text or "").encode()

    # -- one call --------------------------------------------------------------------------------------

    def _begin(self, message: Call | NotCall, meter: Meter | None) -> str | _Waiting | None:
        """Answer at once, or return what will."""
        if isinstance(message, NotCall):
            return None if message.silent else encode_error(message.id, invalid_request())
        try:
            if meter is not None:
                meter.admit()
            method = self._method(message)
            if method is None or method.is_async:
                return partial(self._wait, message, method)
            return _told(message, _run(method, message))
        except RpcError as error:
            return None if message.id is None else encode_error(message.id, error)

    def _method(self, call: Call) -> Method | None:
        """Return the method, None where the fallback is to be asked."""
        if len(call.method) > MAX_METHOD_NAME:
            raise method_name_too_long(len(call.method), MAX_METHOD_NAME)
        method = self._methods.get(call.method)
        if method is None and (self._fallback is None or _is_subscription(call.method)):
            raise _unknown(call.method)
        return method

    async def _wait(self, call: Call, method: Method | None) -> str | None:
        try:
            if method is None:
                assert self._fallback is not None
                return _told(call, await self._fallback(call))
            return _told(call, await _run_async(method, call))
        except RpcError as error:
            return None if call.id is None else encode_error(call.id, error)

    # -- batches ---------------------------------------------------------------------------------------

    async def _batch(self, items: list[object], meter: Meter | None) -> str | None:
        if not items:
            return encode_error(NULL, empty_batch())
        if len(items) > self._options.batch_items:
            return encode_batch([encode_error(_first_id(items), batch_too_large())])
        batch = _Batch([read_message(item) for item in items], self._options)
        try:
            # Without calls that wait nothing here is awaited but the pauses.
            async with asyncio.timeout(self._options.batch_seconds), asyncio.TaskGroup() as tasks:
                await self._run_batch(batch, meter, tasks)
        except TimeoutError:
            batch.time_out()
        answers = [answer for answer in batch.answers if answer]
        return encode_batch(answers) if answers else None

    async def _run_batch(self, batch: _Batch, meter: Meter | None, tasks: asyncio.TaskGroup) -> None:
        pause_at = self._clock() + self._options.slice_seconds
        for index, message in enumerate(batch.messages):
            if batch.is_full:
                batch.refuse(index, message)
                continue
            begun = self._begin(message, meter)
            if begun is None or isinstance(begun, str):
                batch.take(index, begun)
            else:
                await batch.wait(index, begun, tasks)
            if self._clock() >= pause_at:
                await asyncio.sleep(0)
                pause_at = self._clock() + self._options.slice_seconds


class _Batch:
    """The answers of a batch, in the order of its calls."""

    def __init__(self, messages: list[Call | NotCall], options: DispatcherOptions) -> None:
        self.messages = messages
        self.answers: list[str | None] = [None] * len(messages)
        self._settled = [False] * len(messages)
        self._room = options.batch_bytes
        self._turn = asyncio.Semaphore(options.batch_waiting)

    @property
    def is_full(self) -> bool:
        """Whether the answers have more bytes than one batch may have."""
        return self._room < 0

    def take(self, index: int, answer: str | None) -> None:
        """Note one answer."""
        self.answers[index] = answer
        self._settled[index] = True
        self._room -= len(answer or "")

    def refuse(self, index: int, message: Call | NotCall) -> None:
        """Answer what comes after the limit."""
        self._settled[index] = True
        if message.id is not None and not (isinstance(message, NotCall) and message.silent):
            self.answers[index] = encode_error(message.id, response_too_large())

    async def wait(self, index: int, waiting: _Waiting, tasks: asyncio.TaskGroup) -> None:
        """Have one answered as soon as it is its turn; returns before it is."""
        await self._turn.acquire()
        tasks.create_task(self._settle(index, waiting), name="rpc call")

    async def _settle(self, index: int, waiting: _Waiting) -> None:
        try:
            answer = await waiting()
        finally:
            self._turn.release()
        if self.is_full:
            self.refuse(index, self.messages[index])
        else:
            self.take(index, answer)

    def time_out(self) -> None:
        """Answer all that has no answer yet."""
        for index, message in enumerate(self.messages):
            if not self._settled[index] and message.id is not None:
                self.answers[index] = encode_error(message.id, RpcError(TIMED_OUT, "request timed out"))


def _run(method: Method, call: Call) -> object:
    try:
        return method.function(*_arguments(method, call))
    except RpcError:
        raise
    except RelayError as error:
        raise server_error(str(error)) from error


async def _run_async(method: Method, call: Call) -> object:
    try:
        result: Any = method.function(*_arguments(method, call))
        return await result
    except RpcError:
        raise
    except RelayError as error:
        raise server_error(str(error)) from error


def _arguments(method: Method, call: Call) -> list[object]:
    return [call.params] if method.parameters is None else bind(call.params, method.parameters)


def _told(call: Call, result: object) -> str | None:
    return None if call.id is None else encode_result(call.id, result)


def _within(value: object, depth: int) -> bool:
    """Tell whether a value has no more brackets inside each other than this; level by level."""
    level: list[Any] = [value] if isinstance(value, list | dict) else []
    for _ in range(depth):
        if not level:
            return True
        inner = (each if type(each) is list else each.values() for each in level)
        level = [each for values in inner for each in values if type(each) is list or type(each) is dict]
    return not level


def _is_subscription(method: str) -> bool:
    """What only a connection that stays can have, and upstreams must not be asked on everybody's behalf."""
    return method.endswith(("_subscribe", "_unsubscribe"))


def _unknown(method: str) -> RpcError:
    if method.endswith("_subscribe"):
        return notifications_unsupported()
    return method_not_found(method)


def _first_id(items: list[object]) -> str:
    """The id of the first call: all that the protocol offers to name a whole batch by."""
    calls = (message for message in map(read_message, items) if isinstance(message, Call))
    return next((call.id for call in calls if call.id is not None), NULL)
