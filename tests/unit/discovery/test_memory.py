"""What sources prove is kept over restarts, by network."""

from __future__ import annotations

from pathlib import Path

from relay.discovery import memory as memory_module
from relay.discovery.memory import NodeMemory
from relay.discovery.nodedb import NodeDatabase
from relay.primitives.endpoint import Network
from relay.protocols.discv5 import Contact, NodeDropped, NodeSeen, NodeVerified, OnionNetwork, UdpNetwork
from tests.aids.discv5 import onion_record, udp_record

DAY = 24 * 3600.0


def contact(record, *, onion: bool = False) -> Contact:
    return Contact(record, (OnionNetwork() if onion else UdpNetwork()).address_of(record))


def database(folder: Path, now: float = DAY) -> NodeDatabase:
    return NodeDatabase(folder / "nodes.sqlite", now=lambda: now)


def test_nodes_that_answered_are_known_after_a_restart(tmp_path):
    first = database(tmp_path)
    kept = NodeMemory(first, "v5", lambda: DAY)
    kept.take(NodeVerified(contact(udp_record(1))))
    kept.take(NodeSeen(contact(udp_record(2)), udp_record(1).node_id))
    kept.save()
    first.close()
    again = database(tmp_path)
    assert NodeMemory(again, "v5", lambda: DAY).seeds((Network.IPV4, Network.IPV6)) == [udp_record(1)]
    assert NodeMemory(again, "onion", lambda: DAY).seeds((Network.ONION,)) == []
    again.close()


def test_onions_are_kept_apart(tmp_path):
    db = database(tmp_path)
    kept = NodeMemory(db, "onion", lambda: DAY)
    kept.take(NodeVerified(contact(onion_record(1), onion=True)))
    kept.save()
    assert kept.seeds((Network.ONION,)) == [onion_record(1)]
    assert kept.seeds((Network.IPV4,)) == []
    db.close()


def test_silent_nodes_come_last(tmp_path):
    db = database(tmp_path)
    kept = NodeMemory(db, "v5", lambda: DAY)
    for number in (1, 2):
        kept.take(NodeVerified(contact(udp_record(number))))
    kept.save()
    kept.take(NodeDropped(udp_record(2).node_id))
    kept.save()
    kept.take(NodeVerified(contact(udp_record(3))))
    kept.save()
    assert kept.seeds((Network.IPV4,))[-1] == udp_record(2)
    db.close()


def test_who_answers_after_a_silence_has_not_failed(tmp_path):
    db = database(tmp_path)
    kept = NodeMemory(db, "v5", lambda: DAY)
    kept.failed(udp_record(1).node_id)
    kept.take(NodeVerified(contact(udp_record(1))))
    kept.save()
    kept.take(NodeVerified(contact(udp_record(2))))
    kept.failed(udp_record(2).node_id)
    kept.save()
    assert kept.seeds((Network.IPV4,)) == [udp_record(1), udp_record(2)]
    db.close()


def test_many_are_written_without_waiting_for_a_save(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_module, "BATCH", 3)
    db = database(tmp_path)
    kept = NodeMemory(db, "v5", lambda: DAY)
    for number in range(3):
        kept.take(NodeVerified(contact(udp_record(number))))
    assert db.count(Network.IPV4) == 3
    db.close()
