#!/bin/sh
# Runs the overlays on a Kubernetes node on this machine, and writes what was seen to docs/e2e-kubernetes-node.md.
# Root; Debian's packages, Go (tools/install-kubernetes.sh), and the images: those of PYRELAY_TEST_IMAGES
# (pyrelay.tar, tor.tar, by `make image ARGS="--archive DIR"`), else built here. Where it can not run it says why.
# usage: tools/e2e-kubernetes-node.sh [PYTEST ARGUMENT...]
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
skip() { echo "pyrelay: NO POD WAS RUN: $*" >&2; exit 0; }

[ "$(id -u)" = 0 ] || skip "a node needs root"
missing=''
while read -r program package; do
    command -v "$program" >/dev/null || missing="$missing $package"
done <<'LIST'
containerd containerd
runc runc
/usr/lib/cni/bridge containernetworking-plugins
busybox busybox-static
ip iproute2
nft nftables
iptables iptables
conntrack conntrack
buildah buildah
debootstrap debootstrap
LIST
# shellcheck disable=SC2086 # several words
[ -z "$missing" ] || tools/apt-install.sh $missing || skip "these packages can not be installed:$missing"
programs=$(tools/install-kubernetes.sh etcd kube-apiserver kubectl kube-controller-manager kube-scheduler kubelet kube-proxy) ||
    skip "Kubernetes can not be built"

images=${PYRELAY_TEST_IMAGES:-}
if [ -z "$images" ]; then
    images=$(mktemp -d)
    trap 'rm -rf "$images"' EXIT
    trap 'exit 130' INT TERM
    deployment/docker/test-image.sh --archive "$images"
fi
PYRELAY_TEST_NODE=$programs PYRELAY_TEST_IMAGES=$images \
    PYRELAY_TEST_NODE_LOG=${PYRELAY_TEST_NODE_LOG:-docs/e2e-kubernetes-node.md} \
    "${VENV:-.venv}/bin/python" -m pytest tests/kubernetes/test_node_relays.py -q -rs "$@"
