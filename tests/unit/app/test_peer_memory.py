"""What is remembered of peers over restarts: the file, and who is asked of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relay.app.datadir import DataDir
from relay.app.peer_memory import ANCHORS, PeerMemory, Remembered, load_memory, remember_peers
from relay.peering.acquaintance import LONG
from relay.peering.eviction import Merit
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import StorageError
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.transports.policy import Mode
from tests.aids.dialing import Bench, Source, node_of
from tests.aids.peering import key_of

ONION = OnionKey.from_seed(bytes(32)).address
UNIX = 1_800_000_000.0


def eth_of(bench: Bench, **brought: int) -> Any:
    """A pool and a roster: peer n has bit 1 << n."""
    by_key = {key_of(number).public_key: number for number in range(60)}

    def get(session: Any) -> Any:
        number = by_key[session.public_key]
        return SimpleNamespace(included=0.5 * number, bit=1 << number)

    held = [1 << int(name[1:]) for name, count in brought.items() for _ in range(count)]
    entries = {index: SimpleNamespace(source=bit) for index, bit in enumerate(held)}
    return SimpleNamespace(pool=SimpleNamespace(by_hash=entries), roster=SimpleNamespace(get=get))


def sources_of(known: dict[bytes, str]) -> Any:
    return SimpleNamespace(mix=SimpleNamespace(why=known.get), memory=None)


def settings_of(mode: Mode) -> Any:
    return SimpleNamespace(
        mode=mode, listen_address="8.8.8.8", nat=SimpleNamespace(ip=None), bootnodes=(), i2p_sam=None
    )


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data")


class TestFile:
    def test_what_was_written_is_read(self, tmp_path: Path) -> None:
        written = Remembered((node_of(1, ONION), node_of(2)), {key_of(3).public_key: (UNIX - 9, UNIX)})
        path = tmp_path / ANCHORS
        path.write_text(json.dumps(written.to_json()))
        read = load_memory(path, UNIX)
        assert [node.endpoints for node in read.anchors] == [node.endpoints for node in written.anchors]
        assert read.seen == written.seen
        assert load_memory(tmp_path / "none.json", UNIX) == Remembered()

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"{",
            b"[]",
            b"{}",
            b'{"anchors": [5], "seen": {}}',
            b'{"anchors": ["enode://00@1.2.3.4:1"], "seen": {}}',
            b'{"anchors": [], "seen": {"00": [1, 2]}}',
            b'{"anchors": [], "seen": {"zz": [1, 2]}}',
            b'{"anchors": [], "seen": [1]}',
            b'{"anchors": [], "seen": {"%s": [NaN, 1]}}' % key_of(1).public_key.hex().encode(),
            b'{"anchors": [], "seen": {"%s": [1, Infinity]}}' % key_of(1).public_key.hex().encode(),
            b"[" * 100_000,
            bytes(range(256)),
        ],
    )
    def test_damaged_file_is_named_and_set_aside(self, tmp_path: Path, text: bytes, capsys: Any) -> None:
        path = tmp_path / ANCHORS
        path.write_bytes(text)
        assert load_memory(path, UNIX) == Remembered()
        aside = tmp_path / f"{ANCHORS}.corrupt-{int(UNIX)}"
        assert aside.read_bytes() == text
        assert not path.exists()
        shown = capsys.readouterr().out
        assert "anchors are damaged" in shown
        assert aside.name in shown

    def test_a_file_that_cannot_be_read_is_told_of(self, tmp_path: Path, capsys: Any) -> None:
        (tmp_path / ANCHORS).mkdir()
        assert load_memory(tmp_path / ANCHORS, UNIX) == Remembered()
        assert "cannot be read" in capsys.readouterr().out


class TestMemory:
    async def test_a_restart_begins_with_the_peers_of_before(self, data: DataDir) -> None:
        bench = Bench()
        for number in range(1, 7):
            bench.other(number)
        bench.scheduler.add_source(Source([node_of(number, ONION) for number in range(1, 7)]))
        memory = remember_peers(
            settings_of(Mode.DEFAULT),
            data,
            bench.end.peers,
            bench.scheduler,
            sources_of({}),
            eth_of(bench),
        )
        async with bench.running():
            bench.loop.time += LONG
            memory.save()
        again = Bench()
        for number in range(1, 7):
            again.other(number)
        remember_peers(
            settings_of(Mode.DEFAULT),
            data,
            again.end.peers,
            again.scheduler,
            sources_of({}),
            eth_of(again),
        )
        async with again.running():
            assert again.dialer.dialed() == [key_of(number).public_key for number in range(1, 5)]
            assert again.end.peers.dialed == 4
        reputation = again.end.peers.eviction.reputation
        assert reputation.first_seen(key_of(6).public_key) is not None
        assert reputation.first_seen(key_of(7).public_key) is None

    async def test_anchors_that_the_mode_forbids_hold_no_place(self, data: DataDir) -> None:
        data.save_state(ANCHORS, Remembered((node_of(1), node_of(2, ONION))).to_json())
        bench = Bench(Mode.ONLY_ONION)
        remember_peers(
            settings_of(Mode.ONLY_ONION),
            data,
            bench.end.peers,
            bench.scheduler,
            sources_of({}),
            eth_of(bench),
        )
        assert bench.scheduler.anchors is not None
        assert [node.public_key for node in bench.scheduler.anchors.nodes] == [key_of(2).public_key]

    async def test_a_short_run_keeps_the_anchors_of_the_one_before(self, data: DataDir) -> None:
        data.save_state(ANCHORS, Remembered((node_of(1), node_of(2))).to_json())
        bench = Bench()
        memory = memory_of(data, bench)
        memory.save()
        assert [node.public_key for node in load_memory(data.path / ANCHORS, UNIX).anchors] == [
            key_of(1).public_key,
            key_of(2).public_key,
        ]

    async def test_merits_are_of_blocks_and_of_the_latest_transactions(self, data: DataDir) -> None:
        bench = Bench()
        for number in (1, 2):
            bench.other(number)
            bench.scheduler.add_static(node_of(number))
        memory = memory_of(data, bench, eth=eth_of(bench, p1=5000, p2=3))
        async with bench.running():
            assert memory.merits() == {
                key_of(1).public_key: Merit(0.5, 4093),
                key_of(2).public_key: Merit(1.0, 3),
            }

    async def test_who_introduced_whom(self, data: DataDir) -> None:
        bench = Bench()
        bench.scheduler.add_static(node_of(4))
        named = {key_of(1).public_key: "dns: all.example", key_of(2).public_key: "onion"}
        memory = memory_of(data, bench, sources=sources_of(named))
        found = [memory.introducer(key_of(number).public_key) for number in (1, 2, 3)]
        assert found == ["dns", "onion", None]
        assert memory.wanted(key_of(4).public_key)
        assert not memory.wanted(key_of(1).public_key)

    async def test_a_full_disk_is_told_of(
        self, data: DataDir, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        def fail(name: str, value: object) -> None:
            raise StorageError("no space left")

        memory = memory_of(data, Bench())
        monkeypatch.setattr(data, "save_state", fail)
        memory.save()
        assert "anchors not saved" in capsys.readouterr().out


def memory_of(data: DataDir, bench: Bench, *, eth: Any = None, sources: Any = None) -> PeerMemory:
    return PeerMemory(data, bench.end.peers, bench.scheduler, sources or sources_of({}), eth or eth_of(bench))


def test_addresses_are_kept_as_they_were_dialed() -> None:
    node = Node(key_of(1).public_key, (Endpoint(Network.ONION, ONION, 30303),))
    assert Remembered.from_json(json.dumps(Remembered((node,)).to_json()).encode()).anchors == (node,)
