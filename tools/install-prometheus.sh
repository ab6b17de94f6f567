#!/bin/sh
# Prints a folder that holds prometheus, promtool, alertmanager, amtool and node_exporter: those on PATH, or else Debian's packages
# unpacked into the user's cache. Unpacked, not installed: the packages would start services of their own on this machine.
# Needs apt-get and dpkg-deb, not root.
set -eu
programs="prometheus promtool alertmanager amtool node_exporter"
packages="prometheus prometheus-alertmanager prometheus-node-exporter"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pyrelay/prometheus
missing=
for each in $programs; do
    [ -x "$cache/bin/$each" ] || missing=yes
done
if [ -n "$missing" ]; then
    mkdir -p "$cache/bin" "$cache/packages"
    found=yes
    for each in $programs; do
        path=$(command -v "$each") && ln -sf "$path" "$cache/bin/$each" || found=
    done
    if [ -z "$found" ]; then
        echo "pyrelay: fetching Debian's $packages (60 MB, once)" >&2
        command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
            { echo "pyrelay: install $programs: they are not all on PATH, and there is no apt-get" >&2; exit 1; }
        attempt=1
        until (cd "$cache/packages" && apt-get -o Acquire::Retries=5 -qq download $packages 2>/dev/null); do
            [ "$attempt" -ge 4 ] && { echo "pyrelay: apt-get could not download them (try: apt-get update)" >&2; exit 1; }
            # A machine that never looked has no lists; who is not root does without.
            [ "$(id -u)" = 0 ] && apt-get -o Acquire::Retries=5 -qq update >/dev/null 2>&1 || true
            sleep $((attempt * 5))
            attempt=$((attempt + 1))
        done
        for each in "$cache"/packages/*.deb; do
            dpkg-deb -x "$each" "$cache/unpacked"
        done
        for each in prometheus promtool amtool; do
            ln -sf "$cache/unpacked/usr/bin/$each" "$cache/bin/$each"
        done
        ln -sf "$cache/unpacked/usr/bin/prometheus-alertmanager" "$cache/bin/alertmanager"
        ln -sf "$cache/unpacked/usr/bin/prometheus-node-exporter" "$cache/bin/node_exporter"
    fi
fi
echo "$cache/bin"
