"""A real kube-apiserver with etcd, for a test session: certificates of its own, an empty cluster, free ports.

There are no controllers: nothing makes the ServiceAccount `default`, no pod runs, nothing is collected with
its owner.
tools/install-kubernetes.sh builds the programs.
"""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import yaml

from tests.aids.kube_certificates import certificates, kubeconfig, write_kubeconfig

DEADLINE = 240.0  # seconds until it must answer, on a machine with other work


@dataclass
class ApiServer:
    """A running one.

    Attributes:
        url: of the API.
        folder: with ca.crt, admin.kubeconfig and logs.
        binaries: where kubectl is.
        processes: by name; a test may stop and continue them by a signal.
        etcd: URL of its JSON gateway.
    """

    url: str
    folder: Path
    binaries: Path
    processes: dict[str, subprocess.Popen[bytes]]
    etcd: str

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "admin.kubeconfig"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    def admin(self) -> httpx2.Client:
        """A plain HTTP client of the administrator."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(str(self.folder / "admin.crt"), str(self.folder / "admin.key"))
        return httpx2.Client(base_url=self.url, verify=context, timeout=60.0)

    def kubectl(
        self, *words: str, text: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.binaries / "kubectl"), "--kubeconfig", str(self.kubeconfig), *words],
            input=text, capture_output=True, text=True, check=check,
        )  # fmt: skip

    def account(self, folder: Path, token: str, namespace: str) -> Path:
        """Make the folder that kubelet would mount."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(token)
        (folder / "ca.crt").write_bytes(self.ca.read_bytes())
        (folder / "namespace").write_text(namespace)
        return folder

    def kubeconfig_of(self, path: Path, token_file: Path, namespace: str) -> Path:
        """Make a kubeconfig that uses a token."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        path.write_text(yaml.safe_dump(kubeconfig(cluster, {"tokenFile": str(token_file)}, namespace)))
        return path

    def compact(self) -> None:
        """Have etcd forget all that was before now; who watches it from an older version gets 410."""
        with httpx2.Client(base_url=self.etcd) as client:
            revision = client.post("/v3/kv/range", json={"key": "AA=="}).json()["header"]["revision"]
            client.post("/v3/kv/compaction", json={"revision": revision, "physical": True}).raise_for_status()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Have the API server end, and start again on its port with what etcd holds."""
        process = self.processes["kube-apiserver"]
        process.kill()
        process.wait()
        try:
            yield
        finally:
            self.processes["kube-apiserver"] = _start(self.folder, list(process.args))
            _wait(self)

    @contextmanager
    def paused(self, name: str = "kube-apiserver") -> Iterator[None]:
        """Have one of the processes do nothing for a while."""
        process = self.processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)


@contextmanager
def api_server(binaries: Path, folder: Path, *flags: str) -> Iterator[ApiServer]:
    """Start etcd and a kube-apiserver; end them."""
    certificates(folder)
    etcd, peer, port = _ports(3)
    processes = {}
    try:
        processes["etcd"] = _start(folder, [
            str(binaries / "etcd"), "--data-dir", str(folder / "etcd"), "--logger", "zap",
                "--unsafe-no-fsync",
            "--listen-client-urls", f"http://127.0.0.1:{etcd}", "--advertise-client-urls", f"http://127.0.0.1:{etcd}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}",
        ])  # fmt: skip
        processes["kube-apiserver"] = _start(folder, [
            str(binaries / "kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            f"--secure-port={port}", f"--tls-cert-file={folder}/server.crt",
            f"--tls-private-key-file={folder}/server.key", f"--client-ca-file={folder}/ca.crt",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder}/sa.pub",
                f"--service-account-signing-key-file={folder}/sa.key",
            "--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.96.0.0/16", "--profiling=false",
            *flags,
        ])  # fmt: skip
        server = ApiServer(
            f"https://127.0.0.1:{port}", folder, binaries, processes, f"http://127.0.0.1:{etcd}"
        )
        write_kubeconfig(folder, server.url, "admin")
        _wait(server)
        yield server
    finally:
        for process in reversed(processes.values()):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


def _start(folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
    name = Path(command[0]).name
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def _wait(server: ApiServer) -> None:
    end = time.monotonic() + DEADLINE
    with server.admin() as client:
        while time.monotonic() < end:
            for name, process in server.processes.items():
                if process.poll() is not None:
                    tail = (server.folder / f"{name}.log").read_text(errors="replace")[-3000:]
                    raise RuntimeError(f"{name} ended:\n{tail}")
            with suppress(httpx2.HTTPError):
                if client.get("/readyz").status_code == 200:
                    return
            time.sleep(0.2)
    raise RuntimeError("kube-apiserver is not ready")


def _ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
