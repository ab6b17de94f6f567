"""Rotation of circuits in the daemon: nothing by itself, and what it renews where it is wanted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from relay.app import circuits
from relay.app.circuits import renew_credentials, rotate_peers
from relay.app.outward import WaysOut, ways_out
from relay.primitives.address import parse_address
from relay.primitives.errors import UsageError
from relay.settings import Settings, load_settings
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Purpose
from tests.aids.until import until


def settings_of(folder: Path, *flags: str) -> Settings:
    argv = dict(flag.split("=") for flag in flags)
    return load_settings({"datadir": str(folder)} | argv, {})


def ways(proxy: str | None) -> WaysOut:
    address = None if proxy is None else parse_address(proxy)
    sockets = SocketFactory(SocketRules.anywhere())
    return ways_out(Mode.DEFAULT if address else Mode.NO_TOR, sockets, address, tuple)


NOBODY = cast(Any, None)


async def test_without_a_wish_nothing_is_renewed(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "tor-proxy=127.0.0.1:9050")
    async with asyncio.timeout(5):
        await rotate_peers(settings, ways("127.0.0.1:9050"), NOBODY, NOBODY)
        await renew_credentials(settings, ways("127.0.0.1:9050"))


async def test_identity_without_tor_has_nothing_to_renew(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "tor-proxy=127.0.0.1:9050", "tor-rotate-circuits=1h")
    async with asyncio.timeout(5):
        await rotate_peers(settings, ways(None), NOBODY, NOBODY)
        await renew_credentials(settings, ways(None))


async def test_all_purposes_get_new_credentials_and_keepers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuits, "jittered", lambda seconds, share, rand: 0.01)
    settings = settings_of(tmp_path, "tor-proxy=127.0.0.1:9050", "tor-rotate-circuits=1h")
    out = ways("127.0.0.1:9050")
    assert out.socks is not None
    assert out.rpc is not None
    assert out.lists is not None
    assert out.socks.isolation is out.rpc.isolation is out.lists.isolation
    told: list[bool] = []
    out.rpc.isolation.on_renewed(lambda: told.append(True))
    before = out.socks.isolation.credentials(Purpose.BROADCAST).username
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(renew_credentials(settings, out))
        await until(lambda: len(told) >= 2, "twice")
        task.cancel()
    assert out.lists.isolation.credentials(Purpose.BROADCAST).username != before


def test_rotation_needs_tor(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tor-rotate-circuits needs Tor"):
        settings_of(tmp_path, "tor-rotate-circuits=1h")


def test_rotation_is_off_by_default(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "tor-proxy=127.0.0.1:9050")
    assert settings.tor_rotate_circuits == 0
    assert replace(settings, tor_rotate_circuits=3600).tor_rotate_circuits == 3600
