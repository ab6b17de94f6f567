"""From a request's bytes to its answer's bytes: batches, limits, errors. Knows no transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from relay.primitives.errors import RelayError
from relay.rpc.errors import (
    RpcError,
    batch_too_large,
    empty_batch,
    invalid_request,
    method_name_too_long,
    method_not_found,
    notifications_unsupported,
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

__all__ = ["Dispatcher", "DispatcherOptions"]

MAX_METHOD_NAME: Final = 2048  # characters; geth's maxMethodNameLength
_SPACE: Final = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class DispatcherOptions:
    """Limits of a call.

    Attributes:
        batch_items: requests in one batch (geth: BatchRequestLimit).
        batch_bytes: of results and errors in one batch (geth: BatchResponseMaxSize).
        slice_seconds: a batch lets the event loop do other things after this long.
    """

    batch_items: int = 1000
    batch_bytes: int = 25_000_000
    slice_seconds: float = 0.005


class Dispatcher:
    """Answers requests from a table of methods.

    Args:
        methods: by name.
        clock: monotonic seconds.
        options: limits.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        clock: Callable[[], float],
        options: DispatcherOptions | None = None,
    ) -> None:
        self._methods = methods
        self._clock = clock
        self._options = options or DispatcherOptions()

    def extended(self, methods: Mapping[str, Method]) -> Dispatcher:
        """Return one that knows these methods besides, for a client that has methods of its own."""
        return Dispatcher({**self._methods, **methods}, clock=self._clock, options=self._options)

    async def answer(self, body: bytes) -> bytes:
        """Answer one request or batch; empty when there is nothing to say: notifications, an empty body."""
        if not body.strip(_SPACE):
            return b""
        try:
            value = decode(body)
        except RpcError as error:
            return encode_error(NULL, error).encode()
        return await self.answer_value(value)

    async def answer_value(self, value: object) -> bytes:
        """Answer a request or batch that is decoded already."""
        text = await self._batch(value) if isinstance(value, list) else self._single(read_message(value))
        return (text or "").encode()

    async def _batch(self, items: list[object]) -> str | None:
        if not items:
            return encode_error(NULL, empty_batch())
        if len(items) > self._options.batch_items:
            return encode_batch([encode_error(_first_id(items), batch_too_large())])
        answers = await self._answers([read_message(item) for item in items])
        return encode_batch(answers) if answers else None

    async def _answers(self, messages: list[Call | NotCall]) -> list[str]:
        answers: list[str] = []
        size = 0
        pause_at = self._clock() + self._options.slice_seconds
        for index, message in enumerate(messages):
            answer = self._single(message)
            if answer is None:
                continue
            answers.append(answer)
            size += len(answer)
            if size > self._options.batch_bytes:
                return answers + _refusals(messages[index + 1 :])
            if self._clock() >= pause_at:
                await asyncio.sleep(0)
                pause_at = self._clock() + self._options.slice_seconds
        return answers

    def _single(self, message: Call | NotCall) -> str | None:
        if isinstance(message, NotCall):
            return None if message.silent else encode_error(message.id, invalid_request())
        try:
            result = self._run(message)
        except RpcError as error:
            return None if message.id is None else encode_error(message.id, error)
        return None if message.id is None else encode_result(message.id, result)

    def _run(self, call: Call) -> object:
        if len(call.method) > MAX_METHOD_NAME:
            raise method_name_too_long(len(call.method), MAX_METHOD_NAME)
        method = self._methods.get(call.method)
        if method is None:
            raise _unknown(call.method)
        arguments = bind(call.params, method.parameters)
        try:
            return method.function(*arguments)
        except RpcError:
            raise
        except RelayError as error:
            raise server_error(str(error)) from error


def _unknown(method: str) -> RpcError:
    if method.endswith("_subscribe"):
        return notifications_unsupported()
    return method_not_found(method)


def _first_id(items: list[object]) -> str:
    """The id of the first call: all that the protocol offers to name a whole batch by."""
    calls = (message for message in map(read_message, items) if isinstance(message, Call))
    return next((call.id for call in calls if call.id is not None), NULL)


def _refusals(messages: list[Call | NotCall]) -> list[str]:
    rest = [message for message in messages if message.id is not None]
    return [
        encode_error(message.id or NULL, response_too_large())
        for message in rest
        if not (isinstance(message, NotCall) and message.silent)
    ]
