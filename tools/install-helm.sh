#!/bin/sh
# Builds helm from its Go module (tests/counterparts/helm) into the user's cache and prints the program. Needs Go; no
# root. Done once for each version of go.mod. usage: tools/install-helm.sh
set -eu
source=$(cd "$(dirname "$0")/../tests/counterparts/helm" && pwd)
mark=$(cd "$source" && cat go.mod go.sum | cksum | cut -d' ' -f1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/helm-$mark
version() { awk -v name="$1" '$1 == name { print $2; exit }' "$source/go.mod"; }

if [ ! -x "$cache/helm" ]; then
    command -v go >/dev/null || { echo "pyrelay: building helm needs Go (sudo apt-get install golang)" >&2; exit 1; }
    mkdir -p "$cache"
    echo "pyrelay: building helm $(version helm.sh/helm/v3) (some minutes, once)" >&2
    # Charts ask which Kubernetes it is for; not told, helm says 1.20.
    minor=$(version k8s.io/client-go)
    minor=${minor#v0.}
    minor=${minor%%.*}
    linked="-s -w -X helm.sh/helm/v3/internal/version.version=$(version helm.sh/helm/v3)"
    for package in helm.sh/helm/v3/pkg/chartutil helm.sh/helm/v3/pkg/lint/rules; do
        linked="$linked -X $package.k8sVersionMajor=1 -X $package.k8sVersionMinor=$minor"
    done
    attempt=1
    # The name with the process id: two builds at once end with one whole program.
    until (cd "$source" && CGO_ENABLED=0 GOFLAGS=-modcacherw nice -n 10 go build -mod=readonly -buildvcs=false -trimpath \
        -ldflags "$linked" -o "$cache/helm.$$" helm.sh/helm/v3/cmd/helm >&2); do
        [ "$attempt" -ge 4 ] && exit 1
        sleep $((attempt * 5))
        attempt=$((attempt + 1))
    done
    mv -f "$cache/helm.$$" "$cache/helm"
fi
echo "$cache/helm"
