"""Everything that has to do with Tor, joined: proxy, control, our onion service, the record that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from relay.app.onion_files import read_access, read_clients
from relay.discovery.files import read_regular
from relay.observe.pages import Readiness
from relay.primitives.address import Address, TcpAddress, UnixAddress
from relay.primitives.errors import TorControlError, UsageError
from relay.primitives.onion import OnionAddress, OnionKey, parse_onion
from relay.settings import Settings
from relay.tor.address import OpenStream, probe_list, probing
from relay.tor.backoff import Backoff
from relay.tor.client_auth import AccessKeys
from relay.tor.control import ControlOptions, TorControl
from relay.tor.launched import LaunchedTor, LaunchOptions
from relay.tor.onion_service import ExternalOnion, OnionService, OnionServiceOptions
from relay.tor.process import find_tor
from relay.tor.publishing import DEFAULT_INTRODUCTION_POINTS, ServiceFolder
from relay.tor.single_hop import SingleHopTor, refuse_single_hop
from relay.tor.status import StatusBoard
from relay.transports.sockets import SocketFactory

BOOTSTRAPPED: Final = 100
MAX_PASSWORD: Final = 1024  # bytes

log = structlog.get_logger("relay.app")


def control_addresses(settings: Settings) -> tuple[Address, ...]:
    """Where the control port is looked for, in this order."""
    if settings.tor_control is not None:
        return (settings.tor_control,)
    proxy = settings.tor_proxy
    return probe_list(proxy.host if isinstance(proxy, TcpAddress) else None)


def launched_addresses(directory: Path) -> tuple[Address | None, tuple[Address, ...]]:
    """SOCKS and control port of a Tor of ours that runs already; none while its sockets are not there."""
    sockets = directory / "sockets"
    if not (sockets / "control").is_socket():
        return None, ()
    return UnixAddress(str(sockets / "socks")), (UnixAddress(str(sockets / "control")),)


class TorSide:
    """The daemon's Tor: one that runs already, or one of our own.

    Args:
        settings: the flags.
        sockets: opens the way to proxy and control port.
        launched: our own Tor, with --tor-launch.
        key: of the onion service.
        on_up: told the address when peers can reach it.
        on_down: told why when they no longer can.

    Raises:
        UsageError: a file of keys or the password's that is unreadable or wrong.
    """

    def __init__(
        self,
        settings: Settings,
        sockets: SocketFactory,
        launched: LaunchedTor | None,
        key: OnionKey,
        *,
        on_up: Callable[[OnionAddress], None],
        on_down: Callable[[str], None],
    ) -> None:
        self._settings, self._sockets, self._key = settings, sockets, key
        self._tell_up, self._tell_down = on_up, on_down
        self.launched = launched
        self.board = StatusBoard()
        self._published = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()
        self._control_options = ControlOptions(password=read_password(settings.tor_password_file))
        self._clients = read_clients(settings.onion_auth_clients)
        self._access = AccessKeys(read_access(settings.onion_auth_keys))
        self._service: OnionService | None = None

    @property
    def can_do_without_control(self) -> bool:
        """Whether a missing control port is only worth a warning: torrc serves, or clearnet is there."""
        return (
            self._settings.onion_address is not None
            or self._settings.onion_service == "off"
            or not self._settings.mode.hides_ip
        )

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start our own Tor, or find the control port of the one that runs.

        Where IPs are hidden and an onion service is wanted, this waits until the port answers; elsewhere a
        port that does not answer is only a warning.

        Raises:
            LocalError: with --tor-launch: no tor, too old, or it does not start; a Tor in single-hop mode.
        """
        if self.launched is not None:
            await self.launched.prepare()
            started = asyncio.Event()
            tasks.create_task(self.launched.run(started.set))
            await started.wait()
        if self.launched is None:
            places = ", ".join(str(address) for address in control_addresses(self._settings))
            log.info("looking for tor's control port", where=places)
        self.board.update(problem="waiting for the control port")
        backoff = Backoff()
        while not await self._control_answers():
            if self.can_do_without_control and not self._access:
                log.warning("no control port of Tor: no onion service of ours, outbound connections only")
                return
            await asyncio.sleep(backoff.next_pause())

    async def _control_answers(self) -> bool:
        try:
            async with TorControl.connect(self._open_control(), self._control_options) as control:
                await refuse_single_hop(control)
                if control.open_door is not None:
                    log.warning(control.open_door)
                await self._access.give(control)  # before the first dial
                return True
        except SingleHopTor as error:
            raise UsageError(str(error)) from None
        except TorControlError as error:
            self.board.update(problem=str(error))
            log.warning("waiting for tor's control port", cause=str(error))
            return False

    async def run(self, listener: Address | None) -> None:
        """Keep the service published until `stop`.

        Args:
            listener: where Tor delivers to; None when there is no onion service.
        """
        external = None
        if self._settings.onion_address is not None:
            external = parse_onion(self._settings.onion_address)
            ExternalOnion(external, self.board, self._up).announce()
        self._service = OnionService(
            self._service_options(listener),
            self._open_control(),
            self.board,
            on_up=self._up,
            on_down=self._down,
            control=self._control_options,
            watched=external,
            access=self._access,
        )
        self._stopped.clear()
        try:
            await self._service.run()
        finally:
            self._stopped.set()

    async def wait_published(self) -> None:
        """Wait for the service, where nothing can be done without it; elsewhere return at once."""
        if not self.can_do_without_control:
            await self._published.wait()

    def stop(self) -> None:
        """Withdraw the service; `run` then returns."""
        if self._service is not None:
            self._service.stop()

    async def wait_stopped(self) -> None:
        """Wait until the service is withdrawn."""
        await self._stopped.wait()

    def readiness(self) -> list[Readiness]:
        """What has to be so before peers are served well."""
        status = self.board.status
        if self.can_do_without_control and not status.control_connected:
            return []
        percent, summary = status.bootstrap_percent, status.bootstrap_summary
        parts = [
            Readiness("tor", percent >= BOOTSTRAPPED, status.problem or f"bootstrapped {percent}% {summary}")
        ]
        if self._settings.wants_onion_service:
            parts.append(Readiness("onion-service", status.service_up, status.problem))
        return parts

    def _service_options(self, listener: Address | None) -> OnionServiceOptions | None:
        if listener is None or self._settings.onion_address is not None:
            return None
        settings = self._settings
        return OnionServiceOptions(
            self._key,
            settings.onion_port,
            str(settings.onion_target or listener),
            pow_defenses=settings.onion_pow == "auto",
            max_streams=settings.onion_max_streams,
            clients=self._clients,
            folder=self._service_folder(),
        )

    def _service_folder(self) -> ServiceFolder | None:
        """Where our own Tor gets the service from: it can do more so than by ADD_ONION."""
        if self.launched is None:
            return None
        points = self._settings.onion_intro_points
        return ServiceFolder(
            self.launched.service_folder,
            DEFAULT_INTRODUCTION_POINTS if points is None else points,
            circuit_ids=self._settings.shows_circuits,
        )

    def _open_control(self) -> OpenStream:
        if self.launched is not None:
            return self.launched.open_control
        return probing(self._sockets.open_stream, control_addresses(self._settings))

    def _up(self, address: OnionAddress) -> None:
        self._tell_up(address)
        self._published.set()

    def _down(self, reason: str) -> None:
        self._published.clear()
        self._tell_down(reason)


def make_launched(settings: Settings, sockets: Callable[[], SocketFactory]) -> LaunchedTor | None:
    """Our own Tor with --tor-launch; nothing is started yet.

    Args:
        settings: the flags.
        sockets: gives the factory once it is there: its rules name the ports of this very Tor.
    """
    if not settings.tor_launch:
        return None

    async def open_stream(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await sockets().open_stream(address)

    vanguards = None if settings.tor_vanguards is None else settings.tor_vanguards == "lite"
    options = LaunchOptions(settings.tor_bridge, settings.tor_transport, vanguards)
    return LaunchedTor(find_tor(), settings.datadir / "tor", open_stream, options=options)


def read_password(path: Path | None) -> str | None:
    """Read the password of the control port; None where no file was given.

    Raises:
        UsageError: the file is unreadable, empty or no text.
    """
    if path is None:
        return None
    try:
        text = read_regular(path, MAX_PASSWORD).decode().strip()
    except OSError as error:
        raise UsageError(f"--tor-password-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--tor-password-file {path}: not UTF-8 text") from None
    if not text:
        raise UsageError(f"--tor-password-file {path} is empty")
    return text
