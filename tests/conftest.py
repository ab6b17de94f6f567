"""For all tests: how long an example takes tells of the machine and its load, not of the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("pyrelay", deadline=None)
settings.load_profile("pyrelay")
