"""Our relays on a node (kube_node.py), deployed by deploy.sh and asked by kubectl; a log of what was seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.aids.kube_node import PUBLIC, Node
from tests.aids.kube_node_plan import IMAGE, NODE_IP
from tests.aids.manifests import Object, parse

ROOT = Path(__file__).parents[2]
NAMESPACE = "gethrelay"
SET = "gethrelay-only-onion"
BOOK = "tor-peer-addresses"
CANARY_PORT = 8080
T = TypeVar("T")

CALL = """
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect("/sockets/pyrelay.ipc")
call = {"jsonrpc": "2.0", "id": 1, "method": sys.argv[1], "params": json.loads(sys.argv[2])}
s.sendall(json.dumps(call).encode() + b"\\n")
print(s.makefile().readline())
"""
REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3)
    print("reached")
except OSError as error:
    print("not reached:", error)
"""


class Failed(RuntimeError):
    """Something did not come in time."""


def until(what: str, look: Callable[[], T], seconds: float = 240.0, every: float = 0.5) -> T:
    """Look again and again until something is found."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return found


@dataclass
class Story:
    """What a run showed, as Markdown; names of this machine are left out.

    Args:
        hidden: texts and what stands for them.
    """

    hidden: Mapping[str, str]
    lines: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def title(self, words: str) -> None:
        """Begin a section."""
        self.loads.append(os.getloadavg()[0])
        self.lines += ["", f"## {words}", ""]

    def tell(self, words: str) -> None:
        """Note a fact."""
        self.lines.append(f"- {words}")
        print(words, file=sys.stderr, flush=True)

    def show(self, command: str, output: str) -> None:
        """Note a command with what it printed."""
        body = [f"    $ {command}", *(f"    {line}".rstrip() for line in output.strip().splitlines())]
        self.lines += ["", *body, ""]

    def text(self) -> str:
        """All of it."""
        found = "\n".join(self.lines) + "\n"
        for secret, name in self.hidden.items():
            found = found.replace(secret, name)
        while "\n\n\n" in found:
            found = found.replace("\n\n\n", "\n\n")
        return found


@dataclass(frozen=True)
class Relays:
    """Relays of one overlay.

    Attributes:
        node: that they run on.
        torrc: by which their Tors join the private network.
    """

    node: Node
    torrc: Path

    def deploy(self, *words: str) -> None:
        """Run deploy.sh.

        Raises:
            Failed: with what it said, and what the pods say.
        """
        done = self._deploy(*words)
        if done.returncode:
            raise Failed(f"deploy.sh {' '.join(words)}:\n{done.stderr[-6000:]}\n{self.troubles()}")

    def would_apply(self, overlay: str) -> list[Object]:
        """What deploy.sh applies."""
        return parse(self._deploy("apply", "--dry-run", "--overlay", overlay).stdout)

    def _deploy(self, *words: str) -> subprocess.CompletedProcess[str]:
        script = ROOT / "deployment" / "kubernetes" / "deploy.sh"
        flags = ["--torrc", str(self.torrc)] if words[0] == "apply" else []
        return subprocess.run(
            [script, *words, *flags], env=self.node.environment, capture_output=True, text=True, check=False
        )

    def k(self, *words: str, check: bool = True, text: str | None = None) -> str:
        """Ask kubectl in our namespace."""
        return self.node.kubectl("-n", NAMESPACE, *words, check=check, text=text).stdout

    def pods(self, labels: str = "app.kubernetes.io/name=pyrelay") -> list[str]:
        """Names."""
        return self.k("get", "pods", "-l", labels, "-o", "jsonpath={.items[*].metadata.name}").split()

    def script(self, pod: str, text: str, *words: str) -> str:
        """Run Python inside of a relay's container."""
        python = "/opt/pyrelay/bin/python"
        return self.k("exec", pod, "-c", "pyrelay", "--", python, "-IS", "-c", text, *words)

    def call(self, pod: str, method: str, *params: object) -> Any:
        """Ask a relay by its socket."""
        answer = json.loads(self.script(pod, CALL, method, json.dumps(params)))
        if "error" in answer:
            raise Failed(f"{method} on {pod}: {answer['error']}")
        return answer["result"]

    def peers(self, pod: str) -> int:
        """How many peers a relay has; none while it can not be asked."""
        try:
            return len(self.call(pod, "admin_peers"))
        except (RuntimeError, ValueError):
            return 0

    def identity(self, pod: str) -> str:
        """Node id and onion address."""
        return str(self.call(pod, "admin_nodeInfo")["enode"])

    def all_joined(self, count: int) -> bool:
        """Whether each of so many relays has all others as its peers."""
        names = self.pods()
        return len(names) == count and all(self.peers(each) >= count - 1 for each in names)

    def book(self) -> dict[str, str]:
        """The address book; empty where there is none."""
        found = self.k("get", "configmap", BOOK, "--ignore-not-found", "-o", "json")
        return json.loads(found).get("data") or {} if found else {}

    def log(self, pod: str, container: str) -> str:
        """A container's log."""
        return self.k("logs", pod, "-c", container)

    def reaches(self, pod: str, host: str, port: int) -> bool:
        """Whether a relay's pod can open a TCP connection."""
        return self.script(pod, REACH, host, str(port)).startswith("reached")

    def objects(self) -> dict[str, Any]:
        """What deploy.sh made, without what the API server notes on it."""
        kinds = (
            "statefulsets,services,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,cronjobs,"
            "poddisruptionbudgets,validatingadmissionpolicies,validatingadmissionpolicybindings"
        )
        found = {}
        for each in json.loads(self.k("get", kinds, "-o", "json"))["items"]:
            kept = {key: value for key, value in each.items() if key not in ("status", "metadata")}
            meta = each["metadata"]
            kept["metadata"] = {key: meta.get(key) for key in ("name", "labels", "annotations")}
            found[f"{each['kind']}/{meta['name']}"] = kept
        return found

    def troubles(self) -> str:
        """What a person would look at when something did not work."""
        parts = [
            self.k("get", "pods", "-o", "wide", check=False),
            self.k("get", "events", check=False)[-4000:],
        ]
        for pod in self.pods("app.kubernetes.io/part-of=pyrelay"):
            containers = "{.spec.initContainers[*].name} {.spec.containers[*].name}"
            for each in self.k("get", "pod", pod, "-o", f"jsonpath={containers}").split():
                said = self.k("logs", pod, "-c", each, "--tail=8", check=False)
                parts.append(f"--- {pod} {each}\n{said}")
        return "\n".join(parts)

    def purge(self) -> None:
        """Take all back, and empty the volumes: the next relays are new ones."""
        self.node.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=300s")
        self.node.empty_volumes()


@contextmanager
def tor_network(node: Node) -> Iterator[Path]:
    """A private Tor network in the node's network; yields the torrc by which a Tor joins."""
    folder = node.folder / "tor"
    folder.mkdir()
    command = node.inside(sys.executable, "-m", "tests.aids.kube_node_tor", str(folder), PUBLIC)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT)
    try:
        until("a private Tor network", lambda: (folder / "torrc").exists() or process.poll() is not None)
        if not (folder / "torrc").exists():
            raise Failed((folder / "log").read_text(errors="replace")[-3000:])
        yield folder / "torrc"
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


@contextmanager
def canary(node: Node) -> Iterator[str]:
    """A pod in the namespace `default` that takes connections from whoever gets there; yields its address."""
    command = ["/bin/busybox", "nc", "-ll", "-p", str(CANARY_PORT), "-e", "/bin/busybox", "true"]
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "canary"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "canary", "image": IMAGE, "command": command}],
        },
    }  # fmt: skip
    node.kubectl("-n", "default", "apply", "-f", "-", text=json.dumps(pod))
    try:
        node.kubectl("-n", "default", "wait", "--for=condition=Ready", "pod/canary", "--timeout=120s")
        path = "jsonpath={.status.podIP}"
        yield node.kubectl("-n", "default", "get", "pod", "canary", "-o", path).stdout
    finally:
        node.kubectl("-n", "default", "delete", "pod", "canary", "--wait=false")


def hidden(node: Node) -> dict[str, str]:
    """What a log of a run shall not show of this machine."""
    return {str(node.folder): "NODE", str(node.binaries): "BIN", str(ROOT): "REPOSITORY", NODE_IP: "NODE-IP"}
