"""What a real kube-apiserver writes down with our audit policy: who touched what, and no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.aids.kube_apiserver import ApiServer

SECRET = "aud1t-must-not-hold-this"


def written(server: ApiServer, **wanted: str) -> list[dict[str, Any]]:
    """Find events whose object (resource, name, subresource ...) is that."""
    lines = (server.folder / "audit.log").read_text().splitlines()
    found = [json.loads(each) for each in lines]
    return [each for each in found if wanted.items() <= each.get("objectRef", {}).items()]


@pytest.fixture(scope="module", autouse=True)
def acts(stack_server: ApiServer) -> None:
    """A secret is made and read, a workload scaled, a policy taken away; and somebody looks around."""
    run = stack_server.kubectl
    run("-n", "ethereum", "create", "secret", "generic", "audited", f"--from-literal=jwt.hex={SECRET}")
    run("-n", "ethereum", "get", "secret", "audited")
    run("-n", "ethereum", "create", "deployment", "audited", "--image=none:0", "--replicas=0")
    run("-n", "ethereum", "scale", "deployment", "audited", "--replicas=1")
    run("-n", "ethereum", "delete", "deployment", "audited")
    run("-n", "ethereum", "get", "configmaps")
    with stack_server.admin() as admin:  # kubectl would look for the pod first
        admin.post("/api/v1/namespaces/ethereum/pods/nobody-0/exec?command=id")
    run("-n", "default", "create", "configmap", "elsewhere")


def test_who_reads_a_secret_is_written_and_what_it_holds_is_not(stack_server: ApiServer) -> None:
    events = written(stack_server, resource="secrets", name="audited", namespace="ethereum")
    assert {each["verb"] for each in events} == {"create", "get"}
    for each in events:
        assert each["user"]["username"] == "admin"
        assert each["level"] == "Metadata"
    assert SECRET not in (stack_server.folder / "audit.log").read_text()


def test_what_is_asked_of_a_workload_is_written(stack_server: ApiServer) -> None:
    [scaled] = written(stack_server, resource="deployments", name="audited", subresource="scale")
    assert scaled["requestObject"]["spec"]["replicas"] == 1
    deleted = [each for each in written(stack_server, resource="deployments") if each["verb"] == "delete"]
    assert [each["objectRef"]["name"] for each in deleted] == ["audited"]


def test_who_only_looks_or_is_elsewhere_is_not_written(stack_server: ApiServer) -> None:
    assert not written(stack_server, resource="configmaps")
    assert not [each for each in written(stack_server, resource="deployments") if each["verb"] == "get"]
    assert not written(stack_server, resource="leases")


def test_a_shell_in_a_pod_is_written_even_when_there_is_no_pod(stack_server: ApiServer) -> None:
    events = written(stack_server, resource="pods", subresource="exec")
    assert {each["objectRef"]["name"] for each in events} == {"nobody-0"}
    assert {each["level"] for each in events} == {"Metadata"}
