"""Pods of a real API server, with the tokens that kubelet would mount for them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from relay.kubernetes.api import Api
from relay.kubernetes.connect import connected
from relay.kubernetes.discovery import Seams
from relay.kubernetes.options import ApiOptions, Own
from tests.aids.kube_apiserver import ApiServer
from tests.aids.kubernetes import CLUSTER_KEY, Pod, pod

RELAYS = "gethrelay-tor-discovery"
PRUNE = "tor-peer-prune"
BASE = Path(__file__).parents[2] / "deployment" / "kubernetes" / "base"


@dataclass
class RunningPod:
    """A relay's pod. uid: of the object."""

    relay: Pod
    uid: str
    account: Path
    config: Path
    namespace: str

    @property
    def own(self) -> Own:
        place = self.relay.place
        return Own(
            type(place)(place.cluster, self.namespace, place.pod), self.uid, 30303,
            self.account.parent / "data", CLUSTER_KEY,
        )  # fmt: skip


def install(server: ApiServer, namespace: str) -> None:
    """Make our namespace, and put rights and policies in force."""
    with server.admin() as admin:
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        admin.post("/api/v1/namespaces", json=made).raise_for_status()
    for name in ("rbac.yaml", "admission.yaml"):
        server.kubectl("apply", "-f", str(BASE / name))
    _wait_for_policies(server, namespace)


def _wait_for_policies(server: ApiServer, namespace: str) -> None:
    """A policy takes hold some time after it was accepted: ask until it refuses what it must."""
    as_relay = ("--as", f"system:serviceaccount:{namespace}:{RELAYS}")
    lease: dict[str, object] = {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "probe"}, "spec": {},
    }  # fmt: skip
    book = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tor-peer-addresses"},
        "data": {"x": "y"},
    }  # fmt: skip
    end = time.monotonic() + 120
    for probe in (lease, book):
        while time.monotonic() < end:
            done = server.kubectl(
                "apply", "--server-side", "--dry-run=server", "-n", namespace, "-f", "-", *as_relay,
                text=json.dumps(probe), check=False,
            )  # fmt: skip
            if "ValidatingAdmissionPolicy" in done.stderr:
                break
            time.sleep(0.2)
        else:
            raise RuntimeError(f"the policies do not take hold: {done.stderr}")


def make_pods(
    server: ApiServer, folder: Path, namespace: str, names: list[str], account: str = RELAYS
) -> list[RunningPod]:
    """Create pods, which never run, and their tokens."""
    with server.admin() as admin:
        return [_make(server, admin, folder / name, namespace, name, account) for name in names]


def _make(
    server: ApiServer, admin: httpx2.Client, folder: Path, namespace: str, name: str, account: str
) -> RunningPod:
    uid = create_pod(admin, namespace, name, account)
    mount = server.account(folder / "account", token(admin, namespace, account, name, uid), namespace)
    config = server.kubeconfig_of(folder / "kubeconfig", mount / "token", namespace)
    relay = pod(name)
    relay.volume(folder / "data")
    return RunningPod(relay, uid, mount, config, namespace)


def create_pod(admin: httpx2.Client, namespace: str, name: str, account: str) -> str:
    """Create a pod, which nobody runs; return its uid."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"serviceAccountName": account, "containers": [{"name": "relay", "image": "none"}]},
    }
    made = admin.post(f"/api/v1/namespaces/{namespace}/pods", json=body)
    made.raise_for_status()
    return str(made.json()["metadata"]["uid"])


def token(admin: httpx2.Client, namespace: str, account: str, name: str = "", uid: str = "") -> str:
    """Ask for a token as kubelet does: bound to a pod; without a name: to nothing."""
    spec: dict[str, object] = {"expirationSeconds": 3600}
    if name:
        spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}
    answer = admin.post(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
        json={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
    )
    answer.raise_for_status()
    return str(answer.json()["status"]["token"])


@asynccontextmanager
async def api_of(it: RunningPod, timeout: float = 60.0) -> AsyncIterator[Api]:
    async with connected(ApiOptions(kubeconfig=it.config, timeout=timeout), it.namespace) as api:
        yield api


def real_seams(shorten: float = 1.0) -> Seams:
    """Real time and chance. shorten: pauses are this part of what they would be."""
    return Seams(
        time.monotonic, time.time, random.random, os.urandom, lambda seconds: asyncio.sleep(seconds * shorten)
    )
