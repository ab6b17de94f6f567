"""static-nodes.json and trusted-nodes.json: geth's JSON array of enode URLs and records, and its watcher.

A bad entry is named and skipped, the rest is used. A bad file leaves the set in force that was read before.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from relay.discovery.files import read_regular
from relay.primitives.endpoint import Endpoint
from relay.primitives.errors import DecodeError, LocalError
from relay.primitives.keys import PublicKey
from relay.primitives.node import Node

__all__ = [
    "MAX_ENTRIES",
    "MAX_FILE_BYTES",
    "Rejected",
    "StaticNodes",
    "StaticNodesFile",
    "log_static_nodes",
    "parse_static_nodes",
]

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_ENTRIES: Final = 8192  # checking a key costs some 15 us; nobody keeps more static peers by hand
POLL_SECONDS: Final = 1.0
_SHOWN: Final = 48  # characters of a rejected entry that are repeated in messages

_Signature: TypeAlias = tuple[int, int, int] | None
_log = structlog.get_logger("relay.discovery")


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that was skipped.

    Attributes:
        index: its place in the array, from 0.
        text: its beginning, printable.
        why: what is wrong with it.
    """

    index: int
    text: str
    why: str

    def __str__(self) -> str:
        return f"entry {self.index} ({self.text}): {self.why}"


@dataclass(frozen=True, slots=True)
class StaticNodes:
    """What a file says.

    Attributes:
        nodes: each public key once, with all of its addresses, in the order of the file.
        rejected: what was skipped.
    """

    nodes: tuple[Node, ...] = ()
    rejected: tuple[Rejected, ...] = ()


def parse_static_nodes(data: bytes, name: str = "static-nodes.json") -> StaticNodes:
    """Read the content of a file: a JSON array of "enode://..." and "enr:..." strings.

    Several entries of one key are one node with all their addresses. An empty file is an empty set.

    Args:
        data: the whole file.
        name: how messages call it.

    Raises:
        LocalError: too large, not UTF-8, not JSON, or not an array.
    """
    found: dict[PublicKey, Node] = {}
    rejected: list[Rejected] = []
    for index, entry in enumerate(_entries(data, name)):
        try:
            node = _node(entry)
            found[node.public_key] = _merged(found.get(node.public_key), node)
        except DecodeError as error:
            rejected.append(Rejected(index, _shown(entry), str(error)))
    return StaticNodes(tuple(found.values()), tuple(rejected))


def _entries(data: bytes, name: str) -> list[object]:
    if len(data) > MAX_FILE_BYTES:
        raise LocalError(f"{name} has {len(data)} bytes, more than {MAX_FILE_BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LocalError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if not text.strip():
        return []
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise LocalError(
            f"{name} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # numbers of thousands of digits; brackets of thousands deep
        raise LocalError(f"{name} is not JSON that makes sense here: {type(error).__name__}") from None
    return _array(value, name)


def _array(value: object, name: str) -> list[object]:
    if value is None:  # geth writes null for an empty list
        return []
    if isinstance(value, dict):
        keys = ", ".join(_shown(key) for key in list(value)[:6])
        raise LocalError(
            f'{name} holds an object with the keys {keys}, expected an array: ["enode://...", "enr:..."].'
            " Metadata of pods is no list of peers"
        )
    if not isinstance(value, list):
        raise LocalError(f'{name} holds {_kind(value)}, expected an array: ["enode://...", "enr:..."]')
    if len(value) > MAX_ENTRIES:
        raise LocalError(f"{name} has {len(value)} entries, more than {MAX_ENTRIES}")
    return value


def _node(entry: object) -> Node:
    if isinstance(entry, dict):
        keys = ", ".join(_shown(key) for key in list(entry)[:6]) or "none"
        raise DecodeError(f"an object (keys: {keys}), expected a string: metadata does not make a peer")
    if not isinstance(entry, str):
        raise DecodeError(f"{_kind(entry)}, expected an enode or enr string")
    node = Node.parse(entry.strip())
    if not node.endpoints:
        raise DecodeError("it names no host with a TCP port, so it cannot be dialed")
    return node


def _merged(known: Node | None, node: Node) -> Node:
    if known is None:
        return node
    fresh = tuple(each for each in node.endpoints if each not in known.endpoints)
    if not fresh:
        raise DecodeError("a duplicate: this node and address stand in the file already")
    endpoints: tuple[Endpoint, ...] = known.endpoints + fresh
    return Node(known.public_key, endpoints, known.record or node.record)


def _kind(value: object) -> str:
    kinds: dict[type, str] = {
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "an array",
    }
    return kinds.get(type(value), "null")


def _shown(entry: object) -> str:
    text = entry if isinstance(entry, str) else _kind(entry) if not isinstance(entry, dict) else "an object"
    printable = "".join(letter if letter.isprintable() else "?" for letter in text[: _SHOWN + 1])
    return printable if len(printable) <= _SHOWN else printable[:_SHOWN] + "..."


class StaticNodesFile:
    """Watches a file of nodes: by its time, size and inode, so that an atomic replacement counts as a change.

    A file that does not parse, or that is suddenly empty or gone, is read once more at the next poll before
    it is believed: an editor may be half way through writing it.
    """

    def __init__(self, path: Path, *, required: bool = False) -> None:
        """Watch a file; nothing is read before `load`.

        Args:
            path: the file.
            required: the operator named it, so that its absence is an error; else it is an empty set.
        """
        self._path = path
        self._required = required
        self._seen: _Signature | str = ""  # neither a signature nor None: unlike whatever is found first
        self._suspect = False
        self.current = StaticNodes()
        self.failures = 0

    @property
    def path(self) -> Path:
        """The watched file."""
        return self._path

    def load(self) -> StaticNodes:
        """Read the file now, at the start or on SIGHUP, changed or not.

        Raises:
            LocalError: see `parse_static_nodes`; or it cannot be read, or is missing though required. What
                was read before stays in `current`.
        """
        self._suspect = False
        self._seen = self._signature()
        try:
            self.current = self._read()
        except LocalError:
            self.failures += 1
            raise
        return self.current

    def poll(self) -> StaticNodes | None:
        """Read the file if it changed since the last look.

        Returns:
            The new set, or None where nothing changed or where a second look is wanted.

        Raises:
            LocalError: as `load`; once for each change.
        """
        signature = self._signature()
        first_look = signature != self._seen
        if not first_look and not self._suspect:
            return None
        self._seen = signature
        self._suspect = False
        try:
            found = self._read()
        except LocalError:
            if first_look:
                self._suspect = True
                return None
            self.failures += 1
            raise
        if first_look and self.current.nodes and not found.nodes:
            self._suspect = True  # truncated, and about to be written?
            return None
        if found == self.current:
            return None
        self.current = found
        return found

    async def watch(self, apply: Callable[[StaticNodes], None], *, pause: float = POLL_SECONDS) -> None:
        """Poll until cancelled; a bad file is logged and leaves the earlier set in force.

        Args:
            apply: is given each new set.
            pause: seconds between two looks.
        """
        while True:
            await asyncio.sleep(pause)
            try:
                # Thousands of curve points take longer to check than the event loop may stand still.
                found = await asyncio.to_thread(self.poll)
            except LocalError as error:
                _log.error("static nodes not reloaded", error=str(error), kept=len(self.current.nodes))
                continue
            if found is not None:
                log_static_nodes(found)
                apply(found)

    def _signature(self) -> _Signature:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> StaticNodes:
        try:
            data = read_regular(self._path, MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            if self._required:
                raise LocalError(f"{self._path} does not exist") from None
            return StaticNodes()
        except OSError as error:
            raise LocalError(f"{self._path} cannot be read: {error.strerror}") from None
        if len(data) > MAX_FILE_BYTES:
            raise LocalError(f"{self._path} has more than {MAX_FILE_BYTES} bytes")
        return parse_static_nodes(data, str(self._path))


def log_static_nodes(found: StaticNodes) -> None:
    """Say how many nodes were loaded, and name each that was not."""
    for each in found.rejected:
        _log.warning("static node rejected", index=each.index, entry=each.text, why=each.why)
    _log.info("static nodes read", loaded=len(found.nodes), rejected=len(found.rejected))
