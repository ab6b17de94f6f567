"""Who may find an onion service, and our keys to those that are not for everybody.

A service with authorized clients encrypts the inner layer of its descriptor to their x25519 keys: who has
none learns no introduction point of it, even who knows its address. Spec: rend-spec-v3, section 2.5.1.2;
control-spec, "ADD_ONION", "ONION_CLIENT_AUTH_ADD"; tor(1), "CLIENT AUTHORIZATION".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog

from relay.primitives.errors import DecodeError, TorControlError
from relay.primitives.onion import OnionAddress, parse_onion
from relay.tor.control import CommandRefused, TorControl

__all__ = [
    "MAX_CLIENTS", "AccessKeys", "AuthorizedClient", "OnionAccess", "forget_access", "give_access",
    "parse_access", "parse_clients",
]  # fmt: skip

KEY_SIZE: Final = 32  # bytes, of either half
KEY_LENGTH: Final = 52  # base32 characters of it, without padding
MAX_CLIENTS: Final = 300  # a descriptor of 50,000 bytes has room for some 330 (rend-spec-v3)
_TYPE: Final = "descriptor:x25519:"
_REPLACED: Final = 251
_T = TypeVar("_T")

_log = structlog.get_logger("relay.tor")


@dataclass(frozen=True, slots=True)
class AuthorizedClient:
    """A client of ours, by its public key."""

    public_key: bytes

    @classmethod
    def parse(cls, text: str) -> AuthorizedClient:
        """Read base32, or the ``descriptor:x25519:<base32>`` of tor's .auth files.

        Raises:
            DecodeError: anything else, or a key of low order: what is encrypted to it anybody can read.
        """
        key = _decode(text.removeprefix(_TYPE), "public")
        if not _is_safe(key):
            raise DecodeError("this x25519 key is of low order: it would let everybody in")
        return cls(key)

    @property
    def base32(self) -> str:
        """As ADD_ONION takes it."""
        return _encode(self.public_key)

    @property
    def auth_line(self) -> str:
        """The content of an .auth file of tor, and a line of --onion-auth-clients."""
        return _TYPE + self.base32


@dataclass(frozen=True, slots=True)
class OnionAccess:
    """Our key to a service that is not for everybody."""

    onion: OnionAddress
    private_key: bytes = field(repr=False)

    @classmethod
    def generate(cls, onion: OnionAddress, rand: Callable[[int], bytes]) -> OnionAccess:
        """Make a key from 32 random bytes."""
        return cls(onion, rand(KEY_SIZE))

    @classmethod
    def parse(cls, text: str) -> OnionAccess:
        """Read ``<56 characters>:descriptor:x25519:<base32>``, the content of tor's .auth_private files.

        Raises:
            DecodeError: anything else. Neither address nor key is repeated.
        """
        name, colon, rest = text.partition(":")
        if not colon or not rest.startswith(_TYPE):
            raise DecodeError(f"expected ONION:{_TYPE}KEY, with the address's 56 characters before .onion")
        onion = parse_onion(name if name.lower().endswith(".onion") else name + ".onion")
        return cls(onion, _decode(rest.removeprefix(_TYPE), "private"))

    @property
    def client(self) -> AuthorizedClient:
        """The public half, for the service's --onion-auth-clients."""
        from nacl.bindings import crypto_scalarmult_base  # noqa: PLC0415 - see relay/primitives/onion.py

        return AuthorizedClient(crypto_scalarmult_base(self.private_key))

    @property
    def service_id(self) -> str:
        """The address without .onion, as the control protocol spells it."""
        return str(self.onion).removesuffix(".onion")

    @property
    def auth_private_line(self) -> str:
        """The content of an .auth_private file of tor."""
        return f"{self.service_id}:{_TYPE}{_encode(self.private_key)}"


def parse_clients(text: str) -> tuple[AuthorizedClient, ...]:
    """Read the clients of a service, one a line; blank lines and those that begin with # are left out.

    Raises:
        DecodeError: names the line; also when there is none, or there are more than a descriptor holds.
    """
    found = dict.fromkeys(_parse_lines(text, AuthorizedClient.parse))
    if not found:
        raise DecodeError("no key in it: nobody could find this relay")
    if len(found) > MAX_CLIENTS:
        raise DecodeError(f"{len(found)} keys: a descriptor has room for {MAX_CLIENTS}")
    return tuple(found)


def parse_access(text: str) -> tuple[OnionAccess, ...]:
    """Read keys to services, one a line.

    Raises:
        DecodeError: names the line.
    """
    return tuple(_parse_lines(text, OnionAccess.parse))


async def give_access(control: TorControl, keys: Iterable[OnionAccess]) -> list[OnionAccess]:
    """Tell Tor our keys, in its memory only; returns those that it did not have before.

    Raises:
        TorControlError: the connection is gone, or this Tor takes no keys (before 0.4.3).
    """
    new = []
    for key in keys:
        blob = base64.b64encode(key.private_key).decode()
        try:
            reply = await control.command("ONION_CLIENT_AUTH_ADD", key.service_id, f"x25519:{blob}")
        except CommandRefused as refusal:  # its words are not repeated: they may hold the key
            raise TorControlError(f"tor took no key to a private onion: {refusal.code}") from None
        if reply.code != _REPLACED:
            new.append(key)
    return new


async def forget_access(control: TorControl, keys: Iterable[OnionAccess]) -> None:
    """Take keys away from Tor again: a system's Tor outlives us, and others use it."""
    for key in keys:
        try:
            await control.command("ONION_CLIENT_AUTH_REMOVE", key.service_id)
        except CommandRefused as refusal:
            _log.debug("tor had the key no longer", code=refusal.code)


class AccessKeys:
    """Our keys to private onions at a Tor that others may use: it has them as long as we run.

    Every connection gives them, and a Tor that has one of an earlier connection of ours calls it replaced. So
    who gives them first and who takes them away share this.

    Args:
        keys: of the user.
    """

    def __init__(self, keys: Iterable[OnionAccess] = ()) -> None:
        self._keys = tuple(keys)
        self._given: dict[OnionAddress, OnionAccess] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._keys)

    @property
    def given(self) -> tuple[OnionAccess, ...]:
        """Those that Tor has from us."""
        return tuple(self._given.values())

    async def give(self, control: TorControl) -> None:
        """Tell Tor all of them; raises as `give_access` does."""
        for key in self._keys:
            if await give_access(control, [key]):
                self._given[key.onion] = key

    async def forget(self, control: TorControl) -> None:
        """Take those away that Tor has from us; what it had before stays."""
        await forget_access(control, self.given)
        self._given.clear()


def _parse_lines(text: str, parse: Callable[[str], _T]) -> list[_T]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        try:
            found.append(parse(words))
        except DecodeError as error:
            raise DecodeError(f"line {number}: {error}") from None
    return found


def _decode(text: str, half: str) -> bytes:
    body = text.rstrip("=")
    expected = DecodeError(
        f"not an x25519 {half} key: expected {KEY_LENGTH} base32 characters, or {_TYPE} and these"
    )
    if len(body) != KEY_LENGTH or not body.isascii():  # before lowering: the Kelvin sign becomes a "k"
        raise expected
    try:
        return base64.b32decode(body + "====", casefold=True)
    except binascii.Error:
        raise expected from None


def _encode(key: bytes) -> str:
    return base64.b32encode(key).decode().rstrip("=")


def _is_safe(public_key: bytes) -> bool:
    from nacl.bindings import crypto_scalarmult  # noqa: PLC0415 - see relay/primitives/onion.py
    from nacl.exceptions import RuntimeError as SodiumRefusal  # noqa: PLC0415

    try:
        crypto_scalarmult(b"\x40" * KEY_SIZE, public_key)
    except SodiumRefusal:  # the shared secret would be zero whatever our key is
        return False
    return True
