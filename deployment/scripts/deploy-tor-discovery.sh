#!/bin/sh
# The name that people know; it is deployment/kubernetes/deploy.sh, with the same arguments.
exec "$(dirname "$0")/../kubernetes/deploy.sh" "$@"
