"""The tripwire of the daemon's command: what its settings allow, and nothing else, may leave this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from relay.primitives.address import Address, UnixAddress
from relay.relaying.blobs.process import KzgProcess
from relay.settings import Settings
from relay.tor.launched import LaunchedTor
from relay.tor.process import version_command
from relay.transports.sockets import SocketRules
from relay.transports.tripwire import OutsideTor, Tripwire, TripwireRules

__all__ = ["own_listeners", "own_programs", "set_tripwire"]

log = structlog.get_logger("relay.app")


def set_tripwire(
    settings: Settings,
    rules: SocketRules,
    programs: Callable[[tuple[str, ...]], bool],
    on_breach: Callable[[OutsideTor], None],
) -> Tripwire | None:
    """Arm the tripwire where the mode hides this host; for the whole interpreter, so not for a test's daemon.

    Args:
        settings: name the listeners.
        rules: name what may be connected.
        programs: tells what may be started.
        on_breach: called in the event loop.

    Raises:
        LocalError: something is loaded that could not be watched.
    """
    if not settings.mode.hides_ip:
        return None
    loop = asyncio.get_running_loop()
    tripwire = Tripwire(
        TripwireRules(rules.allowed, own_listeners(settings), programs),
        lambda error: _tell(loop, on_breach, error),
    )
    tripwire.arm()
    log.debug("tripwire armed", destinations=len(rules.allowed))
    return tripwire


def own_listeners(settings: Settings) -> tuple[Address, ...]:
    """Where these settings have us listen, whatever the mode."""
    found: list[Address] = [UnixAddress(str(settings.ipc_path.absolute())), settings.metrics_address]
    if settings.wants_onion_service:
        found.append(settings.onion_listener)
    if settings.http:
        found.append(settings.http_address)
    if settings.ws:
        found.append(settings.ws_address)
    return tuple(found)


def own_programs(
    launched: LaunchedTor | None, verifier: KzgProcess | None
) -> Callable[[tuple[str, ...]], bool]:
    """Return what knows our own Tor and our verifier by their exact commands."""
    known: set[tuple[str, ...]] = set()
    if launched is not None:
        known |= {launched.process.command, version_command(launched.process.binary)}
    if verifier is not None:
        known.add(verifier.command)
    return known.__contains__


def _tell(
    loop: asyncio.AbstractEventLoop, on_breach: Callable[[OutsideTor], None], error: OutsideTor
) -> None:
    """From whatever thread it was."""
    log.critical("tripwire: this daemon stops before it shows its host", what=str(error))
    loop.call_soon_threadsafe(on_breach, error)
