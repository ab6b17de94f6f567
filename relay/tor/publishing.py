"""Two ways to have Tor serve an onion service: ADD_ONION, and HiddenServiceDir of a Tor of our own.

ADD_ONION works on anybody's Tor and leaves nothing there. But a number of introduction points and the
export of circuit ids exist for HiddenServiceDir only (tor 0.4.9.11 answers ADD_ONION with 512). Those lines
go to our own Tor by SETCONF and not into the file torrc: then the service begins when its listener is there,
is withdrawn before we say goodbye, and each upload of its descriptor is seen, as with ADD_ONION.
SETCONF replaces all onion services of torrc, which is why it is for a Tor of our own only.

Spec: control-spec, "ADD_ONION", "SETCONF"; tor(1), "HIDDEN SERVICE OPTIONS".
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from relay.primitives.address import parse_address
from relay.primitives.errors import StorageError, TorControlError, UsageError
from relay.primitives.onion import OnionKey
from relay.tor.client_auth import AuthorizedClient
from relay.tor.control import CommandRefused, TorControl
from relay.tor.control_protocol import quote, unquote

MAX_STREAMS: Final = 16  # a rendezvous circuit; an honest peer needs one for RLPx and few for discovery
DEFAULT_INTRODUCTION_POINTS: Final = 3  # tor's own
MAX_INTRODUCTION_POINTS: Final = 20  # tor(1)
_BAD_ARGUMENT: Final = 512
_UNSUPPORTED: Final = frozenset({512, 513, 552})  # of SETCONF: malformed, unacceptable, unknown key
_NO_POW: Final = "tor has no proof of work defence for onion services"

log = structlog.get_logger("relay.tor")


@dataclass(frozen=True, slots=True)
class ServiceFolder:
    """What only a service in the configuration of our own Tor can have."""

    path: Path
    """HiddenServiceDir; made with mode 0700, and holds the service's key while it is published."""
    introduction_points: int = DEFAULT_INTRODUCTION_POINTS
    circuit_ids: bool = True
    """Whether Tor writes a PROXY line with the circuit's id before each connection's first byte."""

    def __post_init__(self) -> None:
        if not 0 < self.introduction_points <= MAX_INTRODUCTION_POINTS:
            raise UsageError(f"{self.introduction_points} introduction points: tor has 1 to 20")


@dataclass(frozen=True, slots=True)
class Published:
    """What is to be published, the same for both ways."""

    key: OnionKey
    virtual_port: int
    target: str
    pow_defenses: bool
    max_streams: int
    clients: tuple[AuthorizedClient, ...]

    @property
    def service_id(self) -> str:
        """The address without .onion."""
        return str(self.key.address).removesuffix(".onion")


class Publisher(Protocol):
    """One way to publish."""

    async def add(self, control: TorControl) -> None:
        """Have Tor serve it, anew if it does already.

        Raises:
            TorControlError: refused, or another address came of it.
        """

    async def is_held(self, control: TorControl) -> bool:
        """Ask whether Tor still has it."""

    async def remove(self, control: TorControl) -> None:
        """Have Tor serve it no longer."""


def publisher_of(service: Published, folder: ServiceFolder | None) -> Publisher:
    """The way by ADD_ONION, or by a folder of our own Tor."""
    return ByCommand(service) if folder is None else ByFolder(service, folder)


class ByCommand:
    """ADD_ONION without Detach: Tor drops the service with the control connection."""

    def __init__(self, service: Published) -> None:
        self._service = service

    async def add(self, control: TorControl) -> None:
        """See `Publisher`; a Tor without proof of work is asked again without it."""
        service = self._service
        if service.pow_defenses:
            try:
                await self._add(control, pow_defenses=True)
            except CommandRefused as refusal:
                if refusal.code != _BAD_ARGUMENT:
                    raise
                log.warning(_NO_POW, version=control.info.tor_version)
            else:
                return
        await self._add(control, pow_defenses=False)

    async def _add(self, control: TorControl, *, pow_defenses: bool) -> None:
        reply = await control.command("ADD_ONION", *add_onion_arguments(self._service, pow_defenses))
        if reply.keyword_lines().get("ServiceID", "") != self._service.service_id:
            raise TorControlError("tor published another onion address than our key's")

    async def is_held(self, control: TorControl) -> bool:
        """See `Publisher`."""
        try:
            held = (await control.get_info("onions/current")).split()
        except CommandRefused:  # older Tor answers 551 when there is none
            return False
        return self._service.service_id in held

    async def remove(self, control: TorControl) -> None:
        """See `Publisher`."""
        await control.command("DEL_ONION", self._service.service_id)


class ByFolder:
    """HiddenServiceDir by SETCONF, at a Tor that only we use."""

    def __init__(self, service: Published, folder: ServiceFolder) -> None:
        self._service, self._folder = service, folder

    async def add(self, control: TorControl) -> None:
        """See `Publisher`; a folder that can't be written is tried again, as everything of Tor."""
        try:
            await asyncio.to_thread(write_service_folder, self._folder.path, self._service)
        except StorageError as error:
            raise TorControlError(str(error)) from error
        # a service that is there already would not upload its descriptor again
        await control.command("RESETCONF", "HiddenServiceDir")
        lines = folder_settings(self._service, self._folder)
        pow_line = ["HiddenServicePoWDefensesEnabled=1"] if self._service.pow_defenses else []
        try:
            await control.command("SETCONF", *lines, *pow_line)
        except CommandRefused as refusal:
            if not pow_line or refusal.code not in _UNSUPPORTED:
                raise
            log.warning(_NO_POW, version=control.info.tor_version)
            await control.command("SETCONF", *lines)

    async def is_held(self, control: TorControl) -> bool:
        """See `Publisher`; what Tor's SIGHUP or somebody else took away is found so."""
        found = (await control.command("GETCONF", "HiddenServiceDir")).keyword_lines()
        return unquote(found.get("HiddenServiceDir", "")) == _bytes_as_text(self._folder.path)

    async def remove(self, control: TorControl) -> None:
        """See `Publisher`; the copy of the key goes, too."""
        try:
            await control.command("RESETCONF", "HiddenServiceDir")
        finally:
            with suppress(OSError):
                (self._folder.path / KEY_FILE).unlink(missing_ok=True)


KEY_FILE: Final = "hs_ed25519_secret_key"
_CLIENTS: Final = "authorized_clients"


def add_onion_arguments(service: Published, pow_defenses: bool) -> list[str]:
    """What follows ADD_ONION."""
    flags = ["MaxStreamsCloseCircuit"] if service.max_streams else []
    flags += ["V3Auth"] if service.clients else []
    arguments = [service.key.add_onion_blob()]
    if flags:
        arguments.append("Flags=" + ",".join(flags))
    if service.max_streams:
        arguments.append(f"MaxStreams={service.max_streams}")
    if pow_defenses:
        arguments.append("PoWDefensesEnabled=1")
    # parsed again, because "localhost" is a name to Tor
    arguments.append(f"Port={service.virtual_port},{parse_address(service.target)}")
    return arguments + [f"ClientAuthV3={client.base32}" for client in service.clients]


def folder_settings(service: Published, folder: ServiceFolder) -> list[str]:
    """What follows SETCONF, without proof of work."""
    port = f"{service.virtual_port} {parse_address(service.target)}"
    lines = [
        "HiddenServiceDir=" + quote(str(folder.path)),
        "HiddenServicePort=" + quote(port),
        f"HiddenServiceNumIntroductionPoints={folder.introduction_points}",
    ]
    if service.max_streams:
        lines += [f"HiddenServiceMaxStreams={service.max_streams}", "HiddenServiceMaxStreamsCloseCircuit=1"]
    if folder.circuit_ids:
        lines.append("HiddenServiceExportCircuitID=haproxy")
    return lines


def write_service_folder(path: Path, service: Published) -> None:
    """Make the folder as Tor wants it: the key, and a file for each client, none of earlier ones.

    Raises:
        StorageError: it can't be written.
    """
    clients = path / _CLIENTS
    try:
        for each in (path, clients):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            each.chmod(0o700)
        # what Tor made of another key of ours would not fit
        for stale in (*clients.glob("*.auth"), path / "hs_ed25519_public_key", path / "hostname"):
            stale.unlink(missing_ok=True)
        _write_secret(path / KEY_FILE, service.key.to_tor_file())
        for number, line in enumerate(_auth_lines(service.clients), 1):
            _write_secret(clients / f"client{number}.auth", line.encode())
    except OSError as error:
        raise StorageError(f"tor's folder {path} cannot be written: {error}") from None


def _auth_lines(clients: Sequence[AuthorizedClient]) -> list[str]:
    return [client.auth_line + "\n" for client in clients]


def _write_secret(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)


def _bytes_as_text(path: Path) -> str:
    """A path as the control protocol's parser gives it: each byte a character."""
    return str(path).encode("utf-8", "surrogateescape").decode("latin-1")
