"""A real kube-apiserver for the session. PYRELAY_TEST_KUBERNETES: what tools/install-kubernetes.sh prints."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aids.kube_apiserver import ApiServer, api_server

NAMESPACE = "gethrelay"
BASE = Path(__file__).parents[2] / "deployment" / "kubernetes" / "base"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    binaries = os.environ.get("PYRELAY_TEST_KUBERNETES")
    if not binaries:
        pytest.skip("make e2e-kubernetes builds a kube-apiserver and gives its folder")
    # Leases are watched in etcd itself, so that a test can outlive its history: 410.
    with api_server(
        Path(binaries), tmp_path_factory.mktemp("kube"), "--watch-cache-sizes=leases.coordination.k8s.io#0"
    ) as found:
        yield found


@pytest.fixture(scope="session")
def installed(server: ApiServer) -> ApiServer:
    """The server with our namespace, rights and policies in force."""
    with server.admin() as admin:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        admin.post("/api/v1/namespaces", json=namespace).raise_for_status()
    for name in ("rbac.yaml", "admission.yaml"):
        server.kubectl("apply", "-f", str(BASE / name))
    _wait_for_policies(server)
    return server


def _wait_for_policies(server: ApiServer) -> None:
    """A policy takes hold some time after it was accepted: ask until it refuses what it must."""
    as_relay = ("--as", f"system:serviceaccount:{NAMESPACE}:gethrelay-tor-discovery")
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
                "apply", "--server-side", "--dry-run=server", "-n", NAMESPACE, "-f", "-", *as_relay,
                text=json.dumps(probe), check=False,
            )  # fmt: skip
            if "ValidatingAdmissionPolicy" in done.stderr:
                break
            time.sleep(0.2)
        else:
            raise RuntimeError(f"the policies do not take hold: {done.stderr}")
