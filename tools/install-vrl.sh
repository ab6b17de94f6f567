#!/bin/sh
# Builds the compiler of Vector's language (tests/counterparts/vrl), which tests of deployment/logging run, and prints
# its program: some minutes, once.
exec "$(dirname "$0")/build-crate.sh" vrl vrl-lines "the compiler of Vector's language"
