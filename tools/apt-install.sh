#!/bin/sh
# Installs Debian packages as root or by a password-less sudo; slow mirrors are tried again.
# usage: tools/apt-install.sh PACKAGE...
set -eu
run() {
    if [ "$(id -u)" = 0 ]; then env DEBIAN_FRONTEND=noninteractive "$@"; else sudo -n env DEBIAN_FRONTEND=noninteractive "$@"; fi
}
attempt=1
until run apt-get -o Acquire::Retries=5 -qq update >/dev/null &&
    run apt-get -o Acquire::Retries=5 -o Dpkg::Use-Pty=0 -qq install -y --no-install-recommends "$@" >/dev/null; do
    [ "$attempt" -ge 4 ] && { echo "pyrelay: apt-get could not install: $*" >&2; exit 1; }
    sleep $((attempt * 5))
    attempt=$((attempt + 1))
done
