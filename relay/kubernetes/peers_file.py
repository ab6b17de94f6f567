"""static-nodes.json from the address book: written whole or not at all, and only where it changes.

The daemon follows the file. It is geth's: an array of enode URLs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog

from relay.app.datadir import write_atomic
from relay.discovery.static_nodes import StaticNodesFile
from relay.kubernetes.entry import Entry
from relay.primitives.errors import LocalError
from relay.primitives.keys import PublicKey

__all__ = ["PeersFile", "short_onion"]

log = structlog.get_logger("relay.kubernetes")

RIGHTS: Final = 0o640  # the daemon may run as another user of the pod's group


class PeersFile:
    """The file and what we know to be in it.

    Args:
        path: of static-nodes.json.
        own: our node, which is never a peer of ours.
    """

    def __init__(self, path: Path, own: PublicKey) -> None:
        self._path, self._own = path, own
        self._written: str | None = None

    def read(self) -> dict[PublicKey, str]:
        """Return the peers that it has, as URLs; none where it is missing or damaged."""
        try:
            found = StaticNodesFile(self._path).load()
        except LocalError as error:
            log.warning("static nodes of before are not used", cause=str(error))
            return {}
        return {
            node.public_key: node.enode.url
            for node in found.nodes
            if node.onion is not None and node.public_key != self._own
        }

    def write(self, peers: Sequence[str]) -> bool:
        """Replace the file if it would change; tell whether it did.

        Raises:
            StorageError: it could not be written; what it held is kept.
        """
        text = json.dumps(list(peers), indent=1) + "\n"
        if text == self._written:
            return False
        write_atomic(self._path, text.encode(), RIGHTS)
        self._written = text
        return True


def merged(entries: Iterable[Entry], before: dict[PublicKey, str], extra: Iterable[str] = ()) -> list[str]:
    """Return the file's URLs: the book's, then those of before that it does not know, then others."""
    known = {entry.public_key: entry.enode for entry in entries}
    others = [url for key, url in before.items() if key not in known]
    return list(dict.fromkeys([*known.values(), *others, *extra]))


def short_onion(onion: str) -> str:
    """Return enough of an address to compare by eye, and too little to dial."""
    return f"{onion[:6]}...{onion.removesuffix('.onion')[-3:]}.onion"
