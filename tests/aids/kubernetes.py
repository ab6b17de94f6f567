"""Made-up relays of a cluster: keys, entries, folders."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from relay.app.datadir import write_atomic
from relay.kubernetes.entry import ClusterKey, Entry, Place, sign_entry
from relay.kubernetes.identity import Identity
from relay.kubernetes.options import Own
from relay.primitives.enr import build_record
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey

CLUSTER_KEY = ClusterKey(b"a secret of this cluster")
NAMESPACE = "relays"
STAMP = "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Pod:
    """A relay with keys that follow from its name."""

    name: str
    node: NodeKey
    onion: OnionKey

    @property
    def place(self) -> Place:
        return Place("lab", NAMESPACE, self.name)

    @property
    def identity(self) -> Identity:
        return Identity(self.node, self.onion)

    def entry(self, sequence: int = 1, *, record: bool = False, place: Place | None = None) -> Entry:
        signed = (
            build_record(self.node, 1, tcp=30303, onion3=self.onion.address, fork_id=None) if record else None
        )
        return Entry(
            place or self.place, sequence, STAMP, self.node.public_key, self.onion.address, 30303, signed
        )

    def text(
        self, sequence: int = 1, key: ClusterKey | None = CLUSTER_KEY, *, place: Place | None = None
    ) -> str:
        return sign_entry(self.entry(sequence, place=place), self.node, self.onion, key)

    def own(self, datadir: Path, uid: str = "", key: ClusterKey | None = CLUSTER_KEY) -> Own:
        return Own(self.place, uid, 30303, datadir, key)

    def volume(self, folder: Path) -> Path:
        """Make a data folder with both keys."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "nodekey", self.node.secret.hex().encode())
        write_atomic(folder / "onion_key", self.onion.to_tor_file())
        return folder


def pod(name: str) -> Pod:
    seed = hashlib.sha256(name.encode()).digest()
    return Pod(name, NodeKey(seed), OnionKey.from_seed(seed))
