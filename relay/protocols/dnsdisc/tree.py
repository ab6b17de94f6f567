"""Whole trees: made of records and links, signed, printed for a zone, checked. Spec: dnsdisc.md.

The shape is go-ethereum's, entry for entry: records sorted by node id, branches of at most 13.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from relay.primitives import rlp
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.protocols.dnsdisc.entries import Branch, Link, Root, hash_name, parse_entry, parse_hash, subdomain

__all__ = ["Tree", "make_tree", "read_tree"]

MAX_CHILDREN: Final = 13  # of a branch, so that an answer stays under 512 bytes; dnsdisc.md
MAX_ENTRIES: Final = 100_000  # of a tree that is read whole (our choice)
TXT_PART: Final = 255  # bytes of one character-string; RFC 1035 3.3
ROOT_TTL: Final = 30 * 60  # seconds; as devp2p's deployers use
ENTRY_TTL: Final = 4 * 7 * 24 * 3600  # seconds; an entry never changes, its name is its hash
_Leaf = TypeVar("_Leaf", NodeRecord, Link)
_PORTS: Final = ("tcp", "tcp6", "udp", "udp6", "quic", "quic6")


@dataclass(frozen=True, slots=True)
class Tree:
    """A complete tree.

    Attributes:
        root: signed or not yet.
        entries: text of each entry under its hash name.
        records: its leaves, sorted by node id where the tree was made here.
        links: the other trees it names.
    """

    root: Root
    entries: Mapping[str, str]
    records: tuple[NodeRecord, ...]
    links: tuple[Link, ...]

    def sign(self, key: NodeKey, domain: str) -> tuple[Tree, Link]:
        """Return the signed tree, and the link (its text is the URL to give to others) for this domain."""
        link = Link.parse(str(Link(key.public_key, domain)))
        return replace(self, root=self.root.sign(key)), link

    def texts(self, domain: str = "") -> dict[str, str]:
        """Return every TXT record by its whole name, the root under the domain itself."""
        return {domain: str(self.root)} | {
            subdomain(name, domain): text for name, text in self.entries.items()
        }

    def zone_file(self, domain: str) -> str:
        """Return the tree as a zone file (RFC 1035 5.1), ready to be included in the domain's zone."""
        lines = [f"$ORIGIN {domain}.", _zone_line("@", ROOT_TTL, str(self.root))]
        lines += [_zone_line(name, ENTRY_TTL, text) for name, text in self.entries.items()]
        return "\n".join(lines) + "\n"


def make_tree(records: Iterable[NodeRecord], links: Iterable[Link] = (), seq: int = 1) -> Tree:
    """Build a tree that is not signed yet.

    Args:
        records: each node at most once.
        links: other trees.
        seq: higher than that of the tree it replaces.

    Raises:
        DecodeError: a record has a port entry that others cannot read, or a node is there twice.
    """
    leaves = sorted(records, key=lambda record: record.node_id)
    if len({record.node_id for record in leaves}) != len(leaves):
        raise DecodeError("a node is in the list twice")
    for record in leaves:
        _require_readable_ports(record)
    linked = tuple(dict.fromkeys(links))
    entries: dict[str, str] = {}
    record_root = _build([record.to_text() for record in leaves], entries)
    link_root = _build([str(link) for link in linked], entries)
    return Tree(Root(record_root, link_root, seq), entries, tuple(leaves), linked)


def read_tree(texts: Mapping[str, str], link: Link) -> Tree:
    """Check a whole tree: signature, every hash, every entry, nothing missing.

    Args:
        texts: TXT content by whole name, as `Tree.texts` gives it.
        link: the key and domain to check against.

    Raises:
        DecodeError: says what is wrong, and under which name.
    """
    root = Root.parse(_text_at(texts, link.domain))
    if not root.signed_by(link.public_key):
        raise DecodeError("tree root: it is not signed by the key of the URL")
    entries: dict[str, str] = {}
    records = tuple(_walk(texts, link.domain, root.records, entries, NodeRecord))
    links = tuple(_walk(texts, link.domain, root.links, entries, Link))
    return Tree(root, entries, records, links)


def _build(texts: Sequence[str], entries: dict[str, str]) -> str:
    """Put texts and the branches above them into entries; return the name of the topmost."""
    names = [_put(text, entries) for text in texts]
    while len(names) > MAX_CHILDREN:
        groups = [names[at : at + MAX_CHILDREN] for at in range(0, len(names), MAX_CHILDREN)]
        # One that is alone needs no branch above it.
        names = [
            group[0] if len(group) == 1 else _put(str(Branch(tuple(group))), entries) for group in groups
        ]
    return names[0] if len(names) == 1 else _put(str(Branch(tuple(names))), entries)


def _put(text: str, entries: dict[str, str]) -> str:
    name = hash_name(text)
    entries[name] = text
    return name


def _walk(
    texts: Mapping[str, str], domain: str, top: str, entries: dict[str, str], kind: type[_Leaf]
) -> Iterator[_Leaf]:
    missing = [top]
    seen = {top}
    while missing:
        name = missing.pop()
        text = _text_at(texts, subdomain(name, domain))
        if not keccak256(text.encode()).startswith(parse_hash(name)):
            raise DecodeError(f"{name}: its text does not have this hash")
        if len(entries) >= MAX_ENTRIES:
            raise DecodeError(f"the tree has over {MAX_ENTRIES} entries")
        entries[name] = text
        entry = parse_entry(text)
        if isinstance(entry, Branch):
            fresh = [child for child in dict.fromkeys(entry.children) if child not in seen]
            seen.update(fresh)
            missing += reversed(fresh)
        elif isinstance(entry, kind):
            yield entry
        else:
            raise DecodeError(f"{name}: a link among the records, or a record among the links")


def _text_at(texts: Mapping[str, str], name: str) -> str:
    try:
        return texts[name]
    except KeyError:
        raise DecodeError(f"{name}: no such TXT record") from None


def _require_readable_ports(record: NodeRecord) -> None:
    # A record keeps entries that it cannot read; a list's readers may be stricter.
    for key in _PORTS:
        if key in record.pairs:
            try:
                rlp.to_int(record.pairs[key], 2)
            except DecodeError as error:
                raise DecodeError(f"record of {record.node_id.hex()[:16]}: {key}: {error}") from None


def _zone_line(name: str, ttl: int, text: str) -> str:
    parts = " ".join(f'"{text[at : at + TXT_PART]}"' for at in range(0, len(text), TXT_PART))
    return f"{name:<26} {ttl:>7} IN TXT {parts}"
