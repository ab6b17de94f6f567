#!/bin/sh
# Builds both targets with buildah on a base image of this machine, and tries them as Kubernetes would run them: numeric
# user, read-only root, no shell in the way. Root; needs buildah, debootstrap (unless --base), and the package registries.
# usage: deployment/docker/test-image.sh [--base IMAGE] [--suite SUITE] [--archive DIR]
#   --archive DIR  leave both images there as archives for `ctr images import`
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
base='' suite=trixie archive=''
while [ "$#" -gt 0 ]; do
    case $1 in
    --base) base=${2:?} ;;
    --suite) suite=${2:?} ;;
    --archive) archive=${2:?} ;;
    *) sed -n '4,5s/^# *//p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml" | head -n 1)
revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
certificates=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
work=$(mktemp -d)
container=''
end() {
    [ -z "$container" ] || b rm "$container" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM
say() { echo "test-image: $*" >&2; }
fail() { say "FAILED: $*"; exit 1; }
b() { buildah --storage-driver vfs "$@"; }

if [ -z "$base" ]; then
    say "a base image of Debian $suite"
    debootstrap --variant=minbase "$suite" "$work/base" >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log" >&2; exit 1; }
    rm -rf "$work/base/var/cache/apt" "$work/base/var/lib/apt/lists"
    container=$(b from scratch)
    b add -q "$container" "$work/base" /
    base=localhost/pyrelay-base:$suite
    b commit -q "$container" "$base"
    b rm "$container" >/dev/null
    container=''
    rm -rf "$work/base"
fi

for target in pyrelay tor; do
    name=localhost/$target:$version
    [ "$target" = pyrelay ] || name=localhost/pyrelay-tor:$version
    say "building $name"
    b bud --isolation chroot --format docker --pull-never --target "$target" -f "$root/deployment/docker/Dockerfile" \
        --build-arg BASE="$base" --build-arg VERSION="$version" --build-arg REVISION="$revision" \
        --secret "id=certificates,src=$certificates" --build-arg PIP_CERT=/run/secrets/certificates -t "$name" "$root" \
        >"$work/$target.log" 2>&1 || { tail -n 30 "$work/$target.log" >&2; fail "$name is not built"; }
    b inspect --type image "$name" >"$work/$target.json"
    container=$(b from --pull-never "$name")
    mount=$(b mount "$container")
    archived=$work/$target.tar
    b push -q "$name" "docker-archive:$archived:$name"
    size=$(($(gzip -6 -c "$archived" | wc -c) / 1000000))
    say "$name: $size MB compressed"
    python3 - "$work/$target.json" "$target" "$mount" "$size" <<'PYTHON' || fail "$name"
import json, os, stat, sys
inspected, target, mount, size = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3], int(sys.argv[4])
config = inspected["Docker"]["config"]
wrong = []
def check(right, words):
    if not right:
        wrong.append(words)
check(config["User"] == "10001:10001", f"user {config['User']!r}")
check(config["Entrypoint"][0] == "/usr/bin/tini", "process 1 is not tini")
check(not any("sh" == each.rsplit("/", 1)[-1] for each in config["Entrypoint"] + (config.get("Cmd") or [])), "starts a shell")
labels = {each.rpartition(".")[2] for each in config["Labels"] if each.startswith("org.opencontainers.image.")}
check({"title", "description", "licenses", "version", "revision"} <= labels, f"labels {labels}")
if target == "pyrelay":
    check(config.get("Healthcheck"), "no HEALTHCHECK: built with another format than docker's?")
    check(size < 120, f"{size} MB")
    names = {each["name"].lower() for each in json.load(open(mount + "/opt/pyrelay/share/pyrelay/sbom.json"))["components"]}
    check({"pyrelay", "coincurve", "lightkube"} <= names, "the bill of materials lacks what is there")
    check("cyclonedx-bom" not in names and not os.path.exists(mount + "/opt/build"), "the build's tools are in it")
    check(not os.path.exists(mount + "/source"), "sources are in it")
for folder, _, files in os.walk(mount + "/opt"):
    for each in files:
        mode = os.lstat(os.path.join(folder, each)).st_mode
        check(not mode & (stat.S_ISUID | stat.S_ISGID) and (stat.S_ISLNK(mode) or not mode & stat.S_IWOTH), f"rights of {each}")
data = os.stat(mount + "/data")
check((data.st_uid, stat.S_IMODE(data.st_mode)) == (10001, 0o700), "/data is not the user's alone")
if wrong:
    sys.exit("; ".join(wrong))
PYTHON
    run() { b run --isolation chroot --user 10001:10001 "$container" -- "$@"; }
    if [ "$target" = pyrelay ]; then
        run /usr/bin/tini -- /opt/pyrelay/bin/pyrelay version >"$work/said" || fail "pyrelay version"
        grep -q "pyrelay $version" "$work/said" || fail "it is $(cat "$work/said")"
        run /opt/pyrelay/bin/pyrelay kubernetes identity --datadir /data/pyrelay --cluster test --namespace n --pod p-0 \
            --no-publish --log-format text >"$work/said" || fail "the container identity"
        grep -q 'Found .onion address' "$work/said" || fail "identity says $(cat "$work/said")"
        # A daemon without Tor: it must answer its health page, and end at SIGTERM with 0.
        run /bin/sh -c '/usr/bin/tini -- /opt/pyrelay/bin/pyrelay --datadir /data/pyrelay --only-onion --tor-proxy 127.0.0.1:9 \
            --discovery off --metrics.port 16060 --log-format json >/tmp/log 2>&1 & pid=$!
            for _ in $(seq 60); do
                /opt/pyrelay/bin/python -IS -c "import urllib.request as r; r.urlopen(\"http://127.0.0.1:16060/healthz\", timeout=4)" 2>/dev/null && break
                sleep 1
            done && kill -TERM $pid && wait $pid; code=$?; [ $code = 0 ] || { cat /tmp/log; exit 1; }' >&2 || fail "the daemon"
    else
        run /usr/bin/tor --version >"$work/said" || fail "tor --version"
        say "$(head -n 1 "$work/said")"
        for torrc in overlays/sidecar/torrc overlays/isolated-tor/pair/torrc; do
            cp "$root/deployment/kubernetes/$torrc" "$mount/tmp/torrc"
            chmod 0644 "$mount/tmp/torrc"
            run /usr/bin/tini -- /usr/bin/tor --defaults-torrc /dev/null -f /tmp/torrc --verify-config >"$work/said" ||
                { cat "$work/said" >&2; fail "Tor does not take $torrc"; }
        done
    fi
    b umount "$container" >/dev/null
    b rm "$container" >/dev/null
    container=''
    if [ -n "$archive" ]; then
        mkdir -p "$archive"
        mv "$archived" "$archive/$target.tar"
    fi
done
say "both are well"
