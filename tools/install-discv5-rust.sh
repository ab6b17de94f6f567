#!/bin/sh
# Builds the discv5 peer on the crate discv5 (tests/counterparts/discv5-rust) and prints its program: two minutes, once.
exec "$(dirname "$0")/build-crate.sh" discv5-rust discv5-peer "the Rust discv5 peer"
