"""Our own node record: complete once the onion service is published, a higher number on change only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import structlog

from relay.app.datadir import RECORD, DataDir
from relay.primitives import rlp
from relay.primitives.endpoint import Network
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import StorageError
from relay.primitives.forkid import ForkId
from relay.primitives.i2p import I2PAddress
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionAddress

log = structlog.get_logger("relay.app")

_FIRST: Final = 1  # not a time stamp as geth has: a clock tells when a relay was set up


class OwnRecord:
    """Signs our record anew when what it says changes, and remembers the number over restarts.

    Args:
        key: the node key.
        data: where number and content's digest are kept.
        fork_id: the network's fork id at this time; None for a node that speaks no eth.
    """

    def __init__(self, key: NodeKey, data: DataDir, *, fork_id: Callable[[], ForkId | None]) -> None:
        self._key, self._data, self._fork_id = key, data, fork_id
        self._tcp: int | None = None
        self._udp: int | None = None
        self._hosts: dict[Network, str] = {}
        self._onion: OnionAddress | None = None
        self._onion_port = 0
        self._i2p: I2PAddress | None = None
        self._seq, self._digest = _saved(data.load_state(RECORD))
        self._current: tuple[NodeRecord, NodeRecord] | None = None

    @property
    def record(self) -> NodeRecord:
        """The record as it stands; signed when first asked for: a restart alone is no change."""
        return self._both()[0]

    @property
    def onion_record(self) -> NodeRecord:
        """What is shown on the onion network: the same number, and never an IP address."""
        return self._both()[1]

    def listens(self, tcp: int) -> None:
        """Show the clearnet listener's port; with the onion the onion's port counts."""
        self._tcp = tcp
        self._current = None

    def listens_udp(self, udp: int) -> None:
        """Show the UDP port of discovery."""
        self._udp = udp
        self._current = None

    def seen_at(self, network: Network, host: str | None) -> None:
        """Show our IP address: the user gave it, or enough others have told us; None: it holds no longer."""
        if self._hosts.get(network) == host:
            return
        if host is None:
            del self._hosts[network]
        else:
            self._hosts[network] = host
        self._current = None

    def publish(self, onion: OnionAddress, port: int) -> None:
        """Show the onion address: the service answers now."""
        self._onion, self._onion_port = onion, port
        self._current = None

    def publish_i2p(self, address: I2PAddress | None) -> None:
        """Show the I2P address: others can reach it now; None: they no longer can."""
        self._i2p = address
        self._current = None

    def withdraw(self) -> None:
        """Take the onion address out: the service is gone."""
        self._onion = None
        self._current = None

    def refresh(self) -> None:
        """Look again, say because a fork has passed."""
        self._current = None

    def _both(self) -> tuple[NodeRecord, NodeRecord]:
        if self._current is None:
            self._current = self._renewed()
        return self._current

    def _renewed(self) -> tuple[NodeRecord, NodeRecord]:
        both = self._contents(self._seq)
        digest = _content_digest(*both)
        if digest == self._digest:
            return both
        self._seq, self._digest = self._seq + 1, digest
        self._save()
        return self._contents(self._seq)

    def _contents(self, seq: int) -> tuple[NodeRecord, NodeRecord]:
        fork_id = self._fork_id()
        hidden = build_record(
            self._key,
            seq,
            tcp=self._onion_port if self._onion else None,
            onion3=self._onion,
            i2p=self._i2p,
            fork_id=fork_id,
        )
        ip, ip6 = self._hosts.get(Network.IPV4), self._hosts.get(Network.IPV6)
        if ip is None and ip6 is None:
            open_tcp = self._onion_port if self._onion else self._tcp
            return self._open(seq, fork_id, open_tcp, None, None, self._onion), hidden
        # There is one tcp entry for IP and onion alike: an onion on another port can't be shown beside an IP.
        fits = self._onion if self._onion_port == self._tcp else None
        return self._open(seq, fork_id, self._tcp, ip, ip6, fits), hidden

    def _open(
        self,
        seq: int,
        fork_id: ForkId | None,
        tcp: int | None,
        ip: str | None,
        ip6: str | None,
        onion: OnionAddress | None,
    ) -> NodeRecord:
        return build_record(
            self._key,
            seq,
            tcp=tcp,
            udp=self._udp,
            ip=ip,
            ip6=ip6,
            onion3=onion,
            i2p=self._i2p,
            fork_id=fork_id,
        )

    def _save(self) -> None:
        try:
            self._data.save_state(RECORD, {"seq": self._seq, "digest": self._digest})
        except StorageError as error:
            log.warning("record number not saved", cause=str(error))


def _content_digest(*records: NodeRecord) -> str:
    entries = [[name.encode("latin-1"), value] for record in records for name, value in record.pairs.items()]
    return hashlib.sha256(rlp.encode(entries)).hexdigest()


def _saved(state: object) -> tuple[int, str]:
    if isinstance(state, dict):
        seq, digest = state.get("seq"), state.get("digest")
        if isinstance(seq, int) and isinstance(digest, str) and 0 < seq < 1 << 63:
            return seq, digest
    return _FIRST - 1, ""
