"""What a relay needs of this host: Python, settings, the data folder, its keys, free ports."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from relay.app.checkup import Case, Finding, Findings, broken, fine, told, worth_a_look
from relay.app.datadir import (
    NODE_KEY,
    ONION_KEY,
    holder_of,
    parse_node_key,
    parse_onion_key,
    read_secret,
)
from relay.app.networks import load_network
from relay.app.torside import control_addresses, launched_addresses
from relay.primitives.address import Address, TcpAddress, UnixAddress
from relay.primitives.errors import ConnectFailed, LocalError
from relay.rpc.client import call
from relay.settings import Settings, load_settings
from relay.transports.sockets import SocketFactory, SocketRules

PYTHON_FLOOR: Final = (3, 11)
PYTHON_NEWEST: Final = (3, 13)
PLATFORMS: Final = ("linux", "darwin")
LEAST_FREE: Final = 16 << 20  # bytes of disk


async def check_python(_case: Case) -> Findings:
    """Python and platform."""
    return [_judged_python(sys.version_info[:2], sys.platform)]


def _judged_python(version: tuple[int, ...], system: str) -> Finding:
    detail = f"Python {platform.python_version()} on {system}, {platform.machine()}"
    if version < PYTHON_FLOOR:
        return broken(detail, "install Python 3.11, 3.12 or 3.13, then: make install")
    if not system.startswith(PLATFORMS):
        return broken(detail, "use Linux or macOS; on Windows: WSL 2")
    if version > PYTHON_NEWEST:
        return worth_a_look(detail, "pyrelay is tested with 3.11 to 3.13; use one of these if it misbehaves")
    return fine(detail)


async def check_settings(case: Case) -> Findings:
    """Flags, environment and file; the network or genesis that they name."""
    settings = load_settings(case.given, case.environment)
    network = load_network(settings.network)
    case.proxy, case.control = _tor_of(settings)
    wanted = (case.proxy, settings.i2p_sam)
    allowed = (*case.control, _ipc(settings), *(each for each in wanted if each is not None))
    case.found_settings(settings, SocketFactory(SocketRules.of_mode(settings.mode, *allowed)))
    source = f", from {settings.config}" if settings.config else ""
    found = [fine(f"mode {settings.mode.value}, network {network.name} ({network.network_id}){source}")]
    found += [worth_a_look(*_split(warning)) for warning in settings.warnings]
    return found


def _tor_of(settings: Settings) -> tuple[Address | None, tuple[Address, ...]]:
    """Where Tor's SOCKS port and control port are: for --tor-launch where the daemon puts them."""
    if not settings.tor_launch:
        return settings.tor_proxy, control_addresses(settings) if settings.has_tor else ()
    return launched_addresses(settings.datadir / "tor")


def _ipc(settings: Settings) -> UnixAddress:
    return UnixAddress(str(settings.ipc_path.absolute()))


def _split(warning: str) -> tuple[str, str]:
    detail, _, remedy = warning.partition("; ")
    return detail, remedy or "fine if you meant it so"


async def check_datadir(case: Case) -> Findings:
    """Rights, owner and room of the data folder; whether a daemon runs there."""
    return _looked_into(case, case.settings.datadir)


def _looked_into(case: Case, folder: Path) -> Findings:
    if not os.path.lexists(folder):
        return [_judged_missing(folder)]
    try:
        info = folder.stat()
    except OSError as error:
        return [broken(f"{folder}: {error.strerror}", "mend its rights, or choose another by --datadir")]
    if not stat.S_ISDIR(info.st_mode):
        return [broken(f"{folder} is not a folder", "choose another by --datadir")]
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return [broken(f"{folder} is not writable for you", f"sudo chown -R $USER {folder}")]
    case.daemon = holder_of(folder)
    return _judged_folder(folder, info, case.daemon)


def _judged_missing(folder: Path) -> Finding:
    parent = next(each for each in folder.parents if os.path.lexists(each))
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return fine(f"{folder} will be made at the first start")
    return broken(
        f"{folder} is missing, and can not be made in {parent}", "choose another by --datadir, or make it"
    )


def _judged_folder(folder: Path, info: os.stat_result, daemon: int | None) -> Findings:
    found = []
    if info.st_uid != os.geteuid():
        found.append(worth_a_look(f"{folder} belongs to another user", f"sudo chown -R $USER {folder}"))
    if stat.S_IMODE(info.st_mode) & 0o077:
        found.append(worth_a_look(f"{folder} is open to other users", f"chmod 700 {folder}"))
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        found.append(
            broken(f"{free >> 10} KiB are left on its disk", "make room, or move it and say so by --datadir")
        )
    running = "no daemon runs there" if daemon is None else f"held by a running daemon{_number(daemon)}"
    return found or [fine(f"{folder}, {running}")]


def _number(daemon: int) -> str:
    return f" (process {daemon})" if daemon else ""


async def check_keys(case: Case) -> Findings:
    """The node key and the onion service's, there and valid; missing ones are made by the daemon."""
    settings, found = case.settings, []
    node_path = settings.nodekey or settings.datadir / NODE_KEY
    onion_path = settings.onion_key or settings.datadir / ONION_KEY

    def take_node(content: bytes) -> str:
        return f"node {parse_node_key(content, node_path).public_key.hex()[:16]}..."

    def take_onion(content: bytes) -> str:
        case.onion = parse_onion_key(content, onion_path).address
        return case.onion

    found.append(_judged_key(node_path, settings.nodekey is not None, take_node))
    found.append(_judged_key(onion_path, settings.onion_key is not None, take_onion))
    case.onion = settings.onion_address or case.onion
    return found


def _judged_key(path: Path, given: bool, take: Callable[[bytes], str]) -> Finding:
    try:
        content = read_secret(path, required=given)
        if content is None:
            return fine(f"{path} will be made at the first start")
        name = take(content)
    except LocalError as error:
        return told(error, "move the file away, and start: a new one is made")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return worth_a_look(f"{path} is open to other users", f"chmod 600 {path}")
    return fine(f"{name} in {path}")


async def check_ports(case: Case) -> Findings:
    """The daemon's own listeners: free, or held by our own daemon that runs."""
    settings = case.settings
    listeners: list[tuple[str, Address]] = []
    if not settings.mode.hides_ip:
        listeners.append(("--port", TcpAddress(settings.listen_address, settings.port)))
    if settings.wants_onion_service:
        listeners.append(("--onion-listen", settings.onion_listener))
    listeners.append(("--metrics.port", settings.metrics_address))
    if settings.http:
        listeners.append(("--http.port", settings.http_address))
    found = [_judged_port(case, flag, address) for flag, address in listeners if not _any_port(address)]
    return [*found, await _judged_socket(case, _ipc(settings))]


def _any_port(address: Address) -> bool:
    """Whether the system chooses a port that is free; a unix socket is made anew."""
    return isinstance(address, UnixAddress) or address.port == 0


def _judged_port(case: Case, flag: str, address: Address) -> Finding:
    assert isinstance(address, TcpAddress)
    try:
        case.sockets.listen_tcp(address.host, address.port, wildcard_ok=True).close()
    except LocalError as error:
        if case.daemon is not None and "in use" in str(error):
            return fine(f"{flag} {address} is held by the running daemon")
        failure = told(error)
        return broken(f"{flag}: {failure.detail}", failure.remedy)
    if case.daemon is not None:
        return worth_a_look(
            f"{flag} {address} is free, though the daemon runs",
            "it has other settings: restart it, or use its",
        )
    return fine(f"{flag} {address} is free")


async def _judged_socket(case: Case, address: UnixAddress) -> Finding:
    path = Path(address.path)
    there = _judged_file(path, case.daemon)
    if there is not None:
        return there
    if case.daemon is not None:
        return fine(f"--ipcpath answers: {await call(address.path, 'web3_clientVersion', timeout=3)}")
    try:
        (await case.sockets.open(address)).close()
    except ConnectFailed:
        return fine(f"--ipcpath {path} is left from before and will be replaced")
    return broken(f"another process listens at {path}", "stop it, or give another path by --ipcpath")


def _judged_file(path: Path, daemon: int | None) -> Finding | None:
    """Judge what lies in the socket's place; None for a socket."""
    if not os.path.lexists(path):
        if daemon is None:
            return fine(f"--ipcpath {path} is free")
        return worth_a_look(f"{path} is missing, though the daemon runs", "restart it, or give its --ipcpath")
    if not path.is_socket():
        return broken(f"{path} is no socket", "move it away, or give another path by --ipcpath")
    return None
