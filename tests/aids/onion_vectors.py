"""Vectors of discv5 over onion streams, made by our own code from fixed keys.

`python -m tests.aids.onion_vectors` writes them anew; a change of the file is a change of the wire form.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey, public_from_onion
from relay.protocols.discv5 import ONION, Discv5, OnionNetwork
from relay.protocols.discv5.streams import PREFACE, encode_frame
from tests.aids.vectors import ROOT

PATH = ROOT / "discv5-over-onion.json"
PORT = 30303
FORK = ForkId(bytes.fromhex("07c9462e"), 0)
STREAM = "the stream as its acceptor names it"


def draws(name: str) -> Callable[[int], bytes]:
    """Bytes that look random and are always the same: sha256(name, count), as many as it takes."""
    count = 0

    def rand(size: int) -> bytes:
        nonlocal count
        found = b""
        while len(found) < size:
            found += sha256(name.encode() + count.to_bytes(4, "big")).digest()
            count += 1
        return found[:size]

    return rand


class Party:
    """A node by its name."""

    def __init__(self, name: str, seq: int) -> None:
        self.name = name
        self.key = NodeKey(sha256(name.encode() + b" node key").digest())
        self.onion = OnionKey.from_seed(sha256(name.encode() + b" onion seed").digest())
        self.record: NodeRecord = build_record(
            self.key, seq, onion3=self.onion.address, tcp=PORT, fork_id=FORK
        )
        self.core = Discv5(self.key, lambda: self.record, OnionNetwork(), ONION, rand=draws(name))

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(Network.ONION, self.onion.address, PORT)

    def shown(self) -> dict[str, Any]:
        return {
            "node_key": self.key.secret.hex(),
            "node_id": self.key.node_id.hex(),
            "onion_public_key": public_from_onion(self.onion.address).hex(),
            "onion3": self.onion.address,
            "tcp": PORT,
            "seq": self.record.seq,
            "eth": [FORK.hash.hex(), FORK.next],
            "record_rlp": self.record.raw.hex(),
            "record": self.record.to_text(),
        }


def make() -> dict[str, Any]:
    """All vectors."""
    dialer, listener, third = Party("dialer", 3), Party("listener", 5), Party("third", 1)
    entry = listener.core.table.add(listener.core.contact(third.record), None)
    assert entry is not None
    entry.live = True
    clear = build_record(
        NodeKey(bytes(31) + b"\x07"), 1, ip="9.9.9.9", udp=PORT, tcp=PORT, onion3=third.onion.address
    )
    both = listener.core.table.add(listener.core.contact(clear), None)
    assert both is not None
    both.live = True
    distance = entry.distance
    contact = dialer.core.contact(Node(listener.key.public_key, (listener.endpoint,)))
    steps: list[dict[str, Any]] = []
    dialer.core.ping(contact, 0.0)
    _exchange(
        dialer, listener, steps, ["a packet nobody can read", "WHOAREYOU", "handshake with PING", "PONG"]
    )
    session = dialer.core._codec.sessions.get((listener.key.node_id, listener.endpoint))
    assert session is not None
    dialer.core.findnode(contact, (0,), 0.0)
    _exchange(dialer, listener, steps, ["FINDNODE [0]", "NODES: the listener's own record"])
    dialer.core.findnode(contact, tuple(sorted({distance, both.distance})), 0.0)
    _exchange(
        dialer, listener, steps,
        ["FINDNODE of the distances of two nodes, one of which has an IP, too", "NODES: the one without"],
    )  # fmt: skip
    dialer.core.talkreq(contact, b"unknown", b"anything", 0.0)
    _exchange(dialer, listener, steps, ["TALKREQ of an unknown protocol", "TALKRESP, empty"])
    return {
        "about": "docs/specs/discv5-over-onion.md; written by tests/aids/onion_vectors.py",
        "nodes": {each.name: each.shown() for each in (dialer, listener, third)},
        "session": {
            "initiator": "dialer",
            "initiator_key": session.write_key.hex(),
            "recipient_key": session.read_key.hex(),
        },
        "exchange": steps,
        "streams": {
            "from_dialer": (PREFACE + _joined(steps, "dialer")).hex(),
            "from_listener": _joined(steps, "listener").hex(),
        },
        "refused_streams": [
            {"why": "another preface", "bytes": b"discv4".hex()},
            {"why": "no preface", "bytes": steps[0]["frame"]},
            {"why": "the preface twice", "bytes": (PREFACE + PREFACE).hex()},
            {"why": "a frame of 62 bytes", "bytes": (PREFACE + b"\x00\x3e").hex()},
            {"why": "a frame of 1281 bytes", "bytes": (PREFACE + b"\x05\x01").hex()},
            {"why": "a frame of 0 bytes", "bytes": (PREFACE + b"\x00\x00").hex()},
        ],
        "refused_onion3": {
            "wrong checksum": _other_letter(dialer.onion.address),
            "without .onion": dialer.onion.address.removesuffix(".onion"),
            "version 2": "expyuzz4wqqyqhjn.onion",
        },
    }


def _exchange(dialer: Party, listener: Party, steps: list[dict[str, Any]], names: list[str]) -> None:
    for index, name in enumerate(names):
        source, target = (dialer, listener) if index % 2 == 0 else (listener, dialer)
        ((packet, _),) = source.core.take_packets()
        frame = encode_frame(packet).hex()
        steps.append({"name": name, "from": source.name, "packet": packet.hex(), "frame": frame})
        target.core.receive_packet(packet, STREAM if target is listener else listener.endpoint, 0.0)


def _joined(steps: list[dict[str, Any]], source: str) -> bytes:
    return b"".join(bytes.fromhex(step["frame"]) for step in steps if step["from"] == source)


def _other_letter(onion: str) -> str:
    return ("b" if onion[0] == "a" else "a") + onion[1:]


if __name__ == "__main__":
    PATH.write_text(json.dumps(make(), indent=1) + "\n", encoding="ascii")
