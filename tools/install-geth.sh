#!/bin/sh
# Builds geth and devp2p (its conformance suites) from go-ethereum's Go module into the user's cache
# and prints the folder. Needs Go. Done once for each version.
set -eu
version=${GETH_VERSION:-v1.17.8}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/geth-$version
if [ ! -x "$cache/geth" ] || [ ! -x "$cache/devp2p" ] || [ ! -d "$cache/testdata" ]; then
    command -v go >/dev/null || { echo "pyrelay: building geth needs Go (sudo apt-get install golang)" >&2; exit 1; }
    mkdir -p "$cache"
    echo "pyrelay: building geth $version (some minutes, once)" >&2
    attempt=1
    until GOBIN="$cache" GOFLAGS=-modcacherw go install \
        "github.com/ethereum/go-ethereum/cmd/geth@$version" "github.com/ethereum/go-ethereum/cmd/devp2p@$version" >&2; do
        [ "$attempt" -ge 4 ] && exit 1
        sleep $((attempt * 5))
        attempt=$((attempt + 1))
    done
    module=$(go env GOMODCACHE)/github.com/ethereum/go-ethereum@$version
    rm -rf "$cache/testdata"
    cp -r "$module/cmd/devp2p/internal/ethtest/testdata" "$cache/testdata"
    chmod -R u+w "$cache/testdata"
fi
echo "$cache"
