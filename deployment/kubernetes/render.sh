#!/bin/sh
# Writes what each overlay amounts to into rendered/, where changes can be reviewed and tests compare.
# usage: deployment/kubernetes/render.sh
set -eu
cd "$(dirname "$0")"
for overlay in sidecar pre-generated-keys bridge federated isolated-tor; do
    kubectl kustomize "overlays/$overlay" >"rendered/$overlay.yaml.new"
    mv "rendered/$overlay.yaml.new" "rendered/$overlay.yaml"
done
