#!/bin/sh
# Builds the compiler of Vector's language from its crate (tests/counterparts/vrl) into the user's cache and prints the
# program, which tests of deployment/logging run. Needs cargo. Some minutes, once for each version of the sources.
set -eu
source=$(cd "$(dirname "$0")/../tests/counterparts/vrl" && pwd)
mark=$(cd "$source" && cat Cargo.toml versions.lock src/main.rs | cksum | cut -d' ' -f1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/vrl-$mark
if [ ! -x "$cache/vrl-lines" ]; then
    command -v cargo >/dev/null || { echo "pyrelay: the compiler of Vector's language needs cargo" >&2; exit 1; }
    mkdir -p "${cache%/*}"
    made=$(mktemp -d "$cache.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    cp -r "$source/Cargo.toml" "$source/src" "$made"
    echo "pyrelay: building the compiler of Vector's language (some minutes, once)" >&2
    attempt=1
    until (
        cd "$made" && cargo generate-lockfile >&2 || exit 1
        # versions.lock is a lock file without the registry's address, which is cargo's to know.
        registry=$(grep -m1 '^source = ' Cargo.lock)
        awk -v registry="$registry" '/^checksum = /{print registry} {print}' "$source/versions.lock" >Cargo.lock
        nice -n 10 cargo build --release --locked --target-dir target >&2
    ); do
        [ "$attempt" -ge 4 ] && exit 1
        sleep $((attempt * 5))
        attempt=$((attempt + 1))
    done
    mkdir -p "$cache"
    mv "$made/target/release/vrl-lines" "$cache/vrl-lines"
fi
echo "$cache/vrl-lines"
