"""Waiting for a condition, in place of a sleep."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["stays", "until"]


async def until(
    condition: Callable[[], Any | Awaitable[Any]], what: object, deadline: float = 15.0, every: float = 0.02
) -> Any:
    """Return the first true result of a condition; TimeoutError names what did not happen.

    Args:
        condition: asked again and again; a function or a coroutine function.
        what: what is waited for, in words; a function is called when the time is over.
        deadline: seconds.
        every: seconds between two looks.
    """
    try:
        async with asyncio.timeout(deadline):
            while True:
                result = condition()
                if inspect.isawaitable(result):
                    result = await result
                if result:
                    return result
                await asyncio.sleep(every)
    except TimeoutError:
        text = what() if callable(what) else what
        raise TimeoutError(f"not within {deadline:g} s: {text}") from None


async def stays(
    condition: Callable[[], Any | Awaitable[Any]], what: object, seconds: float, every: float = 0.05
) -> None:
    """Watch a condition for some time; AssertionError as soon as it does not hold."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        assert result, what() if callable(what) else what
        await asyncio.sleep(every)
