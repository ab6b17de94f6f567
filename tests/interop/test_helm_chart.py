"""The chart by helm itself, which tools/install-helm.sh builds."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.aids.chart import CHART, chart, ours
from tests.aids.line_process import installed
from tests.aids.manifests import OVERLAYS, Object, parse

CHANGED: Final[dict[str, Any]] = {
    "network": "hoodi",
    "replicas": 7,
    "image": "registry.example:5000/pyrelay@sha256:" + "a" * 64,
    "torImage": "r/t:3",
    "storage": "20Gi",
    "monitoringNamespace": "watch",
    "apiServers": [{"cidr": "10.0.0.5/32", "port": 6443}, {"cidr": "fd00::1/128", "port": 443}],
    "federation": {
        "bootnodes": "enode://a@b.onion:30303",
        "dnsLists": "enrtree://A@b.example",
        "join": "http://c.onion",
    },
}
TAGGED: Final = "value must be 'an image whose tag stays: NAME:VERSION or NAME@sha256:DIGEST'"


@pytest.fixture(scope="session")
def program() -> str:
    return installed("install-helm.sh")


def helm(program: str, home: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it with an empty home: no repositories, no plugins, no cluster."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, env=env)


def sorted_objects(objects: list[Object]) -> list[Object]:
    """Helm puts them in the order in which it would install them."""
    return sorted(objects, key=lambda each: (each["kind"], each["metadata"]["name"]))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_helm_gives_the_objects_of_kustomize(program: str, tmp_path: Path, overlay: str) -> None:
    done = helm(
        program, tmp_path, "template", "relays", CHART, "-n", "gethrelay", "--set", f"overlay={overlay}"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted_objects(parse(done.stdout)) == sorted_objects(ours(overlay))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_helm_puts_values_where_the_reader_of_the_unit_tests_does(
    program: str, tmp_path: Path, overlay: str
) -> None:
    values = tmp_path / "values.json"
    values.write_text(json.dumps({**CHANGED, "overlay": overlay}))
    done = helm(program, tmp_path, "template", "relays", CHART, "-n", "gethrelay", "-f", values)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted_objects(parse(done.stdout)) == sorted_objects(chart(overlay, **CHANGED))
    assert sorted_objects(parse(done.stdout)) != sorted_objects(ours(overlay))


def test_helm_has_nothing_to_say_against_it(program: str, tmp_path: Path) -> None:
    for overlay in OVERLAYS:
        done = helm(program, tmp_path, "lint", "--strict", "--set", f"overlay={overlay}", CHART)
        assert done.returncode == 0, done.stdout
        said = [line for line in done.stdout.splitlines() if line.startswith("[")]
        assert said == ["[INFO] Chart.yaml: icon is recommended"], overlay


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("overlay=x", "at '/overlay': value must be one of 'sidecar',"),
        ("network=main", "at '/network': value must be one of 'mainnet', 'sepolia', 'hoodi'"),
        ("image=pyrelay", "at '/image': 'pyrelay' does not match pattern"),
        ("image=pyrelay:latest", f"at '/image': {TAGGED}"),
        ("torImage=t:latest", f"at '/torImage': {TAGGED}"),
        ("replicas=-1", "at '/replicas': minimum: got -1, want 0"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("apiServers=null", "missing property 'apiServers'"),
        ("apiServers[0].cidr=0.0.0.0/0", "at '/apiServers/0/cidr': '0.0.0.0/0' does not match pattern"),
        ("apiServers[0].port=0", "at '/apiServers/0/port': minimum: got 0, want 1"),
        ("storage=1", "at '/storage': got number, want string"),
        ("replica=3", "additional properties 'replica' not allowed"),
    ],
)
def test_helm_refuses_wrong_values_by_name(program: str, tmp_path: Path, wrong: str, words: str) -> None:
    done = helm(program, tmp_path, "template", "relays", CHART, "--set", wrong)
    assert done.returncode != 0
    assert done.stdout == ""
    assert words in done.stderr


def test_helm_refuses_a_cluster_without_native_sidecars(program: str, tmp_path: Path) -> None:
    done = helm(program, tmp_path, "template", "relays", CHART, "--kube-version", "1.29.9")
    assert done.returncode != 0
    assert "requires kubeVersion: >=1.30.0-0" in done.stderr
