"""What admin_peers tells of a peer, in geth's shape; spec: geth's p2p/peer.go, PeerInfo."""

from __future__ import annotations

from dataclasses import dataclass

from relay.peering.session import PeerSession
from relay.primitives.endpoint import Endpoint
from relay.primitives.enode import Enode
from relay.primitives.keys import node_id

__all__ = ["PeerInfo", "peer_info"]


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A joined peer.

    Attributes:
        enode: its URL; without a host where its address is not known, as of peers through our onion service.
        id: node id in hex.
        name: its client's name, as it calls itself.
        caps: "name/version" of every capability it offered.
        local_address: our end of the connection, "" if it has no name.
        remote_address: its address; "" where it is not known.
        network: its network class.
        inbound, trusted, static: how it came about.
        eth_version: the version that is run.
        earliest, latest, latest_hash: its block range as far as known; None before eth/69.
        included: of the transactions that it brought first, how many a block brings, on the moving average.
        identity: which of our two identities it is a peer of; "" where there is one.
    """

    enode: str
    id: str
    name: str
    caps: tuple[str, ...]
    local_address: str
    remote_address: str
    network: str
    inbound: bool
    trusted: bool
    static: bool
    eth_version: int
    earliest: int | None
    latest: int | None
    latest_hash: bytes | None
    included: float | None = None
    identity: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the object that admin_peers answers."""
        eth: dict[str, object] = {"version": self.eth_version}
        if self.latest_hash is not None:
            eth |= {
                "earliestBlock": self.earliest,
                "latestBlock": self.latest,
                "latestBlockHash": "0x" + self.latest_hash.hex(),
            }
        if self.included is not None:
            eth["included"] = round(self.included, 4)
        network = {
            "localAddress": self.local_address,
            "remoteAddress": self.remote_address,
            "inbound": self.inbound,
            "trusted": self.trusted,
            "static": self.static,
        }
        shown: dict[str, object] = {
            "enode": self.enode,
            "id": self.id,
            "name": self.name,
            "caps": list(self.caps),
            "network": network,
            "protocols": {"eth": eth},
        }
        return shown | {"identity": self.identity} if self.identity else shown


def peer_info(session: PeerSession, included: float | None = None, identity: str = "") -> PeerInfo:
    """Describe a joined peer; included, identity: see `PeerInfo`."""
    assert session.public_key is not None
    assert session.hello is not None
    assert session.eth is not None
    assert session.status is not None
    status, endpoint = session.status, session.endpoint
    ranged = session.eth.version >= 69
    port = endpoint.port if endpoint else 0
    return PeerInfo(
        enode=Enode(session.public_key, endpoint.host if endpoint else None, port, port).url,
        id=node_id(session.public_key).hex(),
        name=session.hello.client,
        caps=tuple(f"{each.name}/{each.version}" for each in session.hello.capabilities),
        local_address=_own_address(session),
        remote_address=str(endpoint) if endpoint else "",
        network=session.label.value,
        inbound=session.inbound,
        trusted=session.trusted,
        static=session.static,
        eth_version=session.eth.version,
        earliest=status.earliest if ranged else None,
        latest=status.latest if ranged else None,
        latest_hash=status.latest_hash if ranged else None,
        included=included,
        identity=identity,
    )


def _own_address(session: PeerSession) -> str:
    name = session.transport.get_extra_info("sockname") if session.transport else None
    if isinstance(name, tuple) and len(name) >= 2:
        return str(Endpoint.parse(str(name[0]).partition("%")[0], int(name[1])))
    return name if isinstance(name, str) else ""
