"""For all tests: how long an example takes is no property of the code, and differs with the machine's load."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("pyrelay", deadline=None)
settings.load_profile("pyrelay")
