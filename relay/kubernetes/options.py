"""What the Kubernetes programs are told: values with their units and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from relay.kubernetes.entry import ClusterKey, Place
from relay.primitives.address import Address

__all__ = ["ApiOptions", "BookMode", "BookOptions", "DiscoveryOptions", "Own"]

BOOK: Final = "tor-peer-addresses"
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class BookMode(StrEnum):
    """Where entries are kept."""

    CONFIGMAP = "configmap"
    """One ConfigMap, one key a pod: each heartbeat is sent whole to every pod."""
    OBJECTS = "objects"
    """One Lease a pod: a heartbeat is sent alone. The ConfigMap keeps a line a pod, for people."""
    AUTO = "auto"
    """The ConfigMap up to some fifty pods, Leases above."""


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """How the API server is reached: by the pod's own mount, or a kubeconfig.

    Attributes:
        host: IP address or name; empty with a kubeconfig.
        port: of the server.
        account: folder with token, ca.crt and namespace, as kubelet mounts it.
        kubeconfig: for people, outside of a pod.
        timeout: seconds for one answer.
    """

    host: str = ""
    port: int = 443
    account: Path = SERVICE_ACCOUNT
    kubeconfig: Path | None = None
    timeout: float = 15.0


@dataclass(frozen=True, slots=True)
class Own:
    """Who this pod is.

    Attributes:
        place: cluster, namespace and pod.
        uid: of the Pod object; empty where it was not told: then nothing is owned by the pod.
        port: that peers dial at the onion.
        datadir: the relay's data folder, with its keys.
        cluster_key: None believes whoever signs.
    """

    place: Place
    uid: str
    port: int
    datadir: Path
    cluster_key: ClusterKey | None


@dataclass(frozen=True, slots=True)
class BookOptions:
    """The address book's rules.

    Attributes:
        name: of the ConfigMap.
        mode: where entries are kept.
        objects_from: pods from which on `auto` takes one object a pod.
        heartbeat: seconds between two of our entries.
        jitter: part of the heartbeat by which each is earlier or later.
        stale_after: seconds without a change until an entry is left out.
    """

    name: str = BOOK
    mode: BookMode = BookMode.AUTO
    objects_from: int = 50
    heartbeat: float = 300.0
    jitter: float = 0.2
    stale_after: float = 1200.0


@dataclass(frozen=True, slots=True)
class DiscoveryOptions:
    """The sidecar's own.

    Attributes:
        static_nodes: the file that it writes and the daemon follows.
        ipc: the daemon's socket; asked for its record.
        add_peers: tell the daemon of each new peer too, for one that follows no file.
        tor_proxy: for the health check and joins.
        check_peers: dial an entry's onion before it is passed on.
        joins: URLs of daemons of other clusters, asked for their node.
        metrics: where /metrics is served; None: nowhere.
    """

    static_nodes: Path
    ipc: Path
    add_peers: bool = False
    tor_proxy: Address | None = None
    check_peers: bool = False
    joins: tuple[str, ...] = field(default=())
    metrics: tuple[str, int] | None = None
