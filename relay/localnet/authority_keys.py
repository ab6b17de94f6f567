"""Keys of the private network's directory authorities and relays, made here in a tenth of a second.

tor-gencert takes two to five seconds for each and isn't packaged everywhere. These keys guard nothing: the
network listens on loopback only and ends with its directory, so 2048 bits do for the long-term key.
Spec: dir-spec, "Creating key certificates".
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

RELAY_KEY_BITS: Final = 1024  # tor-spec: the legacy identity key
AUTHORITY_KEY_BITS: Final = 2048
LIFETIME: Final = 365 * 86_400  # seconds
BACKDATED: Final = 3_600  # seconds; a clock that is set back a little must not void the certificate


@dataclass(frozen=True, slots=True)
class AuthorityIdentity:
    """What every node must know of an authority before it starts."""

    fingerprint: str
    """Of the relay identity key, hex."""
    v3ident: str
    """Of the authority identity key, hex."""


def write_authority_keys(data_directory: Path, address: str) -> AuthorityIdentity:
    """Make an authority's keys and certificate below its DataDirectory.

    Args:
        data_directory: made when missing, mode 0700.
        address: "IP:PORT" of its directory port, named in the certificate.
    """
    relay_fingerprint = write_relay_key(data_directory)
    keys = data_directory / "keys"
    identity, signing = _new_key(AUTHORITY_KEY_BITS), _new_key(AUTHORITY_KEY_BITS)
    _write_secret(keys / "authority_signing_key", _private_pem(signing))
    _write_secret(keys / "authority_certificate", key_certificate(identity, signing, address, time.time()))
    return AuthorityIdentity(relay_fingerprint, fingerprint(identity))


def write_relay_key(data_directory: Path) -> str:
    """Make a relay's identity key below its DataDirectory and return its fingerprint.

    Args:
        data_directory: made when missing, mode 0700. Tor makes the relay's other keys itself.
    """
    keys = data_directory / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    data_directory.chmod(0o700)
    identity = _new_key(RELAY_KEY_BITS)
    _write_secret(keys / "secret_id_key", _private_pem(identity))
    return fingerprint(identity)


def key_certificate(
    identity: rsa.RSAPrivateKey, signing: rsa.RSAPrivateKey, address: str, now_unix: float
) -> bytes:
    """The document by which the long-term key vouches for the signing key."""
    head = (
        "dir-key-certificate-version 3\n"
        f"dir-address {address}\n"
        f"fingerprint {fingerprint(identity)}\n"
        f"dir-key-published {_utc(now_unix - BACKDATED)}\n"
        f"dir-key-expires {_utc(now_unix + LIFETIME)}\n"
        "dir-identity-key\n"
        f"{_public_pem(identity)}"
        "dir-signing-key\n"
        f"{_public_pem(signing)}"
        "dir-key-crosscert\n"
        f"{_armored('ID SIGNATURE', _sign(signing, hashlib.sha1(_public_der(identity)).digest()))}"  # noqa: S324
        "dir-key-certification\n"
    )
    signature = _sign(identity, hashlib.sha1(head.encode()).digest())  # noqa: S324 - the format's hash
    return (head + _armored("SIGNATURE", signature)).encode()


def fingerprint(key: rsa.RSAPrivateKey) -> str:
    """Upper-case hex of the public key's hash, as Tor names a key."""
    return hashlib.sha1(_public_der(key)).hexdigest().upper()  # noqa: S324 - the format's hash


def _new_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, bits)


def _sign(key: rsa.RSAPrivateKey, digest: bytes) -> bytes:
    """PKCS #1 v1.5 of the bare digest: Tor leaves out the name of the hash that the library would put in."""
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    size = (modulus.bit_length() + 7) // 8
    padded = b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest
    return pow(int.from_bytes(padded, "big"), numbers.d, modulus).to_bytes(size, "big")


def _public_der(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)


def _public_pem(key: rsa.RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
        .decode("ascii")
    )


def _private_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _armored(kind: str, data: bytes) -> str:
    text = base64.b64encode(data).decode("ascii")
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"


def _utc(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix))


def _write_secret(path: Path, content: bytes) -> None:
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
