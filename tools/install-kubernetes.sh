#!/bin/sh
# Builds a Kubernetes API server, etcd and kubectl from their Go modules (tests/counterparts/kubernetes) into the
# user's cache and prints the folder. Needs Go; no root, no image registry. Done once for each version of go.mod.
# usage: tools/install-kubernetes.sh [PROGRAM...]    default: etcd kube-apiserver kubectl
# Others that it knows: kube-controller-manager kube-scheduler kubelet kube-proxy.
set -eu
source=$(cd "$(dirname "$0")/../tests/counterparts/kubernetes" && pwd)
mark=$(cd "$source" && cat go.mod go.sum | cksum | cut -d' ' -f1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/kubernetes-$mark
version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$source/go.mod")
[ "$#" -gt 0 ] || set -- etcd kube-apiserver kubectl

# The programs tell the version that they were linked with, and an API server refuses to start without one.
minor=${version#v1.}
linked="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    linked="$linked -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
    linked="$linked -X $package.gitTreeState=clean"
done

for program; do
    [ -x "$cache/$program" ] && continue
    case $program in
    etcd) package=go.etcd.io/etcd/server/v3 ;;
    kube-apiserver | kubectl | kube-controller-manager | kube-scheduler | kubelet | kube-proxy)
        package=k8s.io/kubernetes/cmd/$program ;;
    *) echo "pyrelay: no program of Kubernetes is named $program" >&2; exit 2 ;;
    esac
    command -v go >/dev/null || { echo "pyrelay: building $program needs Go (sudo apt-get install golang)" >&2; exit 1; }
    mkdir -p "$cache"
    echo "pyrelay: building $program $version (the first takes 4 to 8 minutes, once)" >&2
    attempt=1
    # The name with the process id: two builds at once end with one whole program.
    until (cd "$source" && CGO_ENABLED=0 GOFLAGS=-modcacherw nice -n 10 go build -mod=readonly -buildvcs=false -trimpath \
        -ldflags "$linked" -o "$cache/$program.$$" "$package" >&2); do
        [ "$attempt" -ge 4 ] && exit 1
        sleep $((attempt * 5))
        attempt=$((attempt + 1))
    done
    mv -f "$cache/$program.$$" "$cache/$program"
done
echo "$cache"
