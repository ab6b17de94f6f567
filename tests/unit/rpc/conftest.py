"""A small node for the RPC room: it records what it is asked and needs no network."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.peering.info import PeerInfo
from relay.primitives.errors import DecodeError, RelayError
from relay.primitives.hashing import keccak256
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.methods import NAMESPACES, all_methods, select
from relay.rpc.views import NodeInfo, PoolStatus

FIXTURE = Path(__file__).parent / "fixtures" / "geth-1.17.8-rpc.json"
CLIENT = "pyrelay/v0.1.0/linux"


def peer(peer_id: str) -> PeerInfo:
    return PeerInfo(
        enode=f"enode://{'ab' * 64}@127.0.0.1:30303",
        id=peer_id,
        name="Geth/v1.17.8",
        caps=("eth/69", "eth/70"),
        local_address="127.0.0.1:30303",
        remote_address="127.0.0.1:50000",
        network="ipv4",
        inbound=True,
        trusted=False,
        static=True,
        eth_version=69,
        earliest=0,
        latest=7,
        latest_hash=bytes(32),
    )


class Node:
    """A NodeView, TxSubmitter and PoolView."""

    chain_id = 0x1E77
    network_id = 7799
    client_version = CLIENT
    datadir = "/data"
    listening = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.submitted: list[bytes] = []
        self.refusal: RelayError | None = None
        self.connected: list[PeerInfo] = [peer("22" * 32), peer("11" * 32)]

    @property
    def peer_count(self) -> int:
        return len(self.connected)

    def node_info(self) -> NodeInfo:
        return NodeInfo(
            id="aa" * 32,
            name=CLIENT,
            enode=f"enode://{'cd' * 64}@127.0.0.1:30303?discport=0",
            enr="enr:-xyz",
            ip="127.0.0.1",
            discovery_port=0,
            listener_port=30303,
            listen_addr="127.0.0.1:30303",
            protocols={
                "eth": {"network": 7799, "genesis": "0x" + "00" * 32, "config": {}, "head": "0x" + "22" * 32}
            },
        )

    def peers(self) -> Sequence[PeerInfo]:
        return self.connected

    def _asked(self, what: str, url: str) -> None:
        if not url.startswith(("enode://", "enr:")):
            raise DecodeError("missing 'enr:' prefix for base64-encoded record")
        self.asked.append((what, url))

    def add_peer(self, url: str) -> None:
        self._asked("add", url)

    def remove_peer(self, url: str) -> None:
        self._asked("remove", url)

    def add_trusted(self, url: str) -> None:
        self._asked("trust", url)

    def remove_trusted(self, url: str) -> None:
        self._asked("distrust", url)

    def submit(self, raw: bytes) -> bytes:
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append(raw)
        return keccak256(raw)

    def status(self) -> PoolStatus:
        return PoolStatus(pending=17)


class Clock:
    """Seconds that only tests move; each look may cost some."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cost = 0.0

    def __call__(self) -> float:
        self.now += self.cost
        return self.now


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dispatcher(node: Node, clock: Clock) -> Dispatcher:
    return Dispatcher(select(all_methods(node, node, node), NAMESPACES), clock=clock)


def recorded(part: str, *, without: Collection[str] = ()) -> list[Any]:
    """Cases of one part of the recording, as pytest parameters."""
    cases = json.loads(FIXTURE.read_text())[part]
    return [pytest.param(case, id=case["name"]) for case in cases if case["name"] not in without]
