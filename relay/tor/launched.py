"""`--tor-launch`: our own Tor in the data folder, kept running and owned until we end.

Its listeners are unix sockets, so that no port can be taken and nobody else on the machine can use them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import structlog

from relay.primitives.address import UnixAddress
from relay.primitives.errors import LocalError, StorageError, TorControlError, UsageError
from relay.tor.address import Opener, Streams
from relay.tor.backoff import Backoff
from relay.tor.bridges import Bridge, Transport, bridge_lines, check_programs
from relay.tor.control import ControlOptions, TorControl
from relay.tor.process import TorProcess, check_version, tor_version
from relay.tor.torrc import client_torrc
from relay.tor.version import FIRST_WITH_VANGUARDS, TorVersion

START_DEADLINE: Final = 30.0  # seconds until the control port answers; loading a data folder can be slow
POLL_INTERVAL: Final = 0.1  # seconds
LONGEST_SOCKET_PATH: Final = 100  # bytes; sun_path holds 104 to 108 by system

log = structlog.get_logger("relay.tor")

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """How our own Tor reaches its network."""

    bridges: tuple[Bridge, ...] = ()
    """Entered by these alone, where the network blocks Tor."""
    transports: tuple[Transport, ...] = ()
    """The programs that speak to them."""
    vanguards: bool | None = None
    """Keep to few second hops for some days (vanguards-lite); None leaves it to Tor, which does."""

    @property
    def lines(self) -> list[str]:
        """Lines of torrc.

        Raises:
            UsageError: a bridge's transport has no program, or the other way round.
        """
        lines = bridge_lines(self.bridges, self.transports)
        if self.vanguards is not None:
            lines.append(f"VanguardsLiteEnabled {int(self.vanguards)}")
        return lines


class LaunchedTor:
    """A Tor of our own: `prepare` once, then `run` keeps it alive until cancelled.

    Args:
        binary: tor's path, from `find_tor`.
        directory: DATADIR/tor.
        opener: connects to an address; from the app's socket factory.
        options: bridges and vanguards.
        extra: more torrc lines, such as those of a private network.
        sleep: waits between looks and restarts.
    """

    def __init__(
        self,
        binary: str,
        directory: Path,
        opener: Opener,
        *,
        options: LaunchOptions | None = None,
        extra: Sequence[str] = (),
        sleep: Sleep = asyncio.sleep,
        start_deadline: float = START_DEADLINE,
    ) -> None:
        self._binary, self._opener, self._sleep = binary, opener, sleep
        self._start_deadline = start_deadline
        self._options = options or LaunchOptions()
        self.directory = directory.absolute()
        self._sockets, self._temporary = _socket_folder(self.directory)
        self.socks = UnixAddress(str(self._sockets / "socks"))
        self.control = UnixAddress(str(self._sockets / "control"))
        more = [*self._options.lines, *extra]
        lines = client_torrc(self.directory, self.socks, self.control, os.getpid(), more)
        self.process = TorProcess(binary, self.directory, lines)
        self.version: TorVersion | None = None

    @property
    def service_folder(self) -> Path:
        """Where an onion service in its configuration has its key."""
        return self.directory / "service"

    async def open_control(self) -> Streams:
        """Connect to its control port; what `OnionService` takes as `open_stream`."""
        return await self._opener(self.control)

    async def prepare(self) -> TorVersion:
        """Check the program before anything is started.

        Raises:
            UsageError: it is missing, no Tor, or too old; or a transport's program is missing.
        """
        self.version = await tor_version(self._binary)
        check_version(self.version)
        if self._options.vanguards is not None and self.version < FIRST_WITH_VANGUARDS:
            raise UsageError(f"--tor-vanguards needs tor {FIRST_WITH_VANGUARDS}: this one is {self.version}")
        check_programs(self._options.transports)
        return self.version

    async def run(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Start it, own it, and start it again whenever it ends; cancelling stops it.

        Args:
            on_started: called each time its control port answers.

        Raises:
            LocalError: the first start failed; later failures are retried.
        """
        backoff = Backoff()
        started = asyncio.Event()
        try:
            while True:
                try:
                    await self._run_once(on_started, started)
                except LocalError as error:
                    if not started.is_set():
                        raise
                    pause = backoff.next_pause()
                    log.warning("tor ended", cause=str(error), retry_in=pause)
                await self.process.stop()
                await self._sleep(pause)
        finally:
            await self.process.stop()
            if self._temporary:
                shutil.rmtree(self._sockets, ignore_errors=True)

    async def _run_once(self, on_started: Callable[[], None], started: asyncio.Event) -> NoReturn:
        await self.start()
        async with TorControl.connect(self.open_control) as control:
            await control.command("TAKEOWNERSHIP")
            log.info("tor started", pid=self.process.pid, version=control.info.tor_version)
            started.set()
            on_started()
            await control.wait_closed()
        raise self.process.exit_error(await self._exit_status())

    async def _exit_status(self) -> int:
        """The status of a Tor whose control connection ended; one that still runs is stopped."""
        if self.process.running:
            await self.process.stop()
        return await self.process.wait_exit()

    async def start(self) -> None:
        """Start the process and wait until its control port takes connections.

        Raises:
            TorControlError: it ended early, with what it said, or the port did not come up in time.
        """
        _prepare_folder(self.directory)
        _prepare_folder(self._sockets)
        await self.process.start()
        try:
            async with asyncio.timeout(self._start_deadline):
                while not await self._control_answers():
                    await self._sleep(POLL_INTERVAL)
        except TimeoutError:
            said = "; ".join(self.process.last_log_lines(3))
            raise TorControlError(
                f"tor's control port did not come up in {self._start_deadline:g} s: {said}"
            ) from None

    async def _control_answers(self) -> bool:
        if not self.process.running:
            raise self.process.exit_error(await self.process.wait_exit())
        try:
            async with TorControl.connect(
                self.open_control, ControlOptions(command_deadline=self._start_deadline)
            ):
                return True
        except TorControlError:
            return False


def _socket_folder(directory: Path) -> tuple[Path, bool]:
    """Where the sockets go, and whether to remove it again: a socket's path must be short."""
    folder = directory / "sockets"
    if len(os.fsencode(folder / "control")) <= LONGEST_SOCKET_PATH:
        return folder, False
    return Path(tempfile.mkdtemp(prefix="pyrelay-tor-")), True


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise StorageError(f"tor's folder {folder} cannot be made: {error}") from None
