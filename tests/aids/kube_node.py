"""A Kubernetes of one node that runs pods, on this machine, from local archives of images.

etcd, API server, controllers, scheduler, kubelet and kube-proxy (tools/install-kubernetes.sh), containerd,
runc and the CNI plugins of Debian, and an enforcer of network policies (kube_policies.py), in network, mount
and pid namespaces of their own: the host's firewall, /run and /var/lib stay as they are. Needs root.

The API server is reached over a veth pair; addresses of pods and Services only from pods: use exec or
port-forward. No name is served (there is no DNS), nothing is forwarded out of the namespace: PUBLIC, an
address of the node itself, is all the internet that a pod finds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.aids.kube_certificates import certificates, write_kubeconfig
from tests.aids.kube_node_plan import (
    API_SERVICE,
    CGROUP,
    CNI,
    NODE,
    NODE_IP,
    PATH,
    PORT,
    busybox,
    plan,
    volumes,
    write_settings,
)

NETNS, HOST_IP = "pyrelay-node", "10.89.78.1"
PUBLIC = "203.0.113.1"  # TEST-NET-3: to a policy an address of the internet like any other
NEEDED = ("containerd", "ctr", "runc", "busybox", "ip", "nft", "iptables", "conntrack", "nsenter", "unshare")
PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kubectl",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)
CLIENTS = {
    "admin": ("admin", "system:masters"),
    "apiserver-kubelet": ("apiserver-kubelet", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
}
READY = 600.0  # seconds; importing the images takes minutes on a busy machine


def lacks(binaries: Path) -> str:
    """Say why no node can run here; empty: it can."""
    if os.geteuid() != 0:
        return "a node needs root"
    missing = [each for each in NEEDED if not shutil.which(each, path=PATH)]
    missing += [str(binaries / each) for each in PROGRAMS if not (binaries / each).exists()]
    if not (CNI / "bridge").exists():
        missing.append(str(CNI / "bridge"))
    if missing:
        return f"missing: {', '.join(missing)}"
    if Path("/run/netns", NETNS).exists():
        return f"another node runs (or its network namespace {NETNS} was left)"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass(frozen=True)
class Node:
    """A running one.

    Attributes:
        folder: everything of it: logs, sockets, volumes. Its path is short.
        binaries: of Kubernetes.
    """

    folder: Path
    binaries: Path

    @property
    def environment(self) -> dict[str, str]:
        """For programs that use kubectl."""
        return {
            **os.environ,
            "PATH": f"{self.binaries}:{PATH}",
            "KUBECONFIG": str(self.folder / "admin.kubeconfig"),
        }

    def kubectl(
        self, *words: str, text: str | None = None, check: bool = True, timeout: float = 600.0
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        done = subprocess.run(
            ["kubectl", *words], env=self.environment, input=text, capture_output=True, text=True,
            check=False, timeout=timeout,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done

    def empty_volumes(self) -> None:
        """Make released volumes new ones; what held them is gone."""
        for volume in json.loads(self.kubectl("get", "pv", "-o", "json").stdout)["items"]:
            if volume["status"].get("phase") == "Released":
                path = Path(volume["spec"]["local"]["path"])
                shutil.rmtree(path)
                path.mkdir()
                patch = '[{"op": "remove", "path": "/spec/claimRef"}]'
                self.kubectl("patch", "pv", volume["metadata"]["name"], "--type=json", "-p", patch)

    def inside(self, *words: str) -> list[str]:
        """A command that runs in the node's network."""
        return ["nsenter", f"--net=/run/netns/{NETNS}", *words]


@contextmanager
def node(binaries: Path, images: Sequence[Path]) -> Iterator[Node]:
    """Start a node, wait until it is ready, end it and what runs on it.

    Args:
        binaries: with all of PROGRAMS.
        images: docker or OCI archives that pods may use; IMAGE, busybox, is there anyway.
    """
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pyn-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        found = Node(folder, binaries)
        certificates(folder, (NODE_IP, API_SERVICE), CLIENTS)
        for client in CLIENTS:
            write_kubeconfig(folder, f"https://{NODE_IP}:{PORT}", client)
        write_settings(folder)
        busybox(folder / "busybox.tar")
        steps = plan(folder, binaries, [folder / "busybox.tar", *images])
        (folder / "plan.json").write_text(json.dumps(steps))
        stack.callback(_remove_network)
        _make_network()
        stack.callback(_remove_cgroups)
        _make_cgroups()
        stack.callback(_end, _start(found))
        _wait(found)
        found.kubectl("apply", "-f", "-", text=json.dumps(volumes(folder)))
        yield found


def _start(found: Node) -> subprocess.Popen[bytes]:
    # nsenter: `ip netns exec` would mount a fresh /sys and hide the cgroups.
    command = found.inside(
        "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL",
        "--propagation", "private",
        sys.executable, "-m", "tests.aids.kube_node_init", str(found.folder),
    )  # fmt: skip
    with (found.folder / "init.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=found.environment,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 30
    pids = ["ip", "netns", "pids", NETNS]
    while subprocess.run(pids, capture_output=True, check=False).stdout.strip() and time.monotonic() < end:
        time.sleep(0.1)


def _wait(found: Node) -> None:
    ready = ("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=1s")
    asks = (("get", "--raw", "/readyz"), ready, ("-n", "default", "get", "serviceaccount", "default"))
    end = time.monotonic() + READY
    for words in asks:
        while found.kubectl(*words, check=False).returncode:
            if time.monotonic() > end:
                logs = [
                    f"{each.name}:\n{each.read_text(errors='replace')[-1500:]}"
                    for each in found.folder.glob("*.log")
                ]
                raise RuntimeError("the node is not ready:\n" + "\n".join(logs))
            time.sleep(0.3)


# -- network and cgroups ---------------------------------------------------------------------------


def _do(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PATH": PATH})


def _make_network() -> None:
    _do("ip", "netns", "add", NETNS)
    _do("ip", "link", "add", "pyrelay-n0", "type", "veth", "peer", "name", "eth0", "netns", NETNS)
    _do("ip", "addr", "add", f"{HOST_IP}/30", "dev", "pyrelay-n0")
    _do("ip", "link", "set", "pyrelay-n0", "up")
    for words in (
        ["addr", "add", f"{NODE_IP}/30", "dev", "eth0"], ["addr", "add", f"{PUBLIC}/32", "dev", "lo"],
        ["link", "set", "lo", "up"], ["link", "set", "eth0", "up"],
        ["route", "add", "default", "via", HOST_IP],  # kubelet wants one; nothing is forwarded there
    ):  # fmt: skip
        _do("ip", "-n", NETNS, *words)


def _remove_network() -> None:
    for words in (["link", "del", "pyrelay-n0"], ["netns", "del", NETNS]):
        subprocess.run(["ip", *words], capture_output=True, check=False)


def _cgroup_roots() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root]
    return [each for each in root.iterdir() if each.is_dir() and not each.is_symlink()]


def _make_cgroups() -> None:
    for root in _cgroup_roots():
        (root / CGROUP).mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty ones take no process
            if root.name == "cpuset":
                (root / CGROUP / name).write_text((root / name).read_text())


def _remove_cgroups() -> None:
    for root in _cgroup_roots():
        for _ in range(50):
            left = sorted((each for each in (root / CGROUP).glob("**/") if each.is_dir()), reverse=True)
            for each in left:
                try:
                    each.rmdir()
                except OSError:
                    time.sleep(0.1)
            if not (root / CGROUP).exists():
                break
