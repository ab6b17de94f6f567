#!/bin/sh
# The name that people know. What a shell script did in an init container, the program in the image does: publish this
# pod's entry, write static-nodes.json from the others'. By hand: --kubeconfig FILE --namespace NAME --pod NAME.
exec pyrelay kubernetes static-nodes "$@"
