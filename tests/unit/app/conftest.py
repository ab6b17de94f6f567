from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.app.checks import CHECKS
from relay.app.checkup import Case, Finding, State, examine
from relay.settings import Settings, load_settings

NOW = 1_800_000_000.0


class Doctor:
    """Examines a data folder by the real steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW

    async def findings(self, **flags: Any) -> list[Finding]:
        given = {
            name.replace("_", "-").replace("-addr", ".addr"): str(value) for name, value in flags.items()
        }
        base = {"datadir": str(self.folder), "metrics.port": "0", "port": "0"}
        case = Case(base | given, lambda: self.now, {})
        return [finding async for finding in examine(case, CHECKS)]

    async def of(self, check: str, **flags: Any) -> list[Finding]:
        return [each for each in await self.findings(**flags) if each.check == check]

    async def one(self, check: str, **flags: Any) -> Finding:
        (finding,) = await self.of(check, **flags)
        assert (finding.state in (State.OK, State.SKIPPED)) == (not finding.remedy)
        return finding


@pytest.fixture
def doctor(tmp_path) -> Doctor:
    return Doctor(tmp_path / "relay")


@pytest.fixture
def settings_of(tmp_path) -> Callable[..., Settings]:
    """Settings of a daemon on free ports of loopback."""

    def make(**flags: Any) -> Settings:
        given = {name.replace("_", "-"): str(value) for name, value in flags.items()}
        base = {
            "datadir": str(tmp_path / "relay"),
            "listen-address": "127.0.0.1",
            "port": "0",
            "metrics.port": "0",
            "discovery": "off",
        }
        return load_settings(base | given, {})

    return make
