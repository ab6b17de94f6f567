"""Certificates, service account keys and kubeconfigs of a throw-away cluster."""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey
ADMIN = {"admin": ("admin", "system:masters")}


def certificates(
    folder: Path, addresses: Sequence[str] = (), clients: Mapping[str, tuple[str, str]] = ADMIN
) -> None:
    """Write ca, server, sa.key, sa.pub and a pair of files for each client.

    Args:
        folder: is there.
        addresses: of the API server, besides loopback.
        clients: file's name, then name and group of the user.
    """
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("lab-ca", "", ca_key, None, ca_key)
    _write(folder, "ca", ca, ca_key)
    key = ec.generate_private_key(ec.SECP256R1())
    _write(folder, "server", _certificate("kube-apiserver", "", key, ca, ca_key, addresses), key)
    for file, (name, group) in clients.items():
        key = ec.generate_private_key(ec.SECP256R1())
        _write(folder, file, _certificate(name, group, key, ca, ca_key), key)
    tokens = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(_pem(tokens))
    (folder / "sa.pub").write_bytes(
        tokens.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def write_kubeconfig(folder: Path, url: str, client: str) -> Path:
    """Write CLIENT.kubeconfig beside the client's certificate."""

    def encode(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    cluster = {"server": url, "certificate-authority-data": encode("ca.crt")}
    user = {
        "client-certificate-data": encode(f"{client}.crt"),
        "client-key-data": encode(f"{client}.key"),
    }
    path = folder / f"{client}.kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig(cluster, user, "default")))
    path.chmod(0o600)
    return path


def kubeconfig(cluster: dict[str, str], user: dict[str, str], namespace: str) -> dict[str, object]:
    """What a kubeconfig with one context holds."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": namespace}}],
        "current-context": "lab",
    }


def _certificate(
    name: str, group: str, key: Key, ca: x509.Certificate | None, ca_key: Key, addresses: Sequence[str] = ()
) -> x509.Certificate:
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
        found = [x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", *addresses)]
        names = [x509.DNSName("localhost"), *found]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _pem(key: Key | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _write(folder: Path, name: str, certificate: x509.Certificate, key: Key) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path = folder / f"{name}.key"
    path.write_bytes(_pem(key))
    path.chmod(0o600)
