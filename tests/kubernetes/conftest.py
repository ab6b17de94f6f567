"""A real kube-apiserver for the session. PYRELAY_TEST_KUBERNETES: what tools/install-kubernetes.sh prints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aids.kube_apiserver import ApiServer, api_server
from tests.aids.kube_pods import install
from tests.aids.stack_cluster import KUBERNETES, NAMESPACES, define

NAMESPACE = "gethrelay"


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
    install(server, NAMESPACE)
    return server


@pytest.fixture(scope="session")
def stack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A second one for the Ethereum stack, with its namespaces and its audit policy; it writes audit.log."""
    binaries = os.environ.get("PYRELAY_TEST_KUBERNETES")
    if not binaries:
        pytest.skip("make e2e-kubernetes builds a kube-apiserver and gives its folder")
    folder = tmp_path_factory.mktemp("stack")
    with api_server(
        Path(binaries), folder, f"--audit-policy-file={KUBERNETES / 'ethereum' / 'audit-policy.yaml'}",
        f"--audit-log-path={folder / 'audit.log'}", "--audit-log-mode=blocking",
    ) as found:  # fmt: skip
        for name in NAMESPACES:
            found.kubectl("create", "namespace", name)
            found.kubectl("label", "namespace", name, "pod-security.kubernetes.io/warn=restricted")
        yield found


@pytest.fixture(scope="session")
def definitions(stack_server: ApiServer) -> None:
    """The custom resources that the stack uses, in force."""
    folder = os.environ.get("PYRELAY_TEST_KUBE_DEFINITIONS")
    if not folder:
        pytest.skip("tools/install-kube-definitions.sh fetches definitions and gives their folder")
    define(stack_server, Path(folder))
