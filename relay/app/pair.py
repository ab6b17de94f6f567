"""One identity, or two: which there are, what each gets, and which one a node that the user names is for.

Two where clearnet and Tor are both used (modes default and prefer-tor), and nobody asked for one: on the
onion network a relay that has nothing but Tor, on clearnet one that has no Tor. See docs/adr, two identities.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from relay.app.bridge import Bridge
from relay.app.datadir import NODE_KEY, DataDir
from relay.app.identity import Identity, Process
from relay.app.outward import WaysOut
from relay.primitives.errors import KeyFileError
from relay.primitives.keys import NodeKey, PublicKey
from relay.primitives.node import Node
from relay.relaying.seams import Loop
from relay.settings import Settings
from relay.settings.identities import Side, clearnet_side, onion_side, side_of
from relay.transports.policy import Mode, Way

__all__ = ["CLEARNET", "NamedNodes", "bridge_of", "make_identities", "share_of_peers"]

CLEARNET: Final = "clearnet"
"""The folder of the clearnet identity, within the data folder."""
_HIDDEN_WAYS: Final = frozenset({Way.TOR_ONION, Way.I2P})
_THE_OTHERS: Final = "for the other identity"


def make_identities(
    settings: Settings, process: Process, key: NodeKey, data: DataDir, ways: WaysOut
) -> tuple[Identity, ...]:
    """Make the identities, the one first that the node's own URL names.

    Args:
        settings: of the whole relay.
        process: what identities share.
        key: of the first.
        data: its data folder.
        ways: out of this host.

    Raises:
        StorageError, KeyFileError: the second one's folder or key can't be had. The folder is held until its
            identity's `data` is unlocked.
    """
    if not settings.has_two_identities:
        return (Identity(settings, process, key, data, ways),)
    inner = DataDir(data.path / CLEARNET)
    with ExitStack() as guard:
        inner.lock()
        guard.callback(inner.unlock)
        second = inner.node_key(None, secrets.token_bytes)
        if second.public_key == key.public_key:
            raise KeyFileError(
                f"{inner.path / NODE_KEY} is the key of the onion identity, too, so whoever sees both knows"
                " that they are one: remove that file for a new key, or join them by --single-identity"
            )
        pair = _two(settings, process, (key, data), (second, inner), ways)
        guard.pop_all()
    return pair


def _two(
    settings: Settings,
    process: Process,
    first: tuple[NodeKey, DataDir],
    second: tuple[NodeKey, DataDir],
    ways: WaysOut,
) -> tuple[Identity, Identity]:
    """Make both, each from its key and its data folder."""
    hidden, seen = share_of_peers(settings.maxpeers, secrets.token_bytes)
    onion = Identity(
        onion_side(settings, hidden),
        process,
        *first,
        replace(ways, nodes=ways.nodes.narrowed(Mode.ONLY_ONION, _HIDDEN_WAYS)),
        side=Side.ONION,
        is_mine=_only(settings.mode, Side.ONION),
    )
    clearnet = Identity(
        clearnet_side(settings, seen),
        process,
        *second,
        WaysOut(ways.nodes.narrowed(Mode.NO_TOR, {Way.DIRECT}), None, ways.onion_pacer, None),
        side=Side.CLEARNET,
        is_mine=_only(settings.mode, Side.CLEARNET),
    )
    onion.twin, clearnet.twin = clearnet, onion
    return onion, clearnet


def share_of_peers(total: int, rand: Callable[[int], bytes]) -> tuple[int, int]:
    """Share the places for peers out at random: two relays of the same odd size would be worth a second look.

    Returns:
        Two numbers, each two to three fifths of the total, and one at least if the total is.
    """
    if total < 2:
        return total, total
    least = total * 2 // 5
    drawn = int.from_bytes(rand(8), "big") % (total - 2 * least + 1)
    first = min(max(least + drawn, 1), total - 1)
    return first, total - first


def bridge_of(identities: Sequence[Identity], loop: Loop) -> Bridge | None:
    """Return what joins the pools of two identities; None where there is one."""
    if len(identities) < 2:
        return None
    one, other = identities
    return Bridge((one.eth, one.news), (other.eth, other.news), loop, secrets.token_bytes)


class NamedNodes:
    """Nodes that the user names: each goes to the identity that is to reach it.

    Args:
        mode: of the whole relay.
        identities: one or two.
    """

    def __init__(self, mode: Mode, identities: Sequence[Identity]) -> None:
        self._mode, self._identities = mode, identities
        self._told: dict[PublicKey, Identity] = {}  # by admin_addPeer, which the files don't undo

    def identity_of(self, node: Node) -> Identity:
        """Return whose it is; what has no address is the first one's."""
        side = side_of(self._mode, node) or Side.ONION
        return next((each for each in self._identities if each.side in (None, side)), self._identities[0])

    def replace_static(self, nodes: Iterable[Node]) -> None:
        """Make these the static nodes of the file, but for those that the other identity was told to keep.

        If both were named the node, each would leave it to the other.
        """
        for identity, share in self._shares(nodes):
            mine = [each for each in share if self._told.get(each.public_key, identity) is identity]
            identity.scheduler.replace_static(mine)

    def replace_trusted(self, nodes: Iterable[Node]) -> None:
        """Make these the trusted nodes of the file."""
        for identity, share in self._shares(nodes):
            identity.scheduler.replace_trusted(share)

    def _shares(self, nodes: Iterable[Node]) -> list[tuple[Identity, list[Node]]]:
        named = {node.public_key: node for node in nodes}  # the last word on a key counts
        return [
            (identity, [each for each in named.values() if self.identity_of(each) is identity])
            for identity in self._identities
        ]

    def add_peer(self, node: Node) -> None:
        """Keep a node connected; if the other identity had been told to, it no longer is."""
        identity = self.identity_of(node)
        for other in self._identities:
            if other is not identity and other.scheduler.is_static(node.public_key):
                other.scheduler.remove_peer(node.public_key)
        self._told[node.public_key] = identity
        identity.scheduler.add_static(node)

    def remove_peer(self, public_key: PublicKey) -> None:
        """Disconnect a node and dial it no more."""
        self._told.pop(public_key, None)
        for identity in self._identities:
            identity.scheduler.remove_peer(public_key)

    def trust(self, node: Node) -> None:
        """Let a node in whatever the limits of its identity."""
        self.identity_of(node).peers.trust(node.public_key)

    def distrust(self, public_key: PublicKey) -> None:
        """Undo `trust`."""
        for identity in self._identities:
            identity.peers.distrust(public_key)

    @property
    def static_loaded(self) -> int:
        """How many static nodes there are."""
        return sum(each.scheduler.static_loaded for each in self._identities)

    @property
    def static_connected(self) -> int:
        """How many of them are peers."""
        return sum(each.scheduler.static_connected for each in self._identities)


def _only(mode: Mode, side: Side) -> Callable[[Node], str | None]:
    """Keep from an identity what is for the other by the addresses that it shows."""
    return lambda node: None if side_of(mode, node) is side else _THE_OTHERS
