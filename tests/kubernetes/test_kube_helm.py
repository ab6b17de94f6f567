"""The chart installed, changed and taken back by helm, on an API server of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aids.chart import CHART, ours
from tests.aids.kube_apiserver import ApiServer, api_server
from tests.aids.line_process import installed
from tests.aids.manifests import OVERLAYS, Object

CLUSTER = (
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ClusterRole",
    "ClusterRoleBinding",
)


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Empty: helm takes over nothing that was there before it."""
    binaries = os.environ.get("PYRELAY_TEST_KUBERNETES")
    if not binaries:
        pytest.skip("make e2e-kubernetes builds a kube-apiserver and gives its folder")
    with api_server(Path(binaries), tmp_path_factory.mktemp("helm")) as found:
        yield found


class Helm:
    """helm with an empty home and one cluster."""

    def __init__(self, server: ApiServer, home: Path) -> None:
        self._program = installed("install-helm.sh")
        self._env = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(server.kubeconfig)}

    def __call__(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *words], capture_output=True, text=True, check=False, env=self._env
        )

    def good(self, *words: str | Path) -> str:
        done = self(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def helm(own_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(own_server, tmp_path_factory.mktemp("home"))


def there(server: ApiServer, objects: list[Object], namespace: str = "gethrelay") -> set[tuple[str, str]]:
    """Name those that the server has."""
    found = set()
    for kind in {each["kind"] for each in objects}:
        scope = () if kind in CLUSTER else ("-n", namespace)
        told = json.loads(server.kubectl("get", kind, "-o", "json", *scope).stdout)
        found |= {(kind, each["metadata"]["name"]) for each in told["items"]}
    return found & named(objects)


def named(objects: list[Object]) -> set[tuple[str, str]]:
    return {(each["kind"], each["metadata"]["name"]) for each in objects}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_is_installed_changed_and_taken_back(own_server: ApiServer, helm: Helm, overlay: str) -> None:
    objects = ours(overlay)
    chosen = ("relays", CHART, "-n", "gethrelay", "--set", f"overlay={overlay}")
    said = helm.good("install", *chosen, "--create-namespace")
    assert "kubectl get configmap tor-peer-addresses -n gethrelay -o yaml" in said
    assert there(own_server, objects) == named(objects)

    helm.good("upgrade", *chosen, "--set", "network=hoodi")
    sets = json.loads(own_server.kubectl("get", "statefulsets", "-n", "gethrelay", "-o", "json").stdout)
    assert "--network=hoodi" in json.dumps(sets)

    helm.good("rollback", "relays", "1", "-n", "gethrelay")
    sets = json.loads(own_server.kubectl("get", "statefulsets", "-n", "gethrelay", "-o", "json").stdout)
    assert "--network=hoodi" not in json.dumps(sets)

    helm.good("uninstall", "relays", "-n", "gethrelay")
    assert there(own_server, objects) == set()


def test_a_second_release_in_another_namespace_is_refused(own_server: ApiServer, helm: Helm) -> None:
    """The admission policies are the cluster's."""
    helm.good("install", "relays", CHART, "-n", "gethrelay", "--create-namespace")
    again = helm("install", "more", CHART, "-n", "elsewhere", "--create-namespace")
    assert again.returncode != 0
    assert "ValidatingAdmissionPolicy" in again.stderr
    assert "cannot be imported into the current release" in again.stderr
    assert there(own_server, ours("sidecar")) == named(ours("sidecar"))
    helm.good("uninstall", "relays", "-n", "gethrelay")
