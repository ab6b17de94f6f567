"""A Tor client of the private network: its own process, SOCKS port, control port and cookie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from relay.primitives.address import Address
from relay.primitives.errors import TorControlError
from relay.tor.address import Opener, Streams
from relay.tor.control import TorControl
from relay.tor.process import TorProcess
from relay.tor.status import StatusBoard
from relay.tor.torrc import cookie_path

BOOTSTRAP_DEADLINE: Final = 60.0  # seconds
POLL_INTERVAL: Final = 0.05  # seconds between looks for a control port that comes up

Progress = Callable[[int, str], None]


class ClientHandle:
    """One client; it may be killed and started again, and keeps its ports and data.

    Attributes:
        name: also its directory's name.
        socks: the SOCKS listener, with IsolateSOCKSAuth and ExtendedErrors.
        control: the control listener, with a cookie.
        cookie_path: the cookie's file.
        process: the tor process.
    """

    def __init__(
        self, name: str, process: TorProcess, socks: Address, control: Address, opener: Opener
    ) -> None:
        self.name, self.process, self.socks, self.control = name, process, socks, control
        self.cookie_path: Path = cookie_path(process.directory)
        self._opener = opener

    async def open_control(self) -> Streams:
        """Connect to the control port; what `OnionService` takes as `open_stream`."""
        return await self._opener(self.control)

    async def start(self) -> None:
        """Start the process, first or again; it has no circuits when this returns."""
        await self.process.start()

    async def kill(self) -> None:
        """End it as a crash would."""
        await self.process.kill()

    async def stop(self) -> None:
        """End it in an orderly way."""
        await self.process.stop()

    async def restart(self) -> None:
        """Kill, start, and wait until it is bootstrapped."""
        await self.kill()
        await self.start()
        await self.wait_bootstrapped()

    async def wait_bootstrapped(
        self, progress: Progress = lambda _percent, _text: None, deadline: float = BOOTSTRAP_DEADLINE
    ) -> None:
        """Wait for 100%.

        Args:
            progress: told percent and Tor's words at each step.
            deadline: seconds.

        Raises:
            TorControlError: the process ended, or the deadline passed.
        """
        board = StatusBoard()
        done = asyncio.Event()
        try:
            async with asyncio.timeout(deadline):
                await self._wait_control()
                async with TorControl.connect(self.open_control) as control:
                    control.listen("STATUS_CLIENT", board.take_status_event)
                    control.on_closed(done.set)
                    board.subscribe(
                        lambda status: progress(status.bootstrap_percent, status.bootstrap_summary)
                    )
                    board.subscribe(lambda status: done.set() if status.bootstrap_percent == 100 else None)
                    await control.set_events()
                    board.take_bootstrap(await control.get_info("status/bootstrap-phase"))
                    await done.wait()
                    if control.closed:
                        raise control.failure
        except TimeoutError:
            said = f"{board.status.bootstrap_percent}% {board.status.bootstrap_summary}"
            raise TorControlError(
                f"Tor client {self.name} not bootstrapped in {deadline:g} s: {said}"
            ) from None

    async def _wait_control(self) -> None:
        """Wait until the control port of a started process authenticates us (its cookie is written late)."""
        while True:
            if not self.process.running:
                raise self.process.exit_error(await self.process.wait_exit())
            try:
                async with TorControl.connect(self.open_control):
                    return
            except TorControlError:
                await asyncio.sleep(POLL_INTERVAL)
