"""Who is to blame, in the type.

RelayError
├ DecodeError             bytes or text that are not what they claim to be; blames nobody
├ PeerError               the other side's fault: ends that peer and nothing else
│   ├ ProtocolBreach      it broke a rule of a protocol
│   ├ HandshakeFailed     RLPx handshake: garbage, wrong MAC, truncated
│   ├ UselessPeer         nothing in common: no capability, another network, another fork
│   ├ TooManyPeers        one side has no room
│   ├ AlreadyConnected    a second connection with the same key
│   ├ IncompatibleVersion the base protocol is too old
│   ├ UnexpectedIdentity  another key than the one that was dialed
│   ├ SelfConnect         it is ourselves
│   ├ PeerTimeout         silent beyond a deadline
│   └ SubprotocolError    an error inside eth
├ TransportError          the way to the peer failed; says when another try is worth it
│   ├ DialRefused         our own policy forbids the dial
│   ├ ConnectFailed       refused, reset, unreachable
│   ├ ConnectTimeout      no answer in time
│   ├ ProxyFailed         the SOCKS proxy said no, with its reply code
│   └ SamFailed           the SAM bridge of I2P said no, with its result
└ LocalError              our own side: configuration, files, Tor; ends the program with its exit code
    ├ UsageError          argv or configuration (exit code 2)
    ├ KeyFileError        a key file is unreadable, malformed or not ours
    ├ TorControlError     the control port refuses or misbehaves
    └ StorageError        the data folder: not writable, locked, full
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

__all__ = [
    "AlreadyConnected",
    "ConnectFailed",
    "ConnectTimeout",
    "DecodeError",
    "DialRefused",
    "HandshakeFailed",
    "IncompatibleVersion",
    "KeyFileError",
    "LocalError",
    "PeerError",
    "PeerTimeout",
    "ProtocolBreach",
    "ProxyFailed",
    "RelayError",
    "Retry",
    "SamFailed",
    "SelfConnect",
    "StorageError",
    "SubprotocolError",
    "TooManyPeers",
    "TorControlError",
    "TransportError",
    "UnexpectedIdentity",
    "UsageError",
    "UselessPeer",
]


class RelayError(Exception):
    """Root of every error this program raises on purpose."""


class DecodeError(RelayError, ValueError):
    """Bytes or text are not what they claim to be. Says what was found and what was expected."""


class PeerError(RelayError):
    """The other side broke something; ends that peer only.

    Attributes:
        reason: the devp2p Disconnect reason to send. Spec: rlpx.md, Disconnect (0x01).
    """

    default_reason: ClassVar[int] = 0x10

    def __init__(self, message: str = "", *, reason: int | None = None) -> None:
        super().__init__(message or type(self).__name__)
        self.reason: int = self.default_reason if reason is None else reason


class ProtocolBreach(PeerError):
    """A message that the protocol forbids, or bytes that do not decode."""

    default_reason = 0x02


class HandshakeFailed(PeerError):
    """The RLPx handshake holds garbage, a wrong MAC or too few bytes."""

    default_reason = 0x02


class UselessPeer(PeerError):
    """Nothing in common with this peer."""

    default_reason = 0x03


class TooManyPeers(PeerError):
    """No room for another peer."""

    default_reason = 0x04


class AlreadyConnected(PeerError):
    """A connection with this key exists."""

    default_reason = 0x05


class IncompatibleVersion(PeerError):
    """The peer's base protocol version cannot be spoken."""

    default_reason = 0x06


class UnexpectedIdentity(PeerError):
    """Another key answered than the one that was dialed."""

    default_reason = 0x09


class SelfConnect(PeerError):
    """The other end is this node itself."""

    default_reason = 0x0A


class PeerTimeout(PeerError):
    """The peer was silent beyond a deadline."""

    default_reason = 0x0B


class SubprotocolError(PeerError):
    """An error inside a capability, such as eth."""

    default_reason = 0x10


class Retry(Enum):
    """When another try of a failed way is worth it."""

    SHORT = "short"
    LONG = "long"
    NEVER = "never"


class TransportError(RelayError):
    """The way to the peer failed; the peer itself is not to blame.

    Attributes:
        retry: when another try is worth it; NEVER holds for this address, not for the peer.
    """

    default_retry: ClassVar[Retry] = Retry.SHORT

    def __init__(self, message: str = "", *, retry: Retry | None = None) -> None:
        super().__init__(message or type(self).__name__)
        self.retry: Retry = self.default_retry if retry is None else retry


class DialRefused(TransportError):
    """Our own policy forbids this dial."""

    default_retry = Retry.NEVER


class ConnectFailed(TransportError):
    """The connection was refused, reset, or has no route."""


class ConnectTimeout(TransportError):
    """No answer within the deadline."""


class ProxyFailed(TransportError):
    """The SOCKS proxy refused.

    Attributes:
        code: the reply code of RFC 1928 or Tor's extended errors (0xf0 to 0xf7); 0 when none was read.
    """

    def __init__(self, message: str = "", *, code: int = 0, retry: Retry | None = None) -> None:
        super().__init__(message, retry=retry)
        self.code: int = code


class SamFailed(TransportError):
    """The SAM bridge of I2P refused, or is none.

    Attributes:
        result: its word for it, such as CANT_REACH_PEER; empty when it said none that it should.
    """

    def __init__(self, message: str = "", *, result: str = "", retry: Retry | None = None) -> None:
        super().__init__(message, retry=retry)
        self.result: str = result


class LocalError(RelayError):
    """Our own side cannot go on: configuration, files, rights, Tor."""

    exit_code: ClassVar[int] = 1


class UsageError(LocalError):
    """A flag, variable or setting is wrong."""

    exit_code = 2


class KeyFileError(LocalError):
    """A key file cannot be read or does not hold a key."""


class TorControlError(LocalError):
    """Tor's control port refuses or misbehaves."""


class StorageError(LocalError):
    """The data folder cannot be used."""
