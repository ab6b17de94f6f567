"""`pyrelay localnet --dht`: what peers are told, and what a person sees. The session itself: tests/e2e."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from relay.cli.arguments import daemon_parser, given_options
from relay.localnet import dht as module
from relay.localnet.dht import DhtLocalnet, DhtOptions, Lines
from relay.primitives.errors import LocalError, TorControlError
from relay.primitives.node import Node
from relay.settings import load_settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_peer_is_given_those_before_it_and_nobody_else(tmp_path):
    relays = module._peers(tmp_path, 4)
    for relay in relays:
        words = daemon_parser().parse_args(relay.arguments("127.0.0.1:9050", "127.0.0.1:9051"))
        settings = load_settings(given_options(words), {})
        assert settings.discovery == ("onion", "dht")
        assert settings.bootnodes is not None
        assert [Node.parse(url).public_key for url in settings.bootnodes] == [
            each.node_key.public_key for each in relays[: relay.number - 1]
        ]
        assert not (relay.directory / "static-nodes.json").exists()


def test_what_passes_is_a_line_once_in_a_pipe_and_in_place_on_a_terminal():
    pipe, terminal = io.StringIO(), Terminal()
    for file in (pipe, terminal):
        lines = Lines(file, time.monotonic())
        for _ in range(2):
            lines.passing("working")
        lines.say("done")
        lines.add("more")
    assert [line[10:] for line in pipe.getvalue().splitlines()] == ["working", "done", "more"]
    shown = terminal.getvalue()
    assert shown.count("\r\x1b[K") == 3
    assert shown.count("\n") == 2


class Broken:
    """A Tor network that does not start."""

    stopped = False

    def __init__(self, _folder: Any) -> None:
        pass

    async def start(self, progress: Any) -> None:
        progress(0, "beginning")
        raise TorControlError("no consensus")

    async def stop(self) -> None:
        Broken.stopped = True


async def test_network_that_does_not_start_is_one_error_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    text = io.StringIO()
    run = DhtLocalnet(DhtOptions(), Lines(text, time.monotonic()), network=Broken)  # type: ignore[arg-type]
    with pytest.raises(TorControlError, match="no consensus"):
        await run.run()
    assert Broken.stopped
    assert list(tmp_path.iterdir()) == []
    assert [line[10:] for line in text.getvalue().splitlines()] == [
        "creating 5 peers on a private Tor network",
        "Tor: beginning",
        "ending",
        "ended",
    ]


async def test_command_that_prints_no_json_is_an_error_with_its_last_words():
    with pytest.raises(LocalError, match=r"dht find failed: pyrelay: .*needs Tor"):
        await module._run(["dht", "find", "x", "--datadir", "/nonexistent"])


async def test_what_does_not_happen_in_time_is_named():
    async def never() -> None:
        await module._until(_no)

    with pytest.raises(LocalError, match=r"it did not happen in 0.01 s"):
        await module._in_time(0.01, "it did not happen", never)


async def _no() -> bool:
    return False


@pytest.mark.parametrize(("key", "shown"), [("0x" + "AB" * 32, "0x" + "ab" * 32), ("x", "the hash of 'x'")])
def test_key_is_shown_as_it_was_meant(key, shown):
    assert module._named(key).endswith(shown)
