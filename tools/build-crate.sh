#!/bin/sh
# Builds the program of tests/counterparts/FOLDER from its crates into the user's cache, once for each version of the
# sources, and prints it. Needs cargo. usage: tools/build-crate.sh FOLDER PROGRAM WORDS...    (WORDS: what people read)
set -eu
name=$1 program=$2
shift 2
source=$(cd "$(dirname "$0")/../tests/counterparts/$name" && pwd)
mark=$(cd "$source" && cat Cargo.toml versions.lock src/main.rs | cksum | cut -d' ' -f1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/$name-$mark
if [ ! -x "$cache/$program" ]; then
    command -v cargo >/dev/null || { echo "pyrelay: $* needs cargo" >&2; exit 1; }
    mkdir -p "${cache%/*}"
    made=$(mktemp -d "$cache.XXXXXX")
    trap 'rm -rf "$made"' EXIT
    cp -r "$source/Cargo.toml" "$source/src" "$made"
    echo "pyrelay: building $* (some minutes, once)" >&2
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
    mv "$made/target/release/$program" "$cache/$program"
fi
echo "$cache/$program"
