#!/bin/sh
# Installs i2pd for the tests over I2P, and keeps its service from joining the public network.
set -eu
cd "$(dirname "$0")/.."
command -v i2pd >/dev/null && exit 0
tools/apt-install.sh i2pd iproute2
[ -d /run/systemd/system ] || exit 0
if [ "$(id -u)" = 0 ]; then systemctl disable --now i2pd >&2; else sudo -n systemctl disable --now i2pd >&2; fi
