"""A real kube-apiserver takes our custom resources, by the definitions that their projects publish.

PYRELAY_TEST_KUBE_DEFINITIONS is what tools/install-kube-definitions.sh prints; without it these are skipped.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.aids.kube_apiserver import ApiServer
from tests.aids.stack_cluster import KUBERNETES, dry_run, rendered
from tests.aids.stack_monitoring import ROOT

GITOPS = ROOT / "deployment" / "gitops"
STACK = KUBERNETES / "ethereum"
COMPONENTS = {  # of the stack, and what it needs beside it
    "backup": "hoodi", "external-secrets": "hoodi", "sealed-secrets": "hoodi", "p2p-nodeport": "hoodi",
    "rpc": "hoodi", "gateway": "ha", "rpc-jwt": "ha",
}  # fmt: skip
pytestmark = pytest.mark.usefixtures("definitions")


def with_component(server: ApiServer, folder: Path, component: str, overlay: str) -> list[dict[str, Any]]:
    shutil.copytree(STACK, folder / "ethereum")
    own = folder / "ethereum" / "overlays" / "own"
    own.mkdir()
    wanted = {"resources": [f"../{overlay}"], "components": [f"../../components/{component}"]}
    (own / "kustomization.yaml").write_text(json.dumps(wanted))
    return rendered(server, own)


def resources(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] == kind]


def test_every_component_is_tried() -> None:
    assert set(COMPONENTS) == {each.name for each in (STACK / "components").iterdir()}


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_server_takes_a_component(stack_server: ApiServer, tmp_path: Path, component: str) -> None:
    objects = with_component(stack_server, tmp_path, component, COMPONENTS[component])
    done = dry_run(stack_server, [each for each in objects if each["kind"] != "Namespace"])
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("name", ["pod-monitor", "service-monitor"])
def test_the_server_takes_the_relays_monitors(stack_server: ApiServer, name: str) -> None:
    [file] = (KUBERNETES / "components" / name).glob("*-monitor.yaml")
    done = dry_run(stack_server, [yaml.safe_load(file.read_text())])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["argocd", "flux"])
def test_the_server_takes_what_git_is_followed_by(stack_server: ApiServer, name: str) -> None:
    objects = list(yaml.safe_load_all((GITOPS / name / "stack.yaml").read_text()))
    done = dry_run(stack_server, objects)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(objects)


def test_a_field_that_no_definition_has_is_refused(stack_server: ApiServer, tmp_path: Path) -> None:
    """Above all the one that asks for certificates: an old definition would drop it, and let everybody in."""
    [gateway] = resources(with_component(stack_server, tmp_path, "gateway", "ha"), "Gateway")
    wrong = copy.deepcopy(gateway)
    wrong["spec"]["tls"]["frontends"] = wrong["spec"]["tls"].pop("frontend")
    done = dry_run(stack_server, [wrong])
    assert "frontends" in done.stderr
    assert done.returncode != 0
    gateway["spec"]["tls"]["frontend"]["default"]["validation"]["mode"] = "AllowNone"
    assert "AllowValidOnly" in dry_run(stack_server, [gateway]).stderr
