"""What DevP2PConnection reports. All are values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from relay.primitives.keys import PublicKey
from relay.protocols.devp2p.capabilities import SharedCapability
from relay.protocols.devp2p.messages import Hello

__all__ = ["Connected", "Disconnected", "Event", "Message", "PongReceived", "RemoteIdentified"]


@dataclass(frozen=True, slots=True)
class RemoteIdentified:
    """The RLPx handshake is done: the other side proved to hold this key. Hello has not been sent yet."""

    public_key: PublicKey


@dataclass(frozen=True, slots=True)
class Connected:
    """Hello came and something is shared: messages may be sent."""

    hello: Hello
    shared: tuple[SharedCapability, ...]


class Message(NamedTuple):
    """A message of a shared capability. A named tuple, since one is made per frame: half the cost.

    Attributes:
        capability: whose message it is.
        code: relative to the capability.
        payload: decompressed; not looked into.
    """

    capability: SharedCapability
    code: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The other side answered a ping."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The other side ends the connection; nothing after this is looked at.

    Attributes:
        reason: a DisconnectReason, or a number that the specification does not name.
    """

    reason: int


Event: TypeAlias = RemoteIdentified | Connected | Message | PongReceived | Disconnected
