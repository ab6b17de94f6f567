from __future__ import annotations

from types import SimpleNamespace

from structlog.testing import capture_logs

from relay.app import nodes as nodes_module
from relay.app.datadir import PEERS, DataDir
from relay.app.nodes import MAX_SAVED, KnownPeers
from relay.discovery.mix import CandidateMix
from relay.primitives.endpoint import Endpoint
from relay.primitives.enode import Enode
from relay.primitives.errors import StorageError
from tests.aids.peering import key_of


def url(number: int) -> str:
    return Enode(key_of(number).public_key, "10.0.0.1", 30000 + number, 30000 + number).url


def peers(*numbers: int, inbound: bool = False) -> SimpleNamespace:
    sessions = [
        SimpleNamespace(
            inbound=inbound,
            public_key=key_of(number).public_key,
            endpoint=Endpoint.parse("10.0.0.1", 30000 + number),
        )
        for number in numbers
    ]
    return SimpleNamespace(sessions=lambda: tuple(sessions))


def offered(data: DataDir) -> list[str]:
    mix = CandidateMix((), own_key=key_of(99).public_key, now=lambda: 0.0)
    KnownPeers(data).offer_to(mix.feed("database"))
    return [node.enode.url for node in mix.take(99)]


def test_peers_that_were_dialed_are_known_after_a_restart(tmp_path):
    data = DataDir(tmp_path)
    KnownPeers(data).save(peers(1, 2))
    assert offered(data) == [url(1), url(2)]


def test_peers_that_came_in_are_not_kept(tmp_path):
    data = DataDir(tmp_path)
    KnownPeers(data).save(peers(1, inbound=True))
    assert offered(data) == []


def test_damaged_entries_are_skipped(tmp_path):
    data = DataDir(tmp_path)
    data.save_state(PEERS, [url(1), "enode://00@1.2.3.4:1", 5, None, {"a": 1}])
    assert offered(data) == [url(1)]
    data.save_state(PEERS, {"a": 1})
    assert offered(data) == []


def test_the_oldest_go_when_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(nodes_module, "MAX_SAVED", 2)
    data = DataDir(tmp_path)
    known = KnownPeers(data)
    known.save(peers(1, 2, 3))
    known.save(peers(2))
    assert offered(data) == [url(3), url(2)]
    assert MAX_SAVED >= 50


def test_a_full_disk_is_only_a_warning(tmp_path, monkeypatch):
    def fail(*_):
        raise StorageError("the disk is full")

    data = DataDir(tmp_path)
    monkeypatch.setattr(data, "save_state", fail)
    with capture_logs() as logs:
        KnownPeers(data).save(peers(1))
    assert logs[0]["cause"] == "the disk is full"
