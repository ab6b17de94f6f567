"""Our discv5 and the one in Rust (the crate discv5) on UDP: both ways, with restarts and changed records."""

from __future__ import annotations

from tests.aids.discv5_meetings import Meetings


class TestRust(Meetings):
    kind = "rust"
