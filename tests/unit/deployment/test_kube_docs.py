"""docs/kubernetes.md, docs/operations.md and the Dockerfile: what they name is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.aids.manifests import OVERLAYS

ROOT: Final = Path(__file__).parents[3]
DOCS: Final = [ROOT / "docs" / "kubernetes.md", ROOT / "docs" / "operations.md"]
DOCKER: Final = ROOT / "deployment" / "docker"
SEEDS: Final = (
    "gethrelay-tor-discovery", "tor-peer-discovery-rbac.yaml", "tor-peer-discovery-configmap.yaml",
    "tor-peer-discovery-script", "tor-peer-addresses", "fix-permissions", "bitnami/kubectl", "discover",
    "torrc-with-hidden-service", "gethrelay-only-onion-1", "gethrelay-nodekeys", "Dockerfile.tor-discovery",
    "deploy-tor-discovery.sh", "tor-peer-discovery.sh", "mode=only-onion", "static-nodes.json",
    "admin_addPeer", "deployments.yaml", "pods/log",
)  # fmt: skip


def rows(text: str) -> list[list[str]]:
    found = []
    for line in text.splitlines():
        if line.startswith("| ") and "| --- |" not in line:
            found.append([each.strip() for each in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


@pytest.mark.parametrize("name", SEEDS)
def test_each_object_of_the_seeds_is_mapped(name: str) -> None:
    text = DOCS[0].read_text()
    section = text.partition("## From the two earlier designs")[2].partition("\n## ")[0]
    fitting = [row for row in rows(section) if name in row[0] or name in row[1]]
    assert fitting, name
    assert all(re.match(r"kept|renamed|rejected|built", row[2]) for row in rows(section)[1:])
    assert all(":" in row[2] for row in rows(section) if row[2].startswith("rejected")), "a reason for each"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_paths_and_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    for link in re.findall(r"\]\(([a-z][^)#]*)", text):
        assert (path.parent / link).exists(), link
    gone = ("deployment/k8s/", "deployment/docker/Dockerfile.tor-discovery")
    for each in re.findall(r"(?<![\w/])(?:deployment|relay)/[A-Za-z0-9_./-]*[A-Za-z0-9_/]", text):
        assert each.startswith(gone) or (ROOT / each).exists(), each


def test_every_overlay_and_component_is_told_of() -> None:
    text = DOCS[0].read_text()
    folder = ROOT / "deployment" / "kubernetes"
    assert {each.name for each in (folder / "overlays").iterdir()} == set(OVERLAYS)
    for each in [*(folder / "overlays").iterdir(), *(folder / "components").iterdir()]:
        assert f"`{each.name}`" in text, each.name


def test_the_dockerfile_copies_what_its_context_has() -> None:
    """The context is what .dockerignore lets in."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in (DOCKER / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY") and "--from" not in line:
            for each in line.split()[1:-1]:
                assert each in allowed, each
                assert (ROOT / each).exists()


def test_what_the_image_is_built_with_is_locked() -> None:
    wanted = {line for line in (DOCKER / "build.in").read_text().splitlines() if not line.startswith("#")}
    locked = (DOCKER / "build.lock").read_text()
    assert wanted <= set(re.findall(r"^([a-z-]+)==", locked, re.MULTILINE))
    assert len(re.findall(r"^[a-z0-9-]+==.* \\$", locked, re.MULTILINE)) == len(
        re.findall(r"^[a-z]", locked, re.MULTILINE)
    )
    assert locked.count("--hash=sha256:") > 40


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here: scripts are NOT checked")
def test_its_script_passes_shellcheck() -> None:
    done = subprocess.run(["shellcheck", *DOCKER.glob("*.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
