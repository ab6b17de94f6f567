"""The live screen: joins a monitor, a keyboard and rich's screen; draws after looks and keys."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live

from relay.monitor.geography import Geography, Nowhere
from relay.monitor.keys import keyboard
from relay.monitor.monitor import Monitor
from relay.monitor.render import Canvas, draw_screen
from relay.monitor.view import ViewState, press

__all__ = ["LiveScreen", "watch_live"]

PAUSE: Final = 1.0  # seconds between two drawings where nothing happens: ages grow
SHARE: Final = 5  # drawing takes at most one part of these


class LiveScreen:
    """What is on the screen, and what keys do to it.

    Args:
        monitor: watches.
        canvas: tells the size of the screen now.
        geography: for countries.
        clock: the monitor's.
        state: to begin with.

    Attributes:
        state: what the person chose.
    """

    def __init__(
        self,
        monitor: Monitor,
        canvas: Callable[[], Canvas],
        geography: Geography | Nowhere,
        clock: Callable[[], float],
        state: ViewState,
    ) -> None:
        self.state = state
        self._monitor, self._canvas, self._geography, self._clock = monitor, canvas, geography, clock
        self._watch, self._paused_at = monitor.watch, 0.0
        self._rows: list[str] = []
        self._page = 1

    def key(self, name: str) -> None:
        """Take a key."""
        was_paused = self.state.paused
        self.state = press(self.state, name, self._rows, self._page)
        if self.state.paused and not was_paused:
            # What is seen meanwhile goes into the monitor's own watch; the picture keeps this one.
            self._watch, self._paused_at = self._monitor.watch.copy(), self._clock()
        elif not self.state.paused:
            self._watch = self._monitor.watch

    def draw(self) -> Group:
        """Return the picture."""
        now = self._paused_at if self.state.paused else self._clock()
        drawing = draw_screen(self._watch, now, self._canvas(), self._geography, self.state)
        self._rows, self._page = drawing.rows, drawing.page
        return Group(*drawing.lines)


async def watch_live(
    monitor: Monitor,
    console: Console,
    geography: Geography | Nowhere,
    clock: Callable[[], float],
    *,
    addresses: bool,
) -> None:
    """Show a monitor until somebody presses q."""
    changed = asyncio.Event()

    def canvas() -> Canvas:
        with suppress(OSError):  # the terminal's own size: COLUMNS may be of another one
            size = os.get_terminal_size(sys.stdout.fileno())
            if size.columns and size.lines:  # a pseudo terminal may have none
                console.size = ConsoleDimensions(size.columns, size.lines)
        return Canvas(max(20, console.width), max(6, console.height), console.options.ascii_only)

    screen = LiveScreen(monitor, canvas, geography, clock, ViewState(addresses=addresses))

    def take(key: str) -> None:
        screen.key(key)
        changed.set()

    monitor.on_look = changed.set
    loop = asyncio.get_running_loop()
    with (
        keyboard(loop.add_reader, take) as number,
        Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(monitor.run())
            while not screen.state.ended:
                begun = time.monotonic()
                live.update(screen.draw(), refresh=True)
                changed.clear()
                took = time.monotonic() - begun
                await asyncio.sleep(took * (SHARE - 1))
                await _either(changed, PAUSE)
            looking.cancel()
        if number is not None:
            loop.remove_reader(number)


async def _either(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        pass
