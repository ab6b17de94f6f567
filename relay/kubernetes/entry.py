"""One relay's line in the address book: JSON, signed by both of its keys and anchored by the cluster's.

The signatures are over every field, the cluster, the namespace and the pod among them: a copied entry is
worth nothing under another pod's name. They prove that who wrote it holds both keys, not that it belongs
here: a thief of a token may sign with keys of his own. That is what the HMAC by the cluster's key is for.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relay.kubernetes.onion_signature import onion_sign, onion_verify
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey, PublicKey, parse_public_key, verify
from relay.primitives.onion import OnionAddress, OnionKey, parse_onion

__all__ = ["MAX_ENTRY", "ClusterKey", "Entry", "Place", "parse_cluster_key", "parse_entry", "sign_entry"]

MAX_ENTRY: Final = 4096  # characters; with a record it has some 1,400
MAX_SEQUENCE: Final = 1 << 53  # what every reader of JSON keeps exactly
SIGNED: Final = b"pyrelay address book entry v1\n"
ANCHORED: Final = b"pyrelay address book member v1\n"
_LEAST_KEY: Final = 16  # bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a relay runs.

    Attributes:
        cluster: the cluster's name, chosen by who runs it.
        namespace: of Kubernetes.
        pod: the pod's name; a StatefulSet keeps it over restarts.
    """

    cluster: str
    namespace: str
    pod: str

    def __str__(self) -> str:
        return f"{self.cluster}/{self.namespace}/{self.pod}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a relay says of itself.

    Attributes:
        place: where it runs.
        sequence: grows with each heartbeat.
        timestamp: the writer's own clock, for people; nobody judges by it.
        public_key: of the node.
        onion: its service.
        port: that peers dial.
        record: its record, once the daemon has published the service.
    """

    place: Place
    sequence: int
    timestamp: str
    public_key: PublicKey
    onion: OnionAddress
    port: int
    record: NodeRecord | None = None

    @property
    def enode(self) -> str:
        """The URL that static-nodes.json gets."""
        return Enode(self.public_key, self.onion, self.port, self.port).url

    def fields(self) -> dict[str, object]:
        """What is signed, by the names that JSON has."""
        found: dict[str, object] = {
            "cluster": self.place.cluster,
            "namespace": self.place.namespace,
            "pod": self.place.pod,
            "sequence": self.sequence,
            "timestamp": self.timestamp,
            "nodeId": self.public_key.hex(),
            "onion": self.onion,
            "port": self.port,
            "enode": self.enode,
        }
        if self.record is not None:
            found["enr"] = self.record.to_text()
        return found


class ClusterKey:
    """The secret that relays of one cluster share. Never shown."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"pyrelay cluster key\n" + secret).digest()

    def anchor(self, text: str) -> str:
        """Return the mark of membership for what was signed, as hexadecimal."""
        return hmac.digest(self._secret, ANCHORED + text.encode(), "sha256").hex()

    def accepts(self, text: str, mark: str) -> bool:
        """Tell whether somebody who knows this key made the mark."""
        return mark.isascii() and hmac.compare_digest(self.anchor(text), mark)

    def __repr__(self) -> str:
        return "ClusterKey(...)"


def parse_cluster_key(content: bytes) -> ClusterKey:
    """Read the content of a Secret's file; white space around it does not count.

    Raises:
        DecodeError: too short to be a secret.
    """
    secret = content.strip()
    if len(secret) < _LEAST_KEY:
        raise DecodeError(
            f"a cluster key has {_LEAST_KEY} bytes at least, this one {len(secret)};"
            " make one by: openssl rand -hex 32"
        )
    return ClusterKey(secret)


def sign_entry(entry: Entry, node: NodeKey, onion: OnionKey, cluster: ClusterKey | None) -> str:
    """Return the entry as the address book holds it.

    Args:
        entry: of the same keys.
        node: signs it.
        onion: signs it too.
        cluster: None where there is no such Secret.
    """
    assert entry.public_key == node.public_key
    assert entry.onion == onion.address
    fields = entry.fields()
    signed = _canonical(fields)
    fields["signatures"] = {
        "node": node.sign(_digest(signed)).hex(),
        "onion": onion_sign(onion, SIGNED + signed.encode()).hex(),
    }
    if cluster is not None:
        fields["membership"] = cluster.anchor(_canonical(fields))
    return _canonical(fields)


def parse_entry(text: str, place: Place, cluster: ClusterKey | None) -> Entry:
    """Check an entry.

    Args:
        text: what the address book holds.
        place: where it was found: it must have been signed for the same.
        cluster: None believes whoever signs.

    Raises:
        DecodeError: says what is wrong with it.
    """
    fields = _object(text)
    signatures, membership = fields.pop("signatures", None), fields.pop("membership", None)
    found = Place(_text(fields, "cluster"), _text(fields, "namespace"), _text(fields, "pod"))
    if found != place:
        # What anybody may have written: it begins no line of the log that people read.
        shown = "".join(each if each.isprintable() else "?" for each in str(found)[:120])
        raise DecodeError(f"it was signed for {shown}, not for {place}: copied?")
    entry = _entry(fields, found)
    _check_signatures(entry, fields, signatures)
    if cluster is not None:
        if not isinstance(membership, str):
            raise DecodeError("it has no mark of this cluster: was it written without the cluster key?")
        if not cluster.accepts(_canonical({**fields, "signatures": signatures}), membership):
            raise DecodeError("its mark is not of this cluster's key: another cluster's, or a stranger's")
    return entry


def _entry(fields: Mapping[str, object], place: Place) -> Entry:
    sequence, port = fields.get("sequence"), fields.get("port")
    if type(sequence) is not int or not 0 < sequence <= MAX_SEQUENCE:
        raise DecodeError("sequence is not a positive number")
    if type(port) is not int or not 0 < port < 65536:
        raise DecodeError("port is not a number between 1 and 65535")
    entry = Entry(
        place=place,
        sequence=sequence,
        timestamp=_text(fields, "timestamp"),
        public_key=_public_key(_text(fields, "nodeId")),
        onion=parse_onion(_text(fields, "onion")),
        port=port,
        record=_record(fields),
    )
    if fields.get("enode") != entry.enode:
        raise DecodeError("enode is not made of nodeId, onion and port")
    if fields["onion"] != entry.onion:
        raise DecodeError("onion is not written in lower case")
    _check_record(entry)
    return entry


def _check_record(entry: Entry) -> None:
    record = entry.record
    if record is None:
        return
    if record.public_key != entry.public_key:
        raise DecodeError("enr is the record of another node")
    if record.onion3 != entry.onion or record.tcp != entry.port:
        raise DecodeError("enr tells another onion service than the entry")


def _check_signatures(entry: Entry, fields: Mapping[str, object], signatures: object) -> None:
    if not isinstance(signatures, dict):
        raise DecodeError("it is not signed: no signatures")
    signed = _canonical(fields)
    if not verify(_digest(signed), _hex(signatures, "node", 64), entry.public_key):
        raise DecodeError("the node key did not sign this")
    if not onion_verify(entry.onion, SIGNED + signed.encode(), _hex(signatures, "onion", 64)):
        raise DecodeError("the onion key did not sign this")


def _object(text: str) -> dict[str, object]:
    if len(text) > MAX_ENTRY:
        raise DecodeError(f"it has {len(text)} characters, an entry {MAX_ENTRY} at most")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise DecodeError("it is not JSON") from None
    if not isinstance(value, dict):
        raise DecodeError("it is not a JSON object")
    return value


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise DecodeError(f"{name} is missing")
    return value


def _public_key(text: str) -> PublicKey:
    try:
        return parse_public_key(bytes.fromhex(text) if text == text.lower() else b"")
    except DecodeError as error:
        raise DecodeError(f"nodeId: {error}") from None
    except ValueError:
        raise DecodeError("nodeId is not hexadecimal") from None


def _record(fields: Mapping[str, object]) -> NodeRecord | None:
    if "enr" not in fields:
        return None
    return NodeRecord.from_text(_text(fields, "enr"))


def _hex(signatures: Mapping[str, object], name: str, size: int) -> bytes:
    text = signatures.get(name)
    try:
        value = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        value = b""
    if len(value) != size:
        raise DecodeError(f"signatures.{name} is not {size} bytes in hexadecimal")
    return value


def _digest(signed: str) -> bytes:
    return hashlib.sha256(SIGNED + signed.encode()).digest()


def _canonical(fields: Mapping[str, object]) -> str:
    """Bring to the one form that is signed: sorted names, no blanks, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
