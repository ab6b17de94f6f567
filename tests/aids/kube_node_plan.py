"""What a node is made of: programs in the order of their start, their settings, volumes, an image."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CGROUP = "pyrelay-node"
NODE, NODE_IP = "node-1", "10.89.78.2"
PODS, SERVICES, API_SERVICE = "10.244.0.0/24", "10.96.0.0/16", "10.96.0.1"
PORT, ETCD = 16443, 12379
IMAGE = "localhost/pyrelay-node/busybox:1"
VOLUMES = 16
CNI = Path("/usr/lib/cni")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def plan(folder: Path, binaries: Path, images: Sequence[Path]) -> list[dict[str, Any]]:
    """Steps of kube_node_init.py."""

    def kubernetes(name: str, *flags: str) -> dict[str, Any]:
        return {"start": name, "command": [str(binaries / name), *flags]}

    ctr = ["ctr", "-a", f"{folder}/containerd.sock"]
    ready = [
        str(binaries / "kubectl"),
        f"--kubeconfig={folder}/admin.kubeconfig",
        "get",
        "--raw",
        "/readyz",
    ]
    etcd = f"http://127.0.0.1:{ETCD}"
    peer = f"http://127.0.0.1:{ETCD + 1}"

    def controller(name: str, *flags: str) -> dict[str, Any]:
        config = f"{folder}/{name}.kubeconfig"
        return kubernetes(
            name, f"--kubeconfig={config}", f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}", "--leader-elect=false", "--bind-address=127.0.0.1",
            "--profiling=false", *flags,
        )  # fmt: skip

    return [
        {"sysctl": "net/ipv4/ip_forward", "value": "1"},
        {"sysctl": "net/bridge/bridge-nf-call-iptables", "value": "1"},
        kubernetes(
            "etcd", "--data-dir", f"{folder}/etcd", "--logger", "zap", "--unsafe-no-fsync",
            "--listen-client-urls", etcd, "--advertise-client-urls", etcd, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
        ),
        {"start": "containerd", "command": ["containerd", "--config", f"{folder}/containerd.toml"]},
        {"until": [*ctr, "version"]},
        *({"run": [*ctr, "-n", "k8s.io", "images", "import", str(each)]} for each in images),
        kubernetes(
            "kube-apiserver", f"--etcd-servers={etcd}", "--bind-address=0.0.0.0",
            f"--advertise-address={NODE_IP}", f"--secure-port={PORT}", f"--tls-cert-file={folder}/server.crt",
            f"--tls-private-key-file={folder}/server.key", f"--client-ca-file={folder}/ca.crt",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder}/sa.pub",
            f"--service-account-signing-key-file={folder}/sa.key",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
            f"--service-cluster-ip-range={SERVICES}", "--profiling=false",
            f"--kubelet-client-certificate={folder}/apiserver-kubelet.crt",
            f"--kubelet-client-key={folder}/apiserver-kubelet.key",
            "--kubelet-preferred-address-types=InternalIP",
        ),
        {"until": ready},
        controller(
            "kube-controller-manager", f"--service-account-private-key-file={folder}/sa.key",
            f"--root-ca-file={folder}/ca.crt", "--use-service-account-credentials",
            f"--cluster-signing-cert-file={folder}/ca.crt", f"--cluster-signing-key-file={folder}/ca.key",
            "--allocate-node-cidrs=false", f"--service-cluster-ip-range={SERVICES}",
        ),
        controller("kube-scheduler"),
        kubernetes(
            "kubelet", f"--config={folder}/kubelet.yaml", f"--kubeconfig={folder}/kubelet.kubeconfig",
            f"--root-dir={folder}/kubelet", f"--cert-dir={folder}/kubelet-pki", f"--hostname-override={NODE}",
            f"--node-ip={NODE_IP}",
        ),
        kubernetes("kube-proxy", f"--config={folder}/kube-proxy.yaml"),
        {
            "start": "policies",
            "command": [
                sys.executable, "-m", "tests.aids.kube_policies", f"https://{NODE_IP}:{PORT}", str(folder),
            ],
        },
    ]  # fmt: skip


CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE a score can not be lowered, and every pod would die of trying.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""


def write_settings(folder: Path) -> None:
    """Write the programs' files."""
    (folder / "containerd.toml").write_text(CONTAINERD.format(folder=folder, image=IMAGE, cni=CNI))
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (folder / "cni").mkdir()
    ipam = {
        "type": "host-local", "dataDir": f"{folder}/ipam", "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }  # fmt: skip
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": ipam}
    network = {"cniVersion": "0.4.0", "name": "node", "plugins": [bridge]}
    (folder / "cni" / "10-node.conflist").write_text(json.dumps(network))
    x509 = {"clientCAFile": f"{folder}/ca.crt"}
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": x509},
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{CGROUP}", "failCgroupV1": False, "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock", "address": NODE_IP,
        "clusterDomain": "cluster.local", "clusterDNS": ["10.96.0.10"], "resolvConf": f"{folder}/resolv.conf",
        "staticPodPath": "", "podLogsDir": f"{folder}/podlogs", "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }  # fmt: skip
    (folder / "kubelet.yaml").write_text(json.dumps(kubelet))
    (folder / "podlogs").mkdir()
    conntrack = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{folder}/kube-proxy.kubeconfig"}, "clusterCIDR": PODS,
        "hostnameOverride": NODE, "bindAddress": NODE_IP, "conntrack": conntrack,
    }  # fmt: skip
    (folder / "kube-proxy.yaml").write_text(json.dumps(proxy))


def volumes(folder: Path) -> dict[str, Any]:
    """A default StorageClass and some volumes: local ones, since fsGroup is not kept on hostPath."""
    affinity = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    items: list[dict[str, Any]] = [{
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "provisioner": "kubernetes.io/no-provisioner",
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "volumeBindingMode": "WaitForFirstConsumer",
    }]  # fmt: skip
    for number in range(VOLUMES):
        path = folder / "volumes" / str(number)
        path.mkdir(parents=True)
        items.append({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"local-{number}"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "persistentVolumeReclaimPolicy": "Retain", "local": {"path": str(path)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [affinity]}]}},
            },
        })  # fmt: skip
    return {"apiVersion": "v1", "kind": "List", "items": items}


def busybox(target: Path) -> None:
    """Make an image of the host's static busybox; it sleeps, and so is what keeps a pod's namespaces, too."""
    program = shutil.which("busybox", path=PATH)
    assert program is not None
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        folder = tarfile.TarInfo("bin")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        entry = tarfile.TarInfo("bin/busybox")
        content = Path(program).read_bytes()
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
    config = json.dumps({
        "architecture": {"aarch64": "arm64"}.get(os.uname().machine, "amd64"), "os": "linux",
        "config": {"Entrypoint": ["/bin/busybox"], "Cmd": ["sleep", "2147483647"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]},
    }).encode()  # fmt: skip
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(target, "w") as tar:
        for file, data in ((name, config), ("layer.tar", layer.getvalue()), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(file)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
