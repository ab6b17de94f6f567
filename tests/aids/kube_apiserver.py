"""A real kube-apiserver with etcd, for a test session: certificates of its own, an empty cluster, free ports.

There are no controllers: nothing makes the ServiceAccount `default`, no pod runs, nothing is collected with
its owner.
tools/install-kubernetes.sh builds the programs.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
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
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

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
        path.write_text(yaml.safe_dump(_kubeconfig(cluster, {"tokenFile": str(token_file)}, namespace)))
        return path

    def compact(self) -> None:
        """Have etcd forget all that was before now; who watches it from an older version gets 410."""
        with httpx2.Client(base_url=self.etcd) as client:
            revision = client.post("/v3/kv/range", json={"key": "AA=="}).json()["header"]["revision"]
            client.post("/v3/kv/compaction", json={"revision": revision, "physical": True}).raise_for_status()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have the API server answer nothing for a while."""
        process = self.processes["kube-apiserver"]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)


@contextmanager
def api_server(binaries: Path, folder: Path, *flags: str) -> Iterator[ApiServer]:
    """Start etcd and a kube-apiserver; end them."""
    _certificates(folder)
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
        _write_admin_kubeconfig(server)
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


def _certificates(folder: Path) -> None:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("lab-ca", None, ca_key, None, ca_key)
    _write(folder, "ca", ca, ca_key)
    server_key, admin_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    _write(folder, "server", _certificate("kube-apiserver", None, server_key, ca, ca_key), server_key)
    _write(folder, "admin", _certificate("admin", "system:masters", admin_key, ca, ca_key), admin_key)
    tokens = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(_pem(tokens))
    (folder / "sa.pub").write_bytes(
        tokens.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _certificate(name, group, key, ca, ca_key) -> x509.Certificate:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if group:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name(parts)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if ca is None else ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
    )
    if ca is None:
        builder = builder.add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
        )
    else:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _pem(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _write(folder: Path, name: str, certificate: x509.Certificate, key) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(_pem(key))
    os.chmod(folder / f"{name}.key", 0o600)


def _kubeconfig(cluster: dict[str, str], user: dict[str, str], namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": namespace}}],
        "current-context": "lab",
    }


def _write_admin_kubeconfig(server: ApiServer) -> None:
    def encode(name: str) -> str:
        return base64.b64encode((server.folder / name).read_bytes()).decode()

    cluster = {"server": server.url, "certificate-authority-data": encode("ca.crt")}
    user = {"client-certificate-data": encode("admin.crt"), "client-key-data": encode("admin.key")}
    server.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(cluster, user, "default")))
