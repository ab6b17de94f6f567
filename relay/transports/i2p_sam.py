"""Lines of SAM, the bridge to an I2P router, without I/O: requests as bytes, replies from lines.

Version 3.1 is all that is asked for: what came later are ports, datagrams and several sessions on one
connection. Every line of a bridge is bounded and checked: whoever listens on that port may be no bridge.
Spec: geti2p.net, "SAM V3". Why it is our own: docs/adr/0010-i2p-by-sam.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relay.primitives.errors import DecodeError, Retry, SamFailed
from relay.primitives.i2p import I2PAddress, I2PKey, i2p_from_destination

__all__ = [
    "MAX_LINE",
    "REMEDY",
    "RESULTS",
    "VERSION",
    "Hops",
    "Reply",
    "accepted_from",
    "check_created",
    "check_hello",
    "check_status",
    "generated_key",
    "hello",
    "looked_up",
    "lookup",
    "new_key",
    "parse_reply",
    "session_create",
    "stream_accept",
    "stream_connect",
]

VERSION: Final = "3.1"
SIGNATURE_TYPE: Final = 7  # EdDSA_SHA512_Ed25519; the default of SAM is the DSA of 1998
MAX_LINE: Final = 1 << 13  # bytes with the newline; a private key takes some 900, routers read no more either
MAX_WORDS: Final = 32  # in a line
MAX_MESSAGE: Final = 100  # characters of the bridge's own words that are repeated
REMEDY: Final = "give the SAM bridge of an I2P router as --i2p-sam (i2pd: [sam] enabled = true)"

_WORD: Final = re.compile(
    r'(?P<key>[^ ="]+)(?:=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^ "]*)))?(?: +|$)'
)
_ESCAPE: Final = re.compile(r"\\(.)")
_ID: Final = re.compile(r"[0-9a-z]{1,64}")


@dataclass(frozen=True, slots=True)
class Result:
    """What a RESULT means: the words, and when another try is worth it."""

    words: str
    retry: Retry


RESULTS: Final[dict[str, Result]] = {
    "CANT_REACH_PEER": Result("the peer is not reached", Retry.SHORT),
    "PEER_NOT_FOUND": Result("the peer's destination is not found in the network", Retry.LONG),
    "KEY_NOT_FOUND": Result("the address is not found in the network", Retry.LONG),
    "LEASESET_NOT_FOUND": Result("the peer publishes no way to it", Retry.LONG),
    "TIMEOUT": Result("the peer did not answer in time", Retry.SHORT),
    "INVALID_KEY": Result("the destination or the key is not valid, or not found", Retry.LONG),
    "INVALID_ID": Result("the router has no such session any more", Retry.SHORT),
    "DUPLICATED_ID": Result("another session has this name", Retry.SHORT),
    "DUPLICATED_DEST": Result(
        "another session uses our destination: is a second relay running with this key?", Retry.SHORT
    ),
    "ALREADY_ACCEPTING": Result("it takes one accept at a time", Retry.SHORT),
    "NOVERSION": Result("it does not speak version 3.1: the router is too old", Retry.LONG),
    "I2P_ERROR": Result("it failed, for a reason of the router's own", Retry.SHORT),
}
_UNKNOWN: Final = Result("it failed with a result that no specification has", Retry.SHORT)

# How an answer begins tells what listens there instead.
_STRANGERS: Final = (
    (b"HTTP/", "answers in HTTP, so it is a web server, a proxy or the router's console"),
    (b"\x05", "answers in SOCKS5"),
    (b"\x00", "answers in SOCKS4"),
    (b"5", "answers like a control port of Tor"),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A line of the bridge: two words, then pairs.

    Attributes:
        topic: such as "STREAM STATUS".
        values: by key; a key without a value has an empty one.
    """

    topic: str
    values: Mapping[str, str]

    @property
    def result(self) -> str:
        """The RESULT; empty when there is none."""
        return self.values.get("RESULT", "")


@dataclass(frozen=True, slots=True)
class Hops:
    """Routers in each tunnel of ours, 0 to 7; fewer are faster, and 0 shows where the router is."""

    count: int

    def __post_init__(self) -> None:
        assert 0 <= self.count <= 7

    @property
    def options(self) -> str:
        """I2CP's options."""
        return f"inbound.length={self.count} outbound.length={self.count}"


# -- requests ------------------------------------------------------------------------------------------


def hello() -> bytes:
    """Ask for the version; the first line of every connection."""
    return _line(f"HELLO VERSION MIN={VERSION} MAX={VERSION}")


def new_key() -> bytes:
    """Ask for a destination of our own."""
    return _line(f"DEST GENERATE SIGNATURE_TYPE={SIGNATURE_TYPE}")


def session_create(name: str, key: I2PKey, hops: Hops) -> bytes:
    """Ask for a session: tunnels for our destination, as long as this connection is open."""
    # Encrypted for X25519 alone: routers older than 2020 can not come. Named, since defaults differ.
    options = f"{hops.options} inbound.quantity=3 outbound.quantity=3 i2cp.leaseSetEncType=4"
    return _line(
        f"SESSION CREATE STYLE=STREAM ID={_checked_id(name)} DESTINATION={key.to_text()}"
        f" SIGNATURE_TYPE={SIGNATURE_TYPE} {options}"
    )


def lookup(address: I2PAddress) -> bytes:
    """Ask for the destination of an address."""
    return _line(f"NAMING LOOKUP NAME={address}")


def stream_connect(name: str, destination: str) -> bytes:
    """Ask for a stream to a destination; after the reply the connection is that stream."""
    return _line(f"STREAM CONNECT ID={_checked_id(name)} DESTINATION={destination} SILENT=false")


def stream_accept(name: str) -> bytes:
    """Ask for the next stream that comes in; after the reply a line names who it is from."""
    return _line(f"STREAM ACCEPT ID={_checked_id(name)} SILENT=false")


def _line(text: str) -> bytes:
    return text.encode("ascii") + b"\n"


def _checked_id(name: str) -> str:
    assert _ID.fullmatch(name)
    return name


# -- replies -------------------------------------------------------------------------------------------


def parse_reply(line: bytes) -> Reply:
    """Read a line, its newline taken away.

    Raises:
        SamFailed: it is no reply of SAM; says what listens there, where that can be told.
    """
    for beginning, what in _STRANGERS:
        if line.startswith(beginning):
            raise SamFailed(f"the SAM bridge {what}: {REMEDY}")
    try:
        text = line.decode("utf-8")
        words = _words(text.rstrip("\r "))
    except (UnicodeDecodeError, DecodeError):
        raise SamFailed(f"the SAM bridge sends garbage in place of a reply: {REMEDY}") from None
    topic = " ".join(key for key, value in words[:2] if value is None)
    values: dict[str, str] = {}
    for key, value in words[2:]:
        if key in values:
            raise SamFailed(f"the SAM bridge says {_shown(key)} twice in one reply: {REMEDY}")
        values[key] = value or ""
    return Reply(topic, values)


def check_hello(reply: Reply) -> None:
    """Take the reply to `hello`.

    Raises:
        SamFailed: the bridge refused, or chose another version than was offered.
    """
    _expect(reply, "HELLO REPLY", "to our greeting")
    version = reply.values.get("VERSION", "")
    if version != VERSION:
        raise SamFailed(
            f"the SAM bridge chose version {_shown(version)}, and {VERSION} was offered: {REMEDY}"
        )


def generated_key(reply: Reply) -> I2PKey:
    """Take the reply to `new_key`.

    Raises:
        SamFailed: the bridge refused; or keys that are none, or not of the destination it names.
    """
    if reply.topic != "DEST REPLY" or "RESULT" in reply.values:
        _expect(reply, "DEST REPLY", "to the wish for a destination")
    try:
        key = I2PKey.from_text(reply.values.get("PRIV", ""))
        public = i2p_from_destination(reply.values.get("PUB", ""))
    except DecodeError as error:
        raise SamFailed(f"the SAM bridge made a key that is none: {error}") from None
    if key.address != public:
        raise SamFailed("the SAM bridge made a key that is not of the destination beside it")
    return key


def check_created(reply: Reply, key: I2PKey) -> None:
    """Take the reply to `session_create`.

    Raises:
        SamFailed: the bridge refused, or runs another destination than ours.
    """
    _expect(reply, "SESSION STATUS", "to the wish for a session")
    try:
        made = I2PKey.from_text(reply.values.get("DESTINATION", ""))
    except DecodeError as error:
        raise SamFailed(f"the SAM bridge made a session of what is no key: {error}") from None
    if made.address != key.address:
        raise SamFailed("the SAM bridge made a session of another destination than ours")


def looked_up(reply: Reply, address: I2PAddress) -> str:
    """Take the reply to `lookup`; returns the destination in base64.

    Raises:
        SamFailed: the bridge refused; or it names a destination that does not have this address.
    """
    _expect(reply, "NAMING REPLY", "to the look-up of an address")
    destination = reply.values.get("VALUE", "")
    try:
        found = i2p_from_destination(destination)
    except DecodeError as error:
        raise SamFailed(f"the SAM bridge looked up what is no destination: {error}") from None
    if found != address:
        raise SamFailed("the SAM bridge gave the destination of another address than was asked for")
    return destination


def check_status(reply: Reply) -> None:
    """Take the reply to `stream_connect` or `stream_accept`.

    Raises:
        SamFailed: the bridge refused.
    """
    _expect(reply, "STREAM STATUS", "to the wish for a stream")


def accepted_from(line: bytes) -> I2PAddress:
    """Take the line that comes before the bytes of a stream that has come in: whom it is from.

    Raises:
        SamFailed: it names no destination; a late "STREAM STATUS" is the bridge's refusal.
    """
    if line.startswith(b"STREAM "):
        check_status(reply := parse_reply(line))
        raise SamFailed(f"the SAM bridge repeats {reply.topic} in place of a peer's destination")
    # Later versions put ports behind it.
    destination = line.partition(b" ")[0].rstrip(b"\r")
    try:
        return i2p_from_destination(destination.decode("ascii"))
    except UnicodeDecodeError:
        raise SamFailed("the SAM bridge names a peer in other characters than base64 has") from None
    except DecodeError as error:
        raise SamFailed(f"the SAM bridge names a peer whose destination is none: {error}") from None


def _expect(reply: Reply, topic: str, what: str) -> None:
    if reply.topic != topic:
        raise SamFailed(f"the SAM bridge answers {_shown(reply.topic)} {what}, not {topic}: {REMEDY}")
    if not reply.result:
        raise SamFailed(f"the SAM bridge answers {what} without a RESULT: {REMEDY}")
    if reply.result == "OK":
        return
    known = RESULTS.get(reply.result, _UNKNOWN)
    message = reply.values.get("MESSAGE", "")
    said = f", {_shown(message)}" if message else ""
    raise SamFailed(
        f"the SAM bridge says: {known.words} ({_printable(reply.result)[:32]}{said})",
        result=reply.result if reply.result in RESULTS else "",
        retry=known.retry,
    )


def _words(text: str) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    position = 0
    while position < len(text):
        match = _WORD.match(text, position)
        if match is None or len(found) >= MAX_WORDS:
            raise DecodeError("not words and pairs of SAM")
        value = match["plain"] if match["quoted"] is None else _ESCAPE.sub(r"\1", match["quoted"])
        found.append((match["key"], value))
        position = match.end()
    if len(found) < 2:
        raise DecodeError("fewer than two words")
    return found


def _shown(text: str) -> str:
    return repr(_printable(text)[:MAX_MESSAGE])


def _printable(text: str) -> str:
    return "".join(each if each.isascii() and each.isprintable() else "?" for each in text)
