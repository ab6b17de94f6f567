#!/bin/sh
# Puts the definitions of the custom resources that deployment/ uses into the user's cache and prints the folder: taken out
# of their projects' published Go modules, each pinned by version and hash. Needs Go and python3; nothing is compiled.
# usage: tools/install-kube-definitions.sh
set -eu
pins=$(cd "$(dirname "$0")/../tests/counterparts" && pwd)/kube-definitions.txt
mark=$(cksum <"$pins" | cut -d' ' -f1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/kube-definitions-$mark
[ ! -d "$cache" ] || { echo "$cache"; exit 0; }
command -v go >/dev/null || { echo "pyrelay: definitions of custom resources come by Go (sudo apt-get install golang)" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/definitions"
grep -v '^#' "$pins" | while read -r module version sum files; do
    echo "pyrelay: definitions of $module $version" >&2
    # A module that asks for a newer Go is an error, but it is there by then: the hash decides, not the exit code.
    (cd "$work" && go mod download -json "$module@$version") >"$work/found.json" 2>"$work/errors" || true
    python3 - "$work" "$module@$version" "$sum" "$files" >&2 <<'END' || { cat "$work/errors" >&2; exit 1; }
import json
import pathlib
import sys
import zipfile

work, root, pinned, files = sys.argv[1:]
try:
    found = json.loads((pathlib.Path(work) / "found.json").read_text())
except ValueError:
    sys.exit(f"pyrelay: {root} did not come")
if "Zip" not in found:
    sys.exit(f"pyrelay: {root} did not come: {found.get('Error', '')}")
if found.get("Sum") != pinned:
    sys.exit(f"pyrelay: {root} has the hash {found.get('Sum')}, not {pinned}")
with zipfile.ZipFile(found["Zip"]) as module:
    for name in files.split():
        (pathlib.Path(work) / "definitions" / pathlib.Path(name).name).write_bytes(module.read(f"{root}/{name}"))
END
done
mkdir -p "$(dirname "$cache")"
mv "$work/definitions" "$cache" 2>/dev/null || [ -d "$cache" ] # two at once: the first one stays
echo "$cache"
