#!/bin/sh
# Installs tor where it is missing: by apt when that needs no password, else says what to type.
set -eu
cd "$(dirname "$0")/.."
command -v tor >/dev/null && exit 0
[ -x /usr/sbin/tor ] && exit 0
if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }; then
    echo "pyrelay: installing tor" >&2
    exec tools/apt-install.sh tor
fi
echo "pyrelay: the program tor is missing; type the line of your system and run make again:" >&2
if command -v apt-get >/dev/null; then
    echo "  sudo apt-get install tor" >&2
else
    echo "  Fedora:  sudo dnf install tor" >&2
    echo "  Arch:    sudo pacman -S tor" >&2
    echo "  macOS:   brew install tor" >&2
    echo "  Debian:  sudo apt-get install tor" >&2
fi
exit 1
