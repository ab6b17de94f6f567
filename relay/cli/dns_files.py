"""Lists of nodes in files: the folders and JSON of geth's devp2p, zone files, single records."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from relay.app.datadir import write_atomic
from relay.discovery.files import read_regular
from relay.primitives.enr import PREFIX as RECORD_PREFIX
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError, LocalError, UsageError
from relay.protocols.dnsdisc.entries import MAX_SEQ, ROOT_PREFIX, Link, Root
from relay.protocols.dnsdisc.tree import Tree, make_tree, read_tree

__all__ = [
    "Folder",
    "SignedList",
    "is_folder",
    "read_records",
    "read_signed",
    "write_folder",
    "write_nodes",
    "write_text",
]

INFO: Final = "enrtree-info.json"
NODES: Final = "nodes.json"
MAX_FILE: Final = 256 * 1024 * 1024  # bytes; a crawl of the public network is some 20 MB
_READABLE: Final = 0o644  # these files are to be published


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder says besides its nodes, all of it optional.

    Attributes:
        link: the list's URL.
        seq: of the last signature; 0 before the first.
        signature: in base64, as devp2p writes it.
        links: to other lists.
    """

    link: Link | None = None
    seq: int = 0
    signature: str = ""
    links: tuple[Link, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Folder:
        """Read enrtree-info.json; an absent one says nothing."""
        file = path / INFO
        if not file.exists():
            return cls()
        info = _json(file)
        try:
            if not isinstance(info, dict):
                raise DecodeError("not an object")
            seq, url, links = info.get("seq", 0), info.get("url") or "", info.get("links") or []
            signature = info.get("signature") or ""
            if not isinstance(url, str) or not isinstance(signature, str) or not isinstance(links, list):
                raise DecodeError("url and signature are texts, links is an array")
            if type(seq) is not int or not 0 <= seq < MAX_SEQ:
                raise DecodeError("seq is no sequence number")
            parsed = tuple(Link.parse(str(link)) for link in links)
            return cls(Link.parse(url) if url else None, seq, signature, parsed)
        except DecodeError as error:
            raise LocalError(f"{file}: {error}") from None


@dataclass(frozen=True, slots=True)
class SignedList:
    """A list whose signature and entries were checked.

    Attributes:
        link: its URL.
        tree: all of it.
    """

    link: Link
    tree: Tree


def is_folder(word: str | Path) -> bool:
    """Tell whether there is a folder of that name; a record is a longer word than the system takes."""
    try:
        return Path(word).is_dir()
    except OSError:
        return False


def read_records(words: Iterable[str]) -> tuple[NodeRecord, ...]:
    """Read records: each word is a record itself, a folder, or a file: JSON, or a record a line.

    Of two records of one node the newer counts.

    Raises:
        LocalError: names the file and what is wrong in it.
    """
    found: dict[bytes, NodeRecord] = {}
    for word in words:
        for record in _records_of(word):
            known = found.get(record.node_id)
            if known is None or record.seq > known.seq:
                found[record.node_id] = record
    return tuple(found[each] for each in sorted(found))


def read_signed(path: Path, url: Link | None) -> SignedList:
    """Read a signed list from a folder, a zone file, or the JSON of `devp2p dns to-txt`, and check all of it.

    Args:
        path: of the folder or file.
        url: what it must be signed by; without it the folder's own, or whoever signed.

    Raises:
        LocalError: says what is wrong.
    """
    try:
        return _from_folder(path, url) if is_folder(path) else _from_texts(_texts_in(path), url)
    except DecodeError as error:
        raise LocalError(f"{path}: {error}") from None


def write_folder(path: Path, link: Link, root: Root, links: Iterable[Link]) -> None:
    """Write enrtree-info.json as devp2p does."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    info = {
        "url": str(link),
        "seq": root.seq,
        "signature": base64.urlsafe_b64encode(root.signature).rstrip(b"=").decode(),
        "links": [str(each) for each in links],
        "lastModified": now,
    }
    _make_folder(path)
    _write_json(path / INFO, info)


def write_nodes(path: Path, records: Iterable[NodeRecord]) -> None:
    """Write records as geth's devp2p keeps them: an object by node id."""
    _write_json(path, {each.node_id.hex(): {"seq": each.seq, "record": each.to_text()} for each in records})


def _write_json(path: Path, value: object) -> None:
    """Write JSON, all or nothing."""
    write_text(path, json.dumps(value, indent=4) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file, all or nothing; "-" is standard output."""
    if str(path) == "-":
        sys.stdout.write(text)
    else:
        write_atomic(path, text.encode(), _READABLE)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}") from None


# -- records -------------------------------------------------------------------------------------------


def _records_of(word: str) -> list[NodeRecord]:
    if word.startswith(RECORD_PREFIX):
        try:
            return [NodeRecord.from_text(word)]
        except DecodeError as error:
            raise UsageError(f"not a node record: {error}") from None
    path = Path(word)
    file = path / NODES if is_folder(path) else path
    text = _read(file).lstrip()
    try:
        if text[:1] not in ("{", "["):
            return [NodeRecord.from_text(line) for line in text.split() if line]
        value = _parsed(text)
        return _from_object(value) if isinstance(value, dict) else _from_array(value)
    except DecodeError as error:
        raise LocalError(f"{file}: {error}") from None


def _from_object(value: Mapping[str, Any]) -> list[NodeRecord]:
    records = []
    for key, node in value.items():
        if not isinstance(node, dict) or not isinstance(node.get("record"), str):
            raise DecodeError(f"{key[:16]}: it has no record: only nodes with one can be in a list")
        record = NodeRecord.from_text(node["record"])
        if record.node_id.hex() != key.removeprefix("0x").lower():
            raise DecodeError(f"{key[:16]}: its record is another node's, {record.node_id.hex()[:16]}")
        if node.get("seq", record.seq) != record.seq:
            raise DecodeError(f"{key[:16]}: seq is not that of its record, {record.seq}")
        records.append(record)
    return records


def _from_array(value: object) -> list[NodeRecord]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise DecodeError('expected an array of "enr:..." or an object of nodes')
    return [NodeRecord.from_text(each) for each in value]


# -- signed lists --------------------------------------------------------------------------------------


def _from_folder(path: Path, url: Link | None) -> SignedList:
    folder = Folder.load(path)
    link = url or folder.link
    if link is None or not folder.signature:
        raise DecodeError("it is not signed: run pyrelay dns sign")
    if folder.link is not None and folder.link != link:
        raise DecodeError(f"it is the list {folder.link}, not {link}")
    tree = make_tree(read_records([str(path)]), folder.links, folder.seq)
    text = str(tree.root).partition(" sig=")[0] + f" sig={folder.signature}"
    root = Root.parse(text)
    if not root.signed_by(link.public_key):
        raise DecodeError("the signature is not of this content and key: sign it again")
    return SignedList(link, replace(tree, root=root))


def _from_texts(texts: Mapping[str, str], url: Link | None) -> SignedList:
    domains = [name for name, text in texts.items() if text.startswith(ROOT_PREFIX)]
    if url is None and len(domains) != 1:
        raise DecodeError(f"it has {len(domains)} roots of lists, expected one; or tell which by --url")
    if url is None:
        root = Root.parse(texts[domains[0]])
        url = Link.parse(str(Link(root.signer(), domains[0])))
    return SignedList(url, read_tree(texts, url))


def _texts_in(path: Path) -> dict[str, str]:
    text = _read(path)
    if not text.lstrip().startswith("{"):
        return _zone(text)
    value = _parsed(text)
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise DecodeError("expected an object of texts by name, as devp2p dns to-txt writes")
    return value


def _zone(text: str) -> dict[str, str]:
    """Read a zone file with dnspython; a name's case is kept as it stands, since it spells a hash."""
    import dns.exception  # noqa: PLC0415 - 3 MB, for zone files only
    import dns.rdatatype  # noqa: PLC0415
    import dns.zone  # noqa: PLC0415

    try:
        zone = dns.zone.from_text(text, relativize=False, check_origin=False, allow_include=False)
        sets = list(zone.iterate_rdatasets(dns.rdatatype.TXT))
    except (dns.exception.DNSException, UnicodeError, ValueError) as error:
        raise DecodeError(f"no zone file: {str(error)[:200]}") from None
    found: dict[str, str] = {}
    for name, records in sets:
        texts = [b"".join(each.strings).decode("utf-8", "replace") for each in records]
        root = next((each for each in texts if each.startswith(ROOT_PREFIX)), texts[0])
        found[name.to_text(omit_final_dot=True)] = root
    return found


def _json(path: Path) -> object:
    try:
        return _parsed(_read(path))
    except DecodeError as error:
        raise LocalError(f"{path}: {error}") from None


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"no JSON: {type(error).__name__}") from None


def _read(path: Path) -> str:
    try:
        data = read_regular(path, MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise LocalError(f"{path} has more than {MAX_FILE} bytes")
        return data.decode()
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise LocalError(f"{path}: not UTF-8 text") from None
