"""The texts of a tree: root, branch, link, record. Spec: dnsdisc.md, DNS Record Structure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from relay.primitives.endpoint import Network, parse_host
from relay.primitives.enr import PREFIX as RECORD_PREFIX
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey, PublicKey, compress, decompress, recover, verify

__all__ = ["Branch", "Entry", "Link", "Root", "hash_name", "parse_entry", "parse_hash", "subdomain"]

LINK_PREFIX: Final = "enrtree://"
BRANCH_PREFIX: Final = "enrtree-branch:"
ROOT_PREFIX: Final = "enrtree-root:v1"
MAX_TEXT: Final = 2048  # characters of one entry; the specification's own aim is under 512 (our choice)
HASH_SIZE: Final = 16  # bytes of an abbreviated hash as go-ethereum makes them
MIN_HASH: Final = 12  # bytes; what go-ethereum still takes
MAX_HASH: Final = 32
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9_-]{87}")  # 65 bytes in base64 without padding
_ROOT: Final = re.compile(r"enrtree-root:v1 e=(\S+) l=(\S+) seq=([0-9]{1,20}) sig=(\S*)")
_BASE32: Final = re.compile(r"[A-Z2-7]+")
MAX_SEQ: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Root:
    """The signed top of a tree.

    Attributes:
        records: hash name of the subtree of records.
        links: hash name of the subtree of links.
        seq: goes up with each change of the tree.
        signature: 65 bytes; empty for a tree that is not signed yet.
    """

    records: str
    links: str
    seq: int
    signature: bytes = b""

    @classmethod
    def parse(cls, text: str) -> Root:
        """Read a root; its signature is not checked here, since that takes a key.

        Raises:
            DecodeError: another form, hashes that are none, or no 65 bytes of signature.
        """
        match = _ROOT.fullmatch(text) if len(text) <= MAX_TEXT else None
        if match is None:
            raise DecodeError(f'a tree\'s root has the form "{ROOT_PREFIX} e=... l=... seq=... sig=..."')
        records, links, seq, signature = match.groups()
        parse_hash(records)
        parse_hash(links)
        if not _SIGNATURE.fullmatch(signature):
            raise DecodeError("tree root: the signature is not 65 bytes in base64 without padding")
        if int(seq) > MAX_SEQ:
            raise DecodeError("tree root: the sequence number does not fit 64 bits")
        return cls(records, links, int(seq), base64.urlsafe_b64decode(signature + "="))

    def signed_by(self, public_key: PublicKey) -> bool:
        """Tell whether the signature is this key's. Its 65th byte, the recovery id, does not count."""
        return verify(self._digest(), self.signature[:64], public_key)

    def signer(self) -> PublicKey:
        """Return the key that made the signature, by its recovery id.

        Raises:
            DecodeError: no key could have made it.
        """
        return recover(self._digest(), self.signature)

    def sign(self, key: NodeKey) -> Root:
        """Return the root with a signature."""
        return Root(self.records, self.links, self.seq, key.sign_recoverable(self._digest()))

    def _digest(self) -> bytes:
        return keccak256(self._content().encode())

    def _content(self) -> str:
        return f"{ROOT_PREFIX} e={self.records} l={self.links} seq={self.seq}"

    def __str__(self) -> str:
        return f"{self._content()} sig={base64.urlsafe_b64encode(self.signature).rstrip(b'=').decode()}"


@dataclass(frozen=True, slots=True)
class Branch:
    """Hash names of further entries."""

    children: tuple[str, ...]

    def __str__(self) -> str:
        return BRANCH_PREFIX + ",".join(self.children)


@dataclass(frozen=True, slots=True)
class Link:
    """A tree: the key that signs it, and the name it hangs from. Also what a user gives as its URL.

    Attributes:
        public_key: the signer.
        domain: lower case, without the root's dot.
    """

    public_key: PublicKey
    domain: str

    @classmethod
    def parse(cls, text: str) -> Link:
        """Read enrtree://<key in base32>@<domain>.

        Raises:
            DecodeError: another scheme, no key of secp256k1, or no host name.
        """
        key, at, domain = text.removeprefix(LINK_PREFIX).partition("@")
        if not text.startswith(LINK_PREFIX) or not at or len(text) > MAX_TEXT:
            raise DecodeError('a link to a tree has the form "enrtree://<key>@<domain>"')
        public_key = decompress(_from_base32(key))
        network, name = parse_host(domain)
        if network is not Network.DNS:
            raise DecodeError(f"a tree hangs from a DNS name, not from {domain[:64]!r}")
        return cls(public_key, name.removesuffix("."))

    def __str__(self) -> str:
        return f"{LINK_PREFIX}{_to_base32(compress(self.public_key))}@{self.domain}"


Entry: TypeAlias = Branch | Link | NodeRecord
"""What a hash name leads to."""


def parse_entry(text: str) -> Entry:
    """Read what stands below the root.

    Raises:
        DecodeError: of no known kind, or a bad one of its kind.
    """
    if len(text) > MAX_TEXT:
        raise DecodeError(f"a tree's entry of {len(text)} characters; at most {MAX_TEXT} are read")
    if text.startswith(BRANCH_PREFIX):
        return _branch(text.removeprefix(BRANCH_PREFIX))
    if text.startswith(LINK_PREFIX):
        return Link.parse(text)
    if text.startswith(RECORD_PREFIX):
        return NodeRecord.from_text(text)
    raise DecodeError("a tree's entry is a branch, a link or a node record")


def parse_hash(name: str) -> bytes:
    """Return the abbreviated hash that a name spells: the first 12 to 32 bytes of the Keccak-256.

    Raises:
        DecodeError: not base32 without padding, or of another length.
    """
    if len(name) > 52:  # 32 bytes
        raise DecodeError(f"hash name {name[:16]!r}... is too long")
    decoded = _from_base32(name)
    if not MIN_HASH <= len(decoded) <= MAX_HASH:
        raise DecodeError(f"hash name {name!r} spells {len(decoded)} bytes, not {MIN_HASH} to {MAX_HASH}")
    return decoded


def hash_name(text: str) -> str:
    """Return the name under which an entry of this text stands."""
    return _to_base32(keccak256(text.encode())[:HASH_SIZE])


def subdomain(name: str, domain: str) -> str:
    """Return the whole DNS name of an entry."""
    return f"{name}.{domain}" if domain else name


def _branch(content: str) -> Branch:
    children = tuple(content.split(",")) if content else ()  # an empty tree is one empty branch
    for child in children:
        parse_hash(child)
    return Branch(children)


def _from_base32(text: str) -> bytes:
    # Without padding a last group of 1, 3 or 6 characters holds no whole number of bytes.
    if not _BASE32.fullmatch(text) or len(text) % 8 in (1, 3, 6):
        raise DecodeError(f"{text[:16]!r} is not base32 without padding")
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error as error:  # pragma: no cover  the pattern above leaves nothing to find
        raise DecodeError(f"{text[:16]!r}: {error}") from None


def _to_base32(data: bytes) -> str:
    return base64.b32encode(data).rstrip(b"=").decode()
