"""What tests of the stack do with a kube-apiserver: render an overlay, try objects by a dry run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.aids.kube_apiserver import ApiServer
from tests.aids.stack_monitoring import ROOT

__all__ = ["KUBERNETES", "NAMESPACES", "define", "dry_run", "rendered"]

KUBERNETES = ROOT / "deployment" / "kubernetes"
NAMESPACES = ("ethereum", "ethereum-gateway", "monitoring", "gethrelay", "logging", "argocd", "flux-system")


def rendered(server: ApiServer, folder: Path) -> list[dict[str, Any]]:
    """Return an overlay's objects."""
    done = server.kubectl("kustomize", str(folder))
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def dry_run(server: ApiServer, objects: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """Have the server check objects, unknown fields too, and keep none."""
    return server.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-",
        text="\n---\n".join(map(json.dumps, objects)), check=False,
    )  # fmt: skip


def define(server: ApiServer, folder: Path) -> None:
    """Teach the server custom resources, and wait until it has learnt them."""
    server.kubectl("apply", "--server-side", "-f", str(folder))
    server.kubectl("wait", "--for=condition=Established", "--timeout=240s", "crd", "--all")
