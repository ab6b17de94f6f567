#!/bin/sh
# Builds the discv5 peer on the crate discv5 (tests/counterparts/discv5-rust) into the user's cache and prints
# its program. Needs cargo. About two minutes, once for each version of the sources.
set -eu
source=$(cd "$(dirname "$0")/../tests/counterparts/discv5-rust" && pwd)
mark=$(cd "$source" && cat Cargo.toml versions.lock src/main.rs | cksum | cut -d' ' -f1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/discv5-rust-$mark
if [ ! -x "$cache/discv5-peer" ]; then
    command -v cargo >/dev/null || { echo "pyrelay: the Rust discv5 peer needs cargo" >&2; exit 1; }
    mkdir -p "${cache%/*}"
    made=$(mktemp -d "$cache.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    cp -r "$source/Cargo.toml" "$source/src" "$made"
    echo "pyrelay: building the Rust discv5 peer (two minutes, once)" >&2
    attempt=1
    until (
        cd "$made" && cargo generate-lockfile >&2 || exit 1
        # versions.lock is a lock file without the registry's address, which is cargo's to know.
        registry=$(grep -m1 '^source = ' Cargo.lock)
        awk -v registry="$registry" '/^checksum = /{print registry} {print}' "$source/versions.lock" >Cargo.lock
        cargo build --release --locked --target-dir target >&2
    ); do
        [ "$attempt" -ge 4 ] && exit 1
        sleep $((attempt * 5))
        attempt=$((attempt + 1))
    done
    mkdir -p "$cache"
    mv "$made/target/release/discv5-peer" "$cache/discv5-peer"
fi
echo "$cache/discv5-peer"
