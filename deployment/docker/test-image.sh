#!/bin/sh
# Builds both targets with buildah on a base image of this machine, and tries them as Kubernetes would run them: numeric
# user, read-only root, process 1, no shell. Root; needs buildah, debootstrap (unless --base), and the package registries.
# usage: deployment/docker/test-image.sh [--base IMAGE] [--suite SUITE] [--store DIR] [--archive DIR]
#   --base IMAGE   build on this one, pulled if need be, instead of one that debootstrap makes of SUITE (trixie)
#   --store DIR    keep buildah's images there, and use the base image that is there from the last run
#   --archive DIR  leave both images there as pyrelay.tar and tor.tar, for `ctr images import` or `docker load`
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
base='' suite=trixie store='' archive=''
while [ "$#" -gt 0 ]; do
    case $1 in
    --base) base=${2:?} ;;
    --suite) suite=${2:?} ;;
    --store) store=${2:?} ;;
    --archive) archive=${2:?} ;;
    *) sed -n '4,7s/^# *//p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml" | head -n 1)
revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
# pip's, in the build: a proxy of this machine may open TLS.
certificates=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
overlays=$root/deployment/kubernetes/overlays
work=$(mktemp -d)
container=''
end() {
    [ -z "$container" ] || { b umount "$container"; b rm "$container"; } >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM
say() { echo "test-image: $*" >&2; }
fail() { say "FAILED: $*"; exit 1; }
store=${store:-$work/store}
b() { buildah --root "$store" --runroot "$work/run" --storage-driver vfs "$@"; }

[ "$(id -u)" = 0 ] || fail "this needs root"
pull=--pull
if [ -z "$base" ]; then
    base=localhost/pyrelay-base:$suite pull=--pull-never
fi
if [ "$pull" = --pull-never ] && [ -z "$(b images -q "$base" 2>/dev/null)" ]; then
    say "a base image of Debian $suite"
    debootstrap --variant=minbase "$suite" "$work/base" >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log" >&2; exit 1; }
    rm -rf "$work/base/var/cache/apt" "$work/base/var/lib/apt/lists"
    container=$(b from scratch)
    b add -q "$container" "$work/base" /
    b commit -q "$container" "$base"
    b rm "$container" >/dev/null
    container=''
    rm -rf "$work/base"
fi

for target in pyrelay tor; do
    # As the manifests name them.
    name=pyrelay:$version
    [ "$target" = pyrelay ] || name=pyrelay-tor:$version
    say "building $name"
    b bud --isolation chroot --format docker "$pull" --target "$target" -f "$root/deployment/docker/Dockerfile" \
        --build-arg BASE="$base" --build-arg VERSION="$version" --build-arg REVISION="$revision" \
        --secret "id=certificates,src=$certificates" --build-arg PIP_CERT=/run/secrets/certificates -t "$name" "$root" \
        >"$work/$target.log" 2>&1 || { tail -n 30 "$work/$target.log" >&2; fail "$name is not built"; }
    b inspect --type image "$name" >"$work/$target.json"
    container=$(b from --pull-never "$name")
    mount=$(b mount "$container")
    archived=$work/$target.tar
    b push -q "$name" "docker-archive:$archived:$name"
    told=$(python3 "$root/deployment/docker/try_image.py" "$target" "$work/$target.json" "$mount" "$archived" "$version" \
        "$revision" "$overlays/isolated-tor/pair/torrc" "$overlays/sidecar/torrc") || fail "$name"
    say "$name is well: $told"
    b umount "$container" >/dev/null
    b rm "$container" >/dev/null
    container=''
    if [ -n "$archive" ]; then
        mkdir -p "$archive"
        mv "$archived" "$archive/$target.tar"
    fi
done
say "both are well"
