"""How a person writes a node of the onion network: a record, an enode URL, or ONION:PORT/NODEID."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from relay.primitives.endpoint import Endpoint, Network, parse_port
from relay.primitives.enode import PREFIX as ENODE_PREFIX
from relay.primitives.enr import PREFIX as ENR_PREFIX
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeId, PublicKey, compress, decompress, parse_public_key
from relay.primitives.node import Node
from relay.primitives.onion import parse_onion
from relay.protocols.dht import ProviderRecord

__all__ = ["KnownKey", "describe_provider", "nobody_known", "parse_peer", "parse_peers", "peer_text"]

KnownKey: TypeAlias = Callable[[NodeId], PublicKey | None]
"""Gives the public key of a node id that is known from elsewhere."""

MAX_LENGTH: Final = 1024  # characters; the longest form, an enode URL, has under 420
SUFFIX: Final = ".onion"
_PLAIN: Final = re.compile(r"(?P<onion>[^:/@]+):(?P<port>[^:/@]+)/(?:0[xX])?(?P<id>[^:/@]+)")
_HEX: Final = re.compile(r"[0-9a-fA-F]+")


def nobody_known(_node: NodeId) -> None:
    """Know no node's key."""


def parse_peer(text: str, known: KnownKey = nobody_known) -> Node:
    """Read a node that has an onion address.

    Args:
        text: "enr:...", "enode://...", or ONION:PORT/NODEID, where the onion may go without ".onion" and the
            node id is the public key: 128 hex digits, or the 66 of its compressed form. The 64 digits of a
            node id are its hash, by which no handshake can begin: they do where the key is known.
        known: finds the key of such an id.

    Raises:
        DecodeError: none of these, or without an onion address.
    """
    if len(text) > MAX_LENGTH:
        raise DecodeError(f"a peer of {len(text)} characters: an enode URL has under 420, a record under 410")
    if not text.startswith((ENR_PREFIX, ENODE_PREFIX)):
        return _parse_plain(text, known)
    node = Node.parse(text)
    if node.onion is None:
        raise DecodeError("it has no onion address: this network lives on onion services alone")
    return node


def peer_text(public_key: PublicKey, onion: Endpoint) -> str:
    """Write ONION:PORT/NODEID so that `parse_peer` needs nothing else: with the compressed public key."""
    return f"{onion.host}:{onion.port}/{compress(public_key).hex()}"


def describe_provider(record: ProviderRecord, hops: int) -> dict[str, object]:
    """Return what is told of a provider, as JSON has it."""
    node = Node.from_record(record.enr)
    onion = node.onion
    return {
        "onion": "" if onion is None else onion.host,
        "port": 0 if onion is None else onion.port,
        "id": record.node_id.hex(),
        "peer": "" if onion is None else peer_text(node.public_key, onion),
        "enr": record.enr.to_text(),
        "hops": hops,
    }


def _parse_plain(text: str, known: KnownKey) -> Node:
    match = _PLAIN.fullmatch(text)
    if match is None:
        raise DecodeError(
            f"{text[:24]!r} is no peer: give enr:..., enode://...@ONION:PORT, or ONION:PORT/NODEID"
        )
    name = match["onion"]
    onion = parse_onion(name if name.lower().endswith(SUFFIX) else name + SUFFIX)
    port = parse_port(match["port"])
    if not port:
        raise DecodeError("port 0 can not be connected")
    return Node(_public_key(match["id"], known), (Endpoint(Network.ONION, onion, port),))


def _public_key(digits: str, known: KnownKey) -> PublicKey:
    if _HEX.fullmatch(digits) is None or len(digits) not in (64, 66, 128):
        raise DecodeError(
            f"the node id {digits[:16]!r}... is not 128 or 66 hex digits: those of a public key"
        )
    data = bytes.fromhex(digits)
    readers: dict[int, Callable[[bytes], PublicKey]] = {33: decompress, 64: parse_public_key}
    if len(data) in readers:
        return readers[len(data)](data)
    found = known(NodeId(data))
    if found is None:
        raise DecodeError(
            f"the node id {digits[:16]}... is only the hash of a public key, nobody here knows the key, and a"
            " handshake begins with it: give the key in its place, 66 hex digits (the line 'peer' of dht"
            " find) or 128 (of an enode URL), or the node's record, enr:..."
        )
    return found


def parse_peers(texts: Sequence[str], known: KnownKey = nobody_known) -> tuple[Node, ...]:
    """Read several; the error names the one that is wrong."""
    found = []
    for text in texts:
        try:
            found.append(parse_peer(text, known))
        except DecodeError as error:
            raise DecodeError(f"peer {text[:24]}{'...' if len(text) > 24 else ''}: {error}") from None
    return tuple(found)
