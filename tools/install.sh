#!/bin/sh
# Makes .venv and installs the hash-locked dependencies and this checkout.
# usage: tools/install.sh [dev]     PYTHON=... chooses the interpreter.
# Done again only when a lock file or pyproject.toml changed.
set -eu
cd "$(dirname "$0")/.."
what=${1:-run}
venv=${VENV:-.venv}

fail() { printf 'pyrelay: %s\n' "$1" >&2; exit 1; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null && supported "$candidate"; then echo "$candidate"; return; fi
    done
    fail "needs Python 3.11, 3.12 or 3.13 (looked for python3.13, python3.12, python3.11, python3); set PYTHON=/path/to/python"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

make_venv() {
    log=$(mktemp)
    if "$python" -m venv "$venv" >"$log" 2>&1 && "$venv/bin/python" -m pip --version >>"$log" 2>&1; then rm -f "$log"; return; fi
    rm -rf "$venv"
    # Debian and Ubuntu ship Python without venv and pip
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if command -v apt-get >/dev/null && can_be_root; then
        echo "pyrelay: installing $package (this Python has no venv)" >&2
        tools/apt-install.sh "$package" || fail "could not install $package"
        "$python" -m venv "$venv" || fail "could not make $venv"
        rm -f "$log"
        return
    fi
    cat "$log" >&2
    rm -f "$log"
    fail "this Python can't make a virtual environment; type:  sudo apt-get install $package"
}

python=$(find_python)
stamp="$venv/.pyrelay-installed"
want="$what $(cat pyproject.toml requirements.lock requirements-dev.lock | cksum) $(pwd)"
case "$(cat "$stamp" 2>/dev/null)" in
    "$want" | "dev ${want#run }") exit 0 ;;
esac

if [ -d "$venv" ] && ! supported "$venv/bin/python"; then rm -rf "$venv"; fi
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then make_venv; fi
rm -f "$stamp"
lock=requirements.lock
[ "$what" = dev ] && lock=requirements-dev.lock
echo "pyrelay: installing what $lock names into $venv" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 10 --require-hashes -r "$lock"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
printf '%s' "$want" >"$stamp"
