#!/bin/sh
# As render.sh, for the Ethereum stack and its monitoring: into rendered/stack/, where changes can be reviewed and tests compare.
# usage: deployment/kubernetes/render-stack.sh
set -eu
cd "$(dirname "$0")"
mkdir -p rendered/stack
for folder in ethereum/overlays/*/ monitoring/; do
    name=$(basename "$folder")
    kubectl kustomize "$folder" >"rendered/stack/$name.yaml.new"
    mv "rendered/stack/$name.yaml.new" "rendered/stack/$name.yaml"
done
