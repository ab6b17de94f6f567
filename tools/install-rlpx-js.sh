#!/bin/sh
# Installs the RLPx peer on @ethereumjs/devp2p (tests/counterparts/rlpx-js) into the user's cache and
# prints its program. Needs Node 20 and npm. Done once for each version of the sources.
set -eu
source=$(cd "$(dirname "$0")/../tests/counterparts/rlpx-js" && pwd)
mark=$(cd "$source" && cat package.json package-lock.json peer.mjs | cksum | cut -d' ' -f1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/rlpx-js-$mark
if [ ! -f "$cache/peer.mjs" ]; then
    command -v npm >/dev/null || { echo "pyrelay: the JavaScript RLPx peer needs Node 20 with npm" >&2; exit 1; }
    mkdir -p "${cache%/*}"
    made=$(mktemp -d "$cache.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    cp "$source/package.json" "$source/package-lock.json" "$source/peer.mjs" "$made"
    attempt=1
    until (cd "$made" && npm ci --ignore-scripts --no-audit --no-fund >&2); do
        [ "$attempt" -ge 4 ] && exit 1
        sleep $((attempt * 5))
        attempt=$((attempt + 1))
    done
    chmod 755 "$made"
    # Another one may have been quicker; theirs is as good.
    [ -d "$cache" ] || mv "$made" "$cache"
fi
echo "$cache/peer.mjs"
