"""How to authenticate to a control port: what PROTOCOLINFO offers, and SAFECOOKIE's proofs.

Spec: control-spec, "PROTOCOLINFO", "AUTHCHALLENGE". Plain COOKIE is left out on purpose: it would hand
the file's content to whatever listens there.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from typing import Final

from relay.primitives.errors import TorControlError
from relay.tor.control_protocol import Reply, parse_keywords, shown

COOKIE_SIZE: Final = 32  # bytes
NONCE_SIZE: Final = 32  # bytes
_SERVER_KEY: Final = b"Tor safe cookie authentication server-to-controller hash"
_CLIENT_KEY: Final = b"Tor safe cookie authentication controller-to-server hash"


@dataclass(frozen=True, slots=True)
class ProtocolInfo:
    """What a control port says of itself before authentication."""

    methods: frozenset[str]
    cookie_path: str
    tor_version: str

    @classmethod
    def from_reply(cls, reply: Reply) -> ProtocolInfo:
        """Read the answer to ``PROTOCOLINFO 1``.

        Raises:
            TorControlError: there is no AUTH line, so it isn't a control port of Tor.
        """
        lines = {line.text.partition(" ")[0]: parse_keywords(line.text) for line in reply.lines}
        if "AUTH" not in lines:
            raise TorControlError("what listens at the control port names no way to authenticate: not Tor?")
        auth = lines["AUTH"]
        return cls(
            methods=frozenset(auth.get("METHODS", "").split(",")),
            cookie_path=auth.get("COOKIEFILE", ""),
            tor_version=shown(lines.get("VERSION", {}).get("Tor", "")),
        )


def open_door(info: ProtocolInfo, place: object) -> str | None:
    """Tell in words that a control port lets in whoever reaches it; None where it does not.

    Args:
        info: what it said of itself.
        place: its address, as sockets tell it. The rights of a unix socket's file say who gets to it.
    """
    if "NULL" not in info.methods or not isinstance(place, tuple):
        return None
    host, port = place[:2]
    whoever = "every program on this host" if is_loopback(str(host)) else "whoever reaches that address"
    return (
        f"tor's control port {host}:{port} asks for no authentication: {whoever} can watch our circuits,"
        " learn this host's address, and change or stop this Tor; set CookieAuthentication 1 in torrc"
    )


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this host."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def server_proof(cookie: bytes, client_nonce: bytes, server_nonce: bytes) -> bytes:
    """What a Tor that knows the cookie sends."""
    return hmac.digest(_SERVER_KEY, cookie + client_nonce + server_nonce, hashlib.sha256)


def client_proof(cookie: bytes, client_nonce: bytes, server_nonce: bytes) -> bytes:
    """What we send to show that we can read the cookie."""
    return hmac.digest(_CLIENT_KEY, cookie + client_nonce + server_nonce, hashlib.sha256)


def answer_challenge(cookie: bytes, client_nonce: bytes, reply: Reply) -> bytes:
    """Check Tor's proof in its answer to AUTHCHALLENGE and return our own.

    Raises:
        TorControlError: the proof is missing or wrong, so the listener did not write the cookie file.
    """
    fields = parse_keywords(reply.text)
    try:
        proof = bytes.fromhex(fields["SERVERHASH"])
        server_nonce = bytes.fromhex(fields["SERVERNONCE"])
    except (KeyError, ValueError):
        raise TorControlError("control port answered AUTHCHALLENGE without a hash and a nonce") from None
    if not hmac.compare_digest(proof, server_proof(cookie, client_nonce, server_nonce)):
        raise TorControlError(
            "control port sent a wrong server hash: it is not the Tor that wrote the cookie file"
        )
    return client_proof(cookie, client_nonce, server_nonce)
