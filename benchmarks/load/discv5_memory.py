"""What a node in the discv5 table or a session takes: `python -m benchmarks.load.discv5_memory NAME`, bytes.

A process for each measure, so that none takes place that another one has left.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import tracemalloc
from dataclasses import replace

from benchmarks.processes import rss_bytes
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.protocols.discv5 import UDP, ContactCache, Discv5, Options, UdpNetwork
from relay.protocols.discv5.table import Limits, Table

COUNT = 10_000
BEFORE = 500  # sessions made before memory is looked at
NOW = 1000.0
CLIENT = Endpoint(Network.IPV4, "127.0.0.1", 40000)
SERVER = Endpoint(Network.IPV4, "127.0.0.1", 30303)
FORK = ForkId(bytes.fromhex("6c1d9423"), 0)


def entry_bytes() -> float:
    """Nodes in full tables, each with its record in the cache of records, as a daemon has them."""
    records = [_record(NodeKey.generate(os.urandom)).raw for _ in range(COUNT)]
    network = UdpNetwork()
    gc.collect()
    tracemalloc.start()
    contacts = ContactCache(network.address_of, COUNT)
    tables = [_table(network)]
    for raw in records:
        contact = contacts.get(bytes(bytearray(raw)))  # a copy, as of a packet
        if not any(table.add(contact, None, replaceable=False) for table in tables):
            tables.append(_table(network))
            assert tables[-1].add(contact, None)
    del contact
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert sum(len(table) for table in tables) == COUNT
    return used / COUNT


def session_bytes(warm: int) -> float:
    """Sessions that others began; the whole process is weighed, since ciphers live outside of Python."""
    server = _core(replace(UDP, sessions=BEFORE + COUNT, warm_sessions=warm))
    _greet(*server, BEFORE)
    before = rss_bytes(os.getpid())
    _greet(*server, COUNT)
    return (rss_bytes(os.getpid()) - before) / COUNT


def _greet(server: Discv5, record: NodeRecord, count: int) -> None:
    before = server.traffic.received.total()
    for number in range(count):
        core, _ = _core(UDP)
        core.ping(core.contact(record), NOW)
        for _ in range(2):  # noise and WHOAREYOU, handshake and PONG
            for data, _to in core.take_packets():
                server.receive_packet(data, CLIENT, NOW)
            for data, _to in server.take_packets():
                core.receive_packet(data, SERVER, NOW)
        if number % 100 == 99:
            gc.collect()
    assert server.traffic.received.total() - before == count
    gc.collect()


def _core(options: Options) -> tuple[Discv5, NodeRecord]:
    key = NodeKey.generate(os.urandom)
    record = build_record(key, 1, ip=SERVER.host, udp=SERVER.port)
    return Discv5(key, lambda: record, UdpNetwork(), options, rand=os.urandom), record


def _table(network: UdpNetwork) -> Table:
    key = NodeKey.generate(os.urandom)
    return Table(key.node_id, network, Limits(COUNT, COUNT), random.randrange)


def _record(key: NodeKey) -> NodeRecord:
    host = ".".join(str(random.randrange(1, 224)) for _ in range(4))
    return build_record(key, 1_700_000_000_000, ip=host, tcp=30303, udp=30303, fork_id=FORK)


MEASURES = {
    "entry": entry_bytes,
    "cold": lambda: session_bytes(0),
    "warm": lambda: session_bytes(BEFORE + COUNT),
}

if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]]()))
