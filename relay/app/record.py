"""Our own node record: complete once the onion service is published, a higher number on change only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import structlog

from relay.app.datadir import RECORD, DataDir
from relay.primitives import rlp
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import StorageError
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionAddress

log = structlog.get_logger("relay.app")

_FIRST: Final = 1  # not a time stamp as geth has: a clock tells when a relay was set up


class OwnRecord:
    """Signs our record anew when what it says changes, and remembers the number over restarts.

    Args:
        key: the node key.
        data: where number and content's digest are kept.
        fork_id: the network's fork id at this time.
    """

    def __init__(self, key: NodeKey, data: DataDir, *, fork_id: Callable[[], ForkId]) -> None:
        self._key, self._data, self._fork_id = key, data, fork_id
        self._tcp: int | None = None
        self._onion: OnionAddress | None = None
        self._onion_port = 0
        self._seq, self._digest = _saved(data.load_state(RECORD))
        self._current: NodeRecord | None = None

    @property
    def record(self) -> NodeRecord:
        """The record as it stands; signed when first asked for: a restart alone is no change."""
        if self._current is None:
            self._current = self._renewed()
        return self._current

    def listens(self, tcp: int) -> None:
        """Show the clearnet listener's port; with the onion the onion's port counts."""
        self._tcp = tcp
        self._current = None

    def publish(self, onion: OnionAddress, port: int) -> None:
        """Show the onion address: the service answers now."""
        self._onion, self._onion_port = onion, port
        self._current = None

    def withdraw(self) -> None:
        """Take the onion address out: the service is gone."""
        self._onion = None
        self._current = None

    def refresh(self) -> None:
        """Look again, say because a fork has passed."""
        self._current = None

    def _renewed(self) -> NodeRecord:
        record = self._content(self._seq)
        digest = _content_digest(record)
        if digest == self._digest:
            return record
        self._seq, self._digest = self._seq + 1, digest
        self._save()
        return self._content(self._seq)

    def _content(self, seq: int) -> NodeRecord:
        tcp = self._onion_port if self._onion else self._tcp
        return build_record(self._key, seq, tcp=tcp, onion3=self._onion, fork_id=self._fork_id())

    def _save(self) -> None:
        try:
            self._data.save_state(RECORD, {"seq": self._seq, "digest": self._digest})
        except StorageError as error:
            log.warning("record number not saved", cause=str(error))


def _content_digest(record: NodeRecord) -> str:
    entries = [[name.encode("latin-1"), value] for name, value in record.pairs.items()]
    return hashlib.sha256(rlp.encode(entries)).hexdigest()


def _saved(state: object) -> tuple[int, str]:
    if isinstance(state, dict):
        seq, digest = state.get("seq"), state.get("digest")
        if isinstance(seq, int) and isinstance(digest, str) and 0 < seq < 1 << 63:
            return seq, digest
    return _FIRST - 1, ""
