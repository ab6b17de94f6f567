"""The steps of a start, each logged with its duration, in the order in which they are promised."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from relay.primitives.errors import LocalError

log = structlog.get_logger("relay.app")


class Startup:
    """Measures the steps of a start.

    Attributes:
        seconds: what each step took.
        current: the step under way; empty before the first and after the last.
        ready: whether all steps are done.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.current = ""
        self.ready = False
        self._begun = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step; one that raises is not logged as done."""
        self.current, begun = name, time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun
        log.info("start-up step done", step=name, seconds=round(self.seconds[name], 3))
        self.current = ""

    def finish(self) -> None:
        """All steps are done."""
        self.ready = True
        log.info("ready", seconds=round(time.monotonic() - self._begun, 3))


@contextmanager
def naming(flag: str) -> Iterator[None]:
    """Put the flag that would mend it in front of what went wrong."""
    try:
        yield
    except LocalError as error:
        raise LocalError(f"{flag}: {error}") from error
