"""From the JSON of any node to `Peer`: admin_peers of execution nodes, /eth/v1/node/peers of beacon nodes.

Each node has its own shape, and each field may be missing, of another type or hostile: a peer without
anything to tell it by is refused and counted, everything else falls back to unknown. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from relay.monitor.peer import (
    MAX_CAPS,
    UNKNOWN,
    Address,
    Peer,
    address_of,
    clean,
    read_address,
    read_client,
)

__all__ = ["MAX_PEERS", "PeerList", "PeerReader", "beacon_peers", "execution_peers"]

MAX_PEERS: Final = 20_000  # of one node; further ones are refused, and counted
MAX_KEY: Final = 160
MAX_ENODE: Final = 512
MAX_CAP: Final = 24
MAX_BLOCK: Final = 1 << 63
_NONE: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class PeerList:
    """What one answer holds.

    Attributes:
        peers: each key once.
        refused: entries that are no peers, or too many.
        waiting: connected, but not through the handshake of eth, or not connected yet.
    """

    peers: tuple[Peer, ...] = ()
    refused: int = 0
    waiting: int = 0


class PeerReader:
    """Reads the entries of admin_peers again and again: what has not changed is the same `Peer` as before.

    Args:
        remember: keep what was read; without it each answer is read from nothing.
    """

    def __init__(self, *, remember: bool = True) -> None:
        self._remember = remember
        self._known: dict[int, Peer] = {}

    def read(self, entries: Iterable[Any], *, of_pyrelay: bool = False) -> PeerList:
        """Read one answer.

        Args:
            entries: of the answer.
            of_pyrelay: who has no address there came through the onion service, where nobody has one. Of
                other nodes such a peer is 127.0.0.1: Tor's own address.
        """
        known: dict[int, Peer] = self._known
        now: dict[int, Peer] = {}

        def read() -> Iterator[Peer | bool]:
            for entry in entries:
                mark = _mark(entry, of_pyrelay) if self._remember else None
                peer: Peer | bool | None = None if mark is None else known.get(mark)
                if peer is None:
                    peer = _execution_peer(entry, of_pyrelay)
                if mark is not None and isinstance(peer, Peer) and len(now) < MAX_PEERS:
                    now[mark] = peer
                yield peer

        found = _collect(read())
        self._known = now
        return found


def execution_peers(entries: Iterable[Any], *, of_pyrelay: bool = False) -> PeerList:
    """Read the entries of one answer of admin_peers; see `PeerReader.read`."""
    return PeerReader(remember=False).read(entries, of_pyrelay=of_pyrelay)


def beacon_peers(entries: Iterable[Any]) -> PeerList:
    """Read the entries of /eth/v1/node/peers; those that are not connected count as waiting."""
    return _collect(_beacon_peer(each) for each in entries)


def _collect(found: Iterable[Peer | bool]) -> PeerList:
    peers: dict[str, Peer] = {}
    refused = waiting = 0
    for each in found:
        if isinstance(each, bool):
            refused, waiting = refused + (not each), waiting + each
        elif each.key in peers or len(peers) >= MAX_PEERS:
            refused += 1
        else:
            peers[each.key] = each
    return PeerList(tuple(peers.values()), refused, waiting)


def _mark(entry: Any, of_pyrelay: bool) -> int | None:  # noqa: ANN401 - whatever JSON holds
    """Return a hash of all that is read of an entry of the usual form; None for one of another form.

    Python's hash of text has a secret, so nobody can make two entries with the same.
    """
    try:
        network, protocols = entry["network"], entry["protocols"]
        eth, snap = protocols["eth"], protocols.get("snap")
        fields = (
            of_pyrelay, entry["id"], entry["enode"], entry["name"], *entry["caps"],
            network["remoteAddress"], network["inbound"], network.get("trusted"), network.get("static"),
            eth["version"], eth.get("latestBlock"), "snap" in protocols, snap and snap["version"],
        )  # fmt: skip
        return hash(fields) if "clientId" not in entry else None
    except (LookupError, TypeError, AttributeError):
        return None


def _execution_peer(entry: Any, of_pyrelay: bool) -> Peer | bool:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(entry, dict):
        return False
    if "clientId" in entry:
        return _old_nethermind_peer(entry)
    enode = _text(entry.get("enode"), MAX_ENODE)
    key = _text(entry.get("id"), MAX_KEY) or enode
    if not key:
        return False
    network, protocols = _object(entry.get("network")), _object(entry.get("protocols"))
    caps = _caps(entry.get("caps"))
    address = read_address(_text(network.get("remoteAddress"), MAX_ENODE))
    if of_pyrelay and not address.host:
        address = Address("onion")
    name = _text(entry.get("name"), MAX_ENODE)
    eth = protocols.get("eth")
    return Peer(
        key=clean(key),
        name=read_client(name),
        inbound=_flag(network.get("inbound")),
        trusted=network.get("trusted") is True,
        static=network.get("static") is True,
        address=address,
        # Erigon tells no protocols, only what is offered: the highest version is what two of today agree on.
        eth=_version(eth) if "eth" in protocols else _offered(caps, "eth"),
        snap=_version(protocols.get("snap")) if "snap" in protocols else _snap(caps, protocols),
        caps=caps,
        head=_number(_object(eth).get("latestBlock")),
        full_name=clean(name),
        enode=clean(enode, MAX_ENODE),
    )


def _old_nethermind_peer(entry: Mapping[str, Any]) -> Peer | bool:
    enode = _text(entry.get("enode"), MAX_ENODE)
    host, port = _text(entry.get("host"), MAX_KEY), _number(entry.get("port"))
    address = address_of(host, port or 0) if host else read_address(_text(entry.get("address"), MAX_ENODE))
    key = enode.partition("@")[0].removeprefix("enode://") or str(address)
    if key in ("", UNKNOWN):
        return False
    details = _text(entry.get("ethDetails"), MAX_CAP)
    name = _text(entry.get("clientId"), MAX_ENODE)
    return Peer(
        key=clean(key),
        name=read_client(name),
        inbound=None,
        trusted=entry.get("isTrusted") is True,
        static=entry.get("isStatic") is True,
        address=address,
        eth=_number(details.removeprefix("eth").lstrip("/")) if details.startswith("eth") else None,
        full_name=clean(name),
        enode=clean(enode, MAX_ENODE),
    )


def _beacon_peer(entry: Any) -> Peer | bool:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(entry, dict):
        return False
    key = _text(entry.get("peer_id"), MAX_KEY)
    if not key:
        return False
    if entry.get("state") not in ("connected", None):
        return True
    agent = _text(entry.get("agent") or entry.get("agent_version"), MAX_ENODE)  # of Nimbus; no standard
    inbound = {"inbound": True, "outbound": False}.get(_text(entry.get("direction"), 16))
    return Peer(
        key=clean(key),
        name=read_client(agent),
        inbound=inbound,
        trusted=False,
        static=False,
        address=_multiaddress(_text(entry.get("last_seen_p2p_address"), MAX_ENODE)),
        full_name=clean(agent),
        enode=clean(_text(entry.get("enr"), MAX_ENODE), MAX_ENODE),
    )


def _multiaddress(text: str) -> Address:
    """Read /ip4/1.2.3.4/tcp/9000/p2p/..., also with udp and quic."""
    parts = text.split("/")
    if len(parts) < 5 or parts[1] not in ("ip4", "ip6"):
        return Address("unknown")
    port = _number(parts[4])
    return address_of(parts[2], port if port is not None and port <= 0xFFFF else 0)


def _text(value: Any, limit: int) -> str:  # noqa: ANN401 - whatever JSON holds
    return value[:limit] if isinstance(value, str) else ""


def _object(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - whatever JSON holds
    return value if isinstance(value, dict) else _NONE


def _flag(value: Any) -> bool | None:  # noqa: ANN401 - whatever JSON holds
    return value if isinstance(value, bool) else None


def _number(value: Any) -> int | None:  # noqa: ANN401 - whatever JSON holds
    """Read a number, a decimal or a hex text, from 0 to below MAX_BLOCK."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii():
        try:
            value = int(value, 16 if value.startswith("0x") else 10)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < MAX_BLOCK else None


def _caps(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(value, list):
        return ()
    return tuple(clean(each, MAX_CAP) for each in value[:MAX_CAPS] if isinstance(each, str))


def _version(value: Any) -> int | None:  # noqa: ANN401 - whatever JSON holds
    """Read a protocol's entry; geth's "handshake" and "unknown" have no version yet."""
    version = _number(_object(value).get("version"))
    return version if version and version < 1000 else None


def _snap(caps: tuple[str, ...], protocols: Mapping[str, Any]) -> int | None:
    """Return what is offered where the node does not tell what is spoken: reth and Besu tell of eth only."""
    return None if _is_exact(protocols) else _offered(caps, "snap")


def _is_exact(protocols: Mapping[str, Any]) -> bool:
    """Tell whether a node lists each protocol that is spoken: geth does, and its eth tells the range."""
    return "latestBlock" in _object(protocols.get("eth"))


def _offered(caps: tuple[str, ...], name: str) -> int | None:
    versions = [_number(cap.partition("/")[2]) for cap in caps if cap.startswith(f"{name}/")]
    return max((each for each in versions if each and each < 1000), default=None)
