"""The lane of bulk data in the daemon: there only where it was asked for, and in one direction."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relay.app import adaptive
from relay.app.adaptive import carry_bulk
from relay.settings import Settings, load_settings
from relay.settings.identities import Side
from tests.aids.until import until


def settings_of(folder: Path, **flags: str) -> Settings:
    argv = {name.replace("_", "-"): value for name, value in flags.items()}
    return load_settings({"datadir": str(folder), "tor-proxy": "127.0.0.1:9050"} | argv, {})


def identity(side: Side | None, chain: str) -> Any:
    return SimpleNamespace(side=side, eth=SimpleNamespace(chain=chain))


class Lane:
    """Notes what it was made of."""

    made: list[Lane] = []  # noqa: RUF012 - of one test

    def __init__(self, source: str, target: str, *_: object) -> None:
        self.source, self.target, self.running = source, target, False
        Lane.made.append(self)

    def begin(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False


@pytest.fixture(autouse=True)
def lanes(monkeypatch: pytest.MonkeyPatch) -> list[Lane]:
    Lane.made = []
    monkeypatch.setattr(adaptive, "BulkLane", Lane)
    return Lane.made


async def test_there_is_none_by_default(tmp_path: Path, lanes: list[Lane]) -> None:
    both = [identity(Side.ONION, "onion"), identity(Side.CLEARNET, "clearnet")]
    async with asyncio.timeout(5):
        await carry_bulk(settings_of(tmp_path, prefer_tor="true"), both)
        await carry_bulk(settings_of(tmp_path, single_identity="true"), [identity(None, "only")])
    assert lanes == []


async def test_it_leads_from_clearnet_to_onion_until_the_end(tmp_path: Path, lanes: list[Lane]) -> None:
    both = [identity(Side.ONION, "onion"), identity(Side.CLEARNET, "clearnet")]
    settings = settings_of(tmp_path, prefer_tor="true", adaptive_transport="true")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(carry_bulk(settings, both))
        await until(lambda: bool(lanes) and lanes[0].running, "it runs")
        task.cancel()
    (lane,) = lanes
    assert (lane.source, lane.target, lane.running) == ("clearnet", "onion", False)
