#!/bin/sh
# Adds a pair of relay and Tor to this overlay. Its keys: deployment/scripts/make-keys.sh gethrelay-only-onion-N-0
# usage: overlays/isolated-tor/add-relay.sh N...
set -eu
cd "$(dirname "$0")"
[ "$#" -gt 0 ] || { echo "usage: add-relay.sh N..." >&2; exit 2; }
for n; do
    case $n in
    '' | 0* | *[!0-9]*) echo "add-relay.sh: '$n' is no number from 1 on" >&2; exit 2 ;;
    esac
    mkdir -p "relays/$n"
    sed "s/@N@/$n/g" relay.template.yaml >"relays/$n/kustomization.yaml"
    grep -qx "  - relays/$n" kustomization.yaml || {
        sed "/^  - \.\.\/\.\.\/base\$/a\\
  - relays/$n" kustomization.yaml >"kustomization.yaml.new"
        mv kustomization.yaml.new kustomization.yaml
    }
done
