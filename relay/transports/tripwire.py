"""The tripwire of modes that hide this host: what tries to get past the socket factory ends the daemon.

The factory (`relay.transports.sockets`) is the only maker of sockets by rule and by a test; this notices when
a library, or a mistake, does not keep the rule. It is an audit hook (PEP 578), called before
a socket is made, connected or bound, before a name is looked up and before a program is started.

It is no wall. C code that calls the system itself raises no event, so modules that bring an event loop or a
resolver of their own are not imported; `connect(("a name", 1))` of a bare socket looks the name up before its
event; and `listen()` of a socket that nobody bound has none. The wall is the kernel's (deployment/systemd).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from relay.primitives.address import Address, TcpAddress, UnixAddress
from relay.primitives.errors import LocalError

__all__ = ["OutsideTor", "Tripwire", "TripwireRules"]

BLIND: Final = ("uvloop", "pycares", "aiodns")
"""Modules whose sockets and look-ups raise no audit event."""
_TYPE_MASK: Final = 0xF  # SOCK_TYPE_MASK of Linux: NONBLOCK and CLOEXEC stand above it
_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})
_RESOLVER: Final = (
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.gethostbyaddr",
    "socket.getnameinfo",
)
_PROGRAMS: Final = (
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.spawn",
)

_Args: TypeAlias = tuple[Any, ...]
_Check: TypeAlias = Callable[[_Args], str]
"""Returns what is wrong, or nothing."""


class OutsideTor(RuntimeError):
    """Something was about to reach outside of Tor; it was stopped. A bug, whoever's."""


@dataclass(frozen=True, slots=True)
class TripwireRules:
    """What the process may do.

    Attributes:
        destinations: that may be connected: Tor's ports, and unix sockets of nodes.
        listeners: our own; a unix one may be connected, too, to learn whether it is dead.
        is_program: tells whether a command is one of ours, by its exact words.
    """

    destinations: Collection[Address]
    listeners: Collection[Address]
    is_program: Callable[[tuple[str, ...]], bool] = lambda _: False


class Tripwire:
    """Made by settings, armed once, and then part of the interpreter until it ends.

    Args:
        rules: see there.
        on_breach: told of each breach in the thread that it happened in, before the call raises.

    Attributes:
        breaches: how many there were.
    """

    def __init__(self, rules: TripwireRules, on_breach: Callable[[OutsideTor], None]) -> None:
        self.breaches = 0
        self._on_breach = on_breach
        self._is_program = rules.is_program
        listeners = frozenset(map(_key, rules.listeners))
        own = {key for key in listeners if isinstance(key, str)}
        self._connectable = frozenset(map(_key, rules.destinations)) | own
        self._bindable = listeners
        self._disarm: Callable[[], None] | None = None

    @property
    def armed(self) -> bool:
        """Whether it watches."""
        return self._disarm is not None

    def arm(self) -> None:
        """Watch from now on. The interpreter has no way to take a hook out again.

        Raises:
            LocalError: something is loaded that it could not watch.
        """
        blind = [name for name in BLIND if name in sys.modules]
        if blind:
            raise LocalError(
                f"{', '.join(blind)} makes sockets that nothing can watch, and this mode hides the host:"
                " uninstall that, or start pyrelay from an environment of its own"
            )
        self._disarm = _install(self._checks(), self._trip)

    def disarm(self) -> None:
        """Let everything pass again; for tests, which share one interpreter."""
        if self._disarm is not None:
            self._disarm()
            self._disarm = None

    def _checks(self) -> dict[str, _Check]:
        checks: dict[str, _Check] = {
            "socket.__new__": _made,
            "socket.connect": self._connected,
            "socket.bind": self._bound,
            "socket.sendto": lambda _: "a datagram",
            "socket.sendmsg": lambda args: "" if args[1] is None else "a datagram",
            "subprocess.Popen": self._started,
            "import": _imported,
        }
        checks |= dict.fromkeys(_RESOLVER, lambda _: "a look-up of a name")
        return checks | dict.fromkeys(_PROGRAMS, lambda _: "a program that is not one of ours")

    def _trip(self, event: str, what: str) -> OutsideTor:
        self.breaches += 1
        # Neither address nor name: both may be a peer's, and this is logged.
        error = OutsideTor(f"{what} was stopped before it got outside of Tor ({event})")
        self._on_breach(error)
        return error

    def _connected(self, args: _Args) -> str:
        return "" if _place(args[1]) in self._connectable else "a connection to what is not Tor"

    def _bound(self, args: _Args) -> str:
        return "" if _place(args[1]) in self._bindable else "a listener that no setting asks for"

    def _started(self, args: _Args) -> str:
        words = args[1]
        if isinstance(words, str | bytes | os.PathLike):
            words = [words]
        command = tuple(os.fsdecode(word) for word in words)
        # An executable beside the words would be run in place of the first of them.
        if os.fsdecode(args[0]) == command[0] and self._is_program(command):
            return ""
        return "a program that is not one of ours"


def _install(checks: dict[str, _Check], trip: Callable[[str, str], OutsideTor]) -> Callable[[], None]:
    """Add the hook, which is called at each event of the interpreter: all but a few names cost one look."""
    armed = True
    look_up = checks.get

    def hook(event: str, args: _Args) -> None:
        check = look_up(event)
        if check is not None and armed and (what := check(args)):
            raise trip(event, what)

    def disarm() -> None:
        nonlocal armed
        armed = False

    sys.addaudithook(hook)
    return disarm


def _made(args: _Args) -> str:
    _, family, kind, *_ = args
    if kind & _TYPE_MASK == socket.SOCK_STREAM and family in _FAMILIES and kind >= 0:
        return ""
    return "a socket for datagrams, or of an unknown kind"


def _imported(args: _Args) -> str:
    name = args[0].partition(".")[0]
    if name in BLIND:
        # No breach: libraries try whether these are there, and do without.
        raise ImportError(f"{name} is not used in a mode that hides this host", name=name)
    return ""


def _place(address: object) -> object:
    """Bring the address of a call to the form of `_key`; what has none is equal to nothing there."""
    if isinstance(address, tuple) and len(address) >= 2:
        return address[:2]
    if isinstance(address, bytes):
        return os.fsdecode(address)
    return address if isinstance(address, str) else None


def _key(address: Address) -> tuple[str, int] | str:
    match address:
        case UnixAddress(path):
            return path
        case TcpAddress(host, port):
            return (host, port)
