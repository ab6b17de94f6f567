"""A real kube-apiserver takes every object of the stack's overlays, by a dry run; and never two validators.

PYRELAY_TEST_KUBERNETES is what tools/install-kubernetes.sh prints; without it these are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.aids.kube_apiserver import ApiServer, api_server
from tests.aids.stack_monitoring import ROOT

KUBERNETES = ROOT / "deployment" / "kubernetes"
STACKS = [f"ethereum/overlays/{name}" for name in (
    "mainnet", "sepolia", "hoodi", "ha", "validator", "diversity", "with-pyrelay",
)] + ["monitoring"]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    binaries = os.environ.get("PYRELAY_TEST_KUBERNETES")
    if not binaries:
        pytest.skip("tools/install-kubernetes.sh builds a kube-apiserver and gives its folder")
    with api_server(Path(binaries), tmp_path_factory.mktemp("kube")) as found:
        for name in ("ethereum", "monitoring", "gethrelay"):
            found.kubectl("create", "namespace", name)
            found.kubectl("label", "namespace", name, "pod-security.kubernetes.io/warn=restricted")
        yield found


def rendered(server: ApiServer, folder: str) -> list[dict[str, Any]]:
    done = server.kubectl("kustomize", str(KUBERNETES / folder))
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def apply(server: ApiServer, objects: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    return server.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-",
        text="\n---\n".join(map(json.dumps, objects)), check=False,
    )  # fmt: skip


@pytest.mark.parametrize("folder", STACKS)
def test_the_server_takes_every_object(server: ApiServer, folder: str) -> None:
    objects = [each for each in rendered(server, folder) if each["kind"] != "Namespace"]
    done = apply(server, objects)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(objects)
    assert "would violate PodSecurity" not in done.stderr
    assert "Warning" not in done.stderr


def test_the_server_would_not_take_a_field_that_there_is_not(server: ApiServer) -> None:
    [pod] = [each for each in rendered(server, "ethereum/overlays/hoodi") if each["kind"] == "Deployment"]
    pod["spec"]["template"]["spec"]["containers"][0]["securityContext"]["fsGroup"] = 1
    assert apply(server, [pod]).returncode != 0


def test_the_server_would_warn_of_a_pod_that_is_not_restricted(server: ApiServer) -> None:
    [pod] = [each for each in rendered(server, "ethereum/overlays/hoodi") if each["kind"] == "Deployment"]
    del pod["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]
    assert "would violate PodSecurity" in apply(server, [pod]).stderr


def test_a_second_validator_is_refused(server: ApiServer) -> None:
    objects = rendered(server, "ethereum/overlays/validator")
    policies = [each for each in objects if each["kind"].startswith("ValidatingAdmission")]
    server.kubectl("apply", "-f", "-", text="\n---\n".join(map(json.dumps, policies)))
    [client] = [
        each for each in objects if each["metadata"]["name"] == "validator" and each["kind"] == "StatefulSet"
    ]
    client["spec"]["replicas"] = 2
    end = time.monotonic() + 120
    while "two validators" not in (done := apply(server, [client])).stderr and time.monotonic() < end:
        time.sleep(0.2)  # a policy takes hold some time after it was accepted
    assert "two validators" in done.stderr
    client["spec"]["replicas"] = 1
    assert server.kubectl("apply", "-f", "-", text=json.dumps(client)).returncode == 0
    scaled = server.kubectl("-n", "ethereum", "scale", "statefulset/validator", "--replicas=2", check=False)
    assert "two validators" in scaled.stderr
