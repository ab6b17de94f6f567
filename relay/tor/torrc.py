"""Texts of torrc for the Tor that we start ourselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relay.primitives.address import Address, UnixAddress
from relay.primitives.errors import UsageError


def torrc_text(lines: Sequence[str]) -> str:
    """Lines to a file's text.

    Raises:
        UsageError: a line holds a line break and so would be two.
    """
    for line in lines:
        if "\n" in line or "\r" in line or "\0" in line:
            raise UsageError(f"a torrc line holds a line break: {line!r}")
    return "\n".join(lines) + "\n"


def quoted_path(path: Path | str) -> str:
    """A path as torrc reads it, with blanks and quotes in it."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def socks_line(address: Address) -> str:
    """A SOCKS listener that isolates by credentials and explains why an onion failed.

    IsolateSOCKSAuth gives every peer connection its own circuit; ExtendedErrors tells a wrong address
    from one that is only not reachable now.
    """
    return f"SocksPort {_quoted(address)} IsolateSOCKSAuth ExtendedErrors"


def control_line(address: Address) -> str:
    """A control listener."""
    return f"ControlPort {_quoted(address)}"


def _quoted(address: Address) -> str:
    return f"unix:{quoted_path(address.path)}" if isinstance(address, UnixAddress) else str(address)


def client_torrc(
    directory: Path, socks: Address, control: Address, owner_pid: int, extra: Sequence[str] = ()
) -> list[str]:
    """A Tor that only we use: client only, cookie authentication, ends with the process `owner_pid`."""
    return [
        f"DataDirectory {quoted_path(directory / 'data')}",
        socks_line(socks),
        control_line(control),
        "CookieAuthentication 1",
        f"CookieAuthFile {quoted_path(cookie_path(directory))}",
        "ClientOnly 1",
        "AvoidDiskWrites 1",
        "Log notice stdout",
        f"__OwningControllerProcess {owner_pid}",
        *extra,
    ]


def cookie_path(directory: Path) -> Path:
    """Where the Tor of `client_torrc` writes its cookie."""
    return directory / "control_auth_cookie"
