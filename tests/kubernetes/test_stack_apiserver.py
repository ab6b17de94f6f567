"""A real kube-apiserver takes every object of the stack's overlays, by a dry run; and never two validators.

PYRELAY_TEST_KUBERNETES is what tools/install-kubernetes.sh prints; without it these are skipped.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.aids.kube_apiserver import ApiServer
from tests.aids.stack_cluster import KUBERNETES, dry_run, rendered

STACKS = [f"ethereum/overlays/{name}" for name in (
    "mainnet", "sepolia", "hoodi", "ha", "validator", "diversity", "with-pyrelay",
)] + ["monitoring"]  # fmt: skip


@pytest.mark.parametrize("folder", STACKS)
def test_the_server_takes_every_object(stack_server: ApiServer, folder: str) -> None:
    objects = [each for each in rendered(stack_server, KUBERNETES / folder) if each["kind"] != "Namespace"]
    done = dry_run(stack_server, objects)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(objects)
    assert "would violate PodSecurity" not in done.stderr
    assert "Warning" not in done.stderr


def test_the_server_would_not_take_a_field_that_there_is_not(stack_server: ApiServer) -> None:
    [pod] = [
        each
        for each in rendered(stack_server, KUBERNETES / "ethereum/overlays/hoodi")
        if each["kind"] == "Deployment"
    ]
    pod["spec"]["template"]["spec"]["containers"][0]["securityContext"]["fsGroup"] = 1
    assert dry_run(stack_server, [pod]).returncode != 0


def test_the_server_would_warn_of_a_pod_that_is_not_restricted(stack_server: ApiServer) -> None:
    [pod] = [
        each
        for each in rendered(stack_server, KUBERNETES / "ethereum/overlays/hoodi")
        if each["kind"] == "Deployment"
    ]
    del pod["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]
    assert "would violate PodSecurity" in dry_run(stack_server, [pod]).stderr


def test_the_server_takes_what_ships_logs(stack_server: ApiServer) -> None:
    folder = KUBERNETES.parent / "logging"
    objects = [each for each in rendered(stack_server, folder) if each["kind"] != "Namespace"]
    done = dry_run(stack_server, objects)
    assert done.returncode == 0, done.stderr
    assert len([each for each in done.stdout.splitlines() if "(server dry run)" in each]) == len(objects)


def test_a_second_validator_is_refused(stack_server: ApiServer) -> None:
    objects = rendered(stack_server, KUBERNETES / "ethereum/overlays/validator")
    policies = [each for each in objects if each["kind"].startswith("ValidatingAdmission")]
    stack_server.kubectl("apply", "-f", "-", text="\n---\n".join(map(json.dumps, policies)))
    [client] = [
        each for each in objects if each["metadata"]["name"] == "validator" and each["kind"] == "StatefulSet"
    ]
    client["spec"]["replicas"] = 2
    end = time.monotonic() + 120
    while "two validators" not in (done := dry_run(stack_server, [client])).stderr and time.monotonic() < end:
        time.sleep(0.2)  # a policy takes hold some time after it was accepted
    assert "two validators" in done.stderr
    client["spec"]["replicas"] = 1
    assert stack_server.kubectl("apply", "-f", "-", text=json.dumps(client)).returncode == 0
    scaled = stack_server.kubectl(
        "-n", "ethereum", "scale", "statefulset/validator", "--replicas=2", check=False
    )
    assert "two validators" in scaled.stderr
