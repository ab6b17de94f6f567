"""The nightly backup's script with its rights, and the restore runbook's commands, on a real kube-apiserver.

No driver makes snapshots here and no controller makes pods: the test plays the one that lets go of a claim.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.aids.kube_apiserver import ApiServer
from tests.aids.stack_cluster import KUBERNETES, rendered
from tests.aids.stack_monitoring import ROOT

BACKUP = KUBERNETES / "ethereum" / "components" / "backup" / "backup.yaml"
RUNBOOK = (ROOT / "docs" / "runbooks" / "restore.md").read_text()
KEPT = 7
pytestmark = pytest.mark.usefixtures("definitions")


def objects_of(kind: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(BACKUP.read_text()) if each["kind"] == kind]


def names(server: ApiServer, kind: str) -> list[str]:
    return server.kubectl("-n", "ethereum", "get", kind, "-o", "name").stdout.split()


@pytest.fixture(scope="module")
def script(stack_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The CronJob's command, run as its account: with kubectl told where the server is, as in a pod."""
    stack_server.kubectl("apply", "--server-side", "-f", str(BACKUP))
    folder = tmp_path_factory.mktemp("backup")
    token = stack_server.kubectl("-n", "ethereum", "create", "token", "backup").stdout
    (folder / "token").write_text(token)
    config = stack_server.kubeconfig_of(folder / "config", folder / "token", "ethereum")
    [job] = objects_of("CronJob")
    [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    path = f"{stack_server.binaries}{os.pathsep}{os.environ['PATH']}"
    return ["env", f"PATH={path}", f"KUBECONFIG={config}", *container["command"], *container["args"]]


def test_the_newest_seven_snapshots_stay(stack_server: ApiServer, script: list[str]) -> None:
    for night in range(KEPT + 2):
        done = subprocess.run(script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(names(stack_server, "volumesnapshot")) == min(night + 1, KEPT)
    one = stack_server.kubectl("-n", "ethereum", "get", "volumesnapshot", "-o", "json").stdout
    for each in json.loads(one)["items"]:
        assert each["spec"]["source"] == {"persistentVolumeClaimName": "data-geth-0"}


def test_the_backup_can_take_nothing_else(script: list[str]) -> None:
    config = next(each for each in script if each.startswith("KUBECONFIG="))
    for verb, what in (("get", "secrets"), ("delete", "persistentvolumeclaims"), ("create", "pods")):
        asked = ["env", script[1], config, "kubectl", "-n", "ethereum", "auth", "can-i", verb, what]
        assert subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "no"


def commands() -> list[str]:
    """The runbook's commands for geth, in their order."""
    section = RUNBOOK.split("## geth from a VolumeSnapshot")[1]
    return [each for each in re.findall(r"`(kubectl [^`]+)`", section) if "NAME" not in each]


def claim() -> dict[str, Any]:
    found = re.search(r"\n( +)apiVersion: v1\n(?:\1.*\n)+", RUNBOOK)
    assert found
    read: dict[str, Any] = yaml.safe_load(found[0])
    return read


def follow(server: ApiServer, command: str) -> str:
    words = command.split()
    assert words[0] == "kubectl"
    return server.kubectl(*words[1:]).stdout


@pytest.fixture
def cleaned(stack_server: ApiServer) -> Iterator[None]:
    """Other tests find a server without a geth."""
    yield
    stack_server.kubectl("-n", "ethereum", "delete", "statefulset/geth", "--timeout=60s")
    _let_go(stack_server)
    stack_server.kubectl("-n", "ethereum", "delete", "pvc/data-geth-0", "--timeout=60s")


@pytest.mark.usefixtures("cleaned")
def test_the_steps_of_the_runbook_bring_geth_back(stack_server: ApiServer, script: list[str]) -> None:
    choose, stop, delete, start = commands()
    subprocess.run(script, check=True, capture_output=True)
    [geth] = [
        each for each in rendered(stack_server, KUBERNETES / "ethereum" / "overlays" / "mainnet")
        if (each["kind"], each["metadata"]["name"]) == ("StatefulSet", "geth")
    ]  # fmt: skip
    [template] = geth["spec"]["volumeClaimTemplates"]
    old = {
        **template,
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-geth-0"},
    }
    stack_server.kubectl("-n", "ethereum", "apply", "-f", "-", text=json.dumps(geth))
    stack_server.kubectl("-n", "ethereum", "apply", "-f", "-", text=json.dumps(old))
    newest = follow(stack_server, choose).splitlines()[-1].split()[0]

    follow(stack_server, stop)
    _let_go(stack_server)
    follow(stack_server, delete)
    assert names(stack_server, "pvc") == []
    restored = claim()
    restored["spec"]["dataSource"]["name"] = newest
    stack_server.kubectl("create", "-f", "-", text=json.dumps(restored))
    follow(stack_server, start)

    made = json.loads(
        stack_server.kubectl("-n", "ethereum", "get", "pvc", "data-geth-0", "-o", "json").stdout
    )
    assert made["spec"]["dataSource"]["name"] == newest
    assert made["spec"]["resources"] == template["spec"]["resources"], (
        "the StatefulSet must take it as its own"
    )
    assert made["spec"]["accessModes"] == template["spec"]["accessModes"]
    replicas = stack_server.kubectl("-n", "ethereum", "get", "sts", "geth", "-o", "jsonpath={.spec.replicas}")
    assert replicas.stdout == "1"


def _let_go(server: ApiServer) -> None:
    """As the controller does when no pod uses a claim any more."""
    server.kubectl(
        "-n", "ethereum", "patch", "pvc", "data-geth-0", "-p", '{"metadata": {"finalizers": null}}'
    )


def test_the_snapshot_is_of_the_claim_that_geth_makes() -> None:
    text = BACKUP.read_text()
    assert "persistentVolumeClaimName: data-geth-0" in text
    assert claim()["metadata"] == {"name": "data-geth-0", "namespace": "ethereum"}
