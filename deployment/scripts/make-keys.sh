#!/bin/sh
# Makes a node key and an onion key for each pod named, and with --apply the Secret gethrelay-nodekeys of all of them.
# DIR is what to keep safe: who has it, is those relays. Keys that are there are left alone. Needs pyrelay.
# usage: deployment/scripts/make-keys.sh --out DIR [--apply] [--namespace NAME] POD...
#   such as: make-keys.sh --out keys --apply gethrelay-only-onion-0 gethrelay-only-onion-1 gethrelay-only-onion-2
set -eu
umask 077
usage() { sed -n '4,5s/^# *//p' "$0" >&2; exit 2; }

out='' apply=no namespace=gethrelay
while [ "$#" -gt 0 ]; do
    case $1 in
    --out | --namespace)
        [ "$#" -ge 2 ] || usage
        if [ "$1" = --out ]; then out=$2; else namespace=$2; fi
        shift ;;
    --apply) apply=yes ;;
    -*) usage ;;
    *) break ;;
    esac
    shift
done
{ [ -n "$out" ] && [ "$#" -gt 0 ]; } || usage

mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
for pod; do
    case $pod in
    '' | -* | *[!a-z0-9.-]*) echo "make-keys.sh: '$pod' is no name of a pod" >&2; exit 2 ;;
    esac
    if [ -e "$out/$pod-nodekey" ]; then
        echo "$pod: has keys already" >&2
    else
        pyrelay key new --datadir "$work/$pod" --json >"$work/$pod.json"
        sed -n 's/.*"onion": *"\([a-z2-7]*\.onion\)".*/\1/p' "$work/$pod.json" | tr -d '\n' >"$out/$pod-hostname"
        [ -s "$out/$pod-hostname" ] || { echo "make-keys.sh: pyrelay told no onion address of $pod" >&2; exit 1; }
        cp "$work/$pod/onion_key" "$out/$pod-onion_key"
        cp "$work/$pod/nodekey" "$out/$pod-nodekey" # last: it marks that all are there
        echo "$pod: made" >&2
    fi
done
[ "$apply" = no ] || kubectl -n "$namespace" create secret generic gethrelay-nodekeys --from-file="$out" \
    --dry-run=client -o yaml | kubectl -n "$namespace" apply --server-side --field-manager=pyrelay-deploy -f -
