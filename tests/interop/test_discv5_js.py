"""Our discv5 and @chainsafe/discv5 (JavaScript) on UDP: both ways, with restarts and changed records."""

from __future__ import annotations

from tests.aids.discv5_meetings import Meetings


class TestJavaScript(Meetings):
    kind = "js"
