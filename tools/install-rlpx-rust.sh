#!/bin/sh
# Builds the RLPx peer on the crates of ethrex (tests/counterparts/rlpx-rust) and prints its program: five minutes, once.
exec "$(dirname "$0")/build-crate.sh" rlpx-rust rlpx-peer "the Rust RLPx peer"
