#!/bin/sh
# Builds the discv5 peer on go-ethereum's p2p/discover (tests/counterparts/discv5-geth) into the user's cache
# and prints its program. Needs Go. Done once for each version of the sources.
set -eu
source=$(cd "$(dirname "$0")/../tests/counterparts/discv5-geth" && pwd)
mark=$(cd "$source" && cat go.mod go.sum main.go | cksum | cut -d' ' -f1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/discv5-geth-$mark
if [ ! -x "$cache/discv5-peer" ]; then
    command -v go >/dev/null || { echo "pyrelay: geth's discv5 needs Go (sudo apt-get install golang)" >&2; exit 1; }
    mkdir -p "$cache"
    echo "pyrelay: building geth's discv5 (a minute, once)" >&2
    attempt=1
    until (cd "$source" && GOFLAGS=-modcacherw go build -o "$cache/discv5-peer" . >&2); do
        [ "$attempt" -ge 4 ] && exit 1
        sleep $((attempt * 5))
        attempt=$((attempt + 1))
    done
fi
echo "$cache/discv5-peer"
