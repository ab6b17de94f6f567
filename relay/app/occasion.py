"""Tasks for the time of a block: what commands use that are no daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.primitives.errors import LocalError

__all__ = ["passing_tasks"]


@asynccontextmanager
async def passing_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Give a task group whose tasks are cancelled when the block ends.

    A LocalError of the block or of a task comes out as itself, and not inside of a group.
    """
    failure: LocalError | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            try:
                yield tasks
            except LocalError as error:
                failure = error
            raise _Over
    except* _Over:
        pass
    except* LocalError as group:
        failure = failure or _first(group)
    if failure is not None:
        raise failure


class _Over(Exception):
    """Leaves the task group when all is done."""


def _first(group: BaseExceptionGroup[LocalError]) -> LocalError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, LocalError)
    return found
