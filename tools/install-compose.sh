#!/bin/sh
# Builds the reader of Compose files (compose-go, docker compose's own) from its Go module (tests/counterparts/compose)
# into the user's cache and prints the program. Needs Go; no root, no docker. Seconds, once. usage: tools/install-compose.sh
set -eu
source=$(cd "$(dirname "$0")/../tests/counterparts/compose" && pwd)
mark=$(cd "$source" && cat go.mod go.sum | cksum | cut -d' ' -f1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/compose-$mark
if [ ! -x "$cache/compose-spec" ]; then
    command -v go >/dev/null || { echo "pyrelay: building compose-spec needs Go (sudo apt-get install golang)" >&2; exit 1; }
    mkdir -p "$cache"
    attempt=1
    # The name with the process id: two builds at once end with one whole program.
    until (cd "$source" && CGO_ENABLED=0 GOFLAGS=-modcacherw nice -n 10 go build -mod=readonly -buildvcs=false -trimpath \
        -ldflags "-s -w" -o "$cache/compose-spec.$$" github.com/compose-spec/compose-go/v2/cmd >&2); do
        [ "$attempt" -ge 4 ] && exit 1
        sleep $((attempt * 5))
        attempt=$((attempt + 1))
    done
    mv -f "$cache/compose-spec.$$" "$cache/compose-spec"
fi
echo "$cache/compose-spec"
