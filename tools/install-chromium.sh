#!/bin/sh
# Installs Debian's chromium where it is missing, for the tests of the status page; prints where it is.
set -eu
here=$(dirname "$0")
command -v chromium >/dev/null 2>&1 || "$here/apt-install.sh" chromium
command -v chromium
