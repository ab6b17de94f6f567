"""No relay at all: a process that has the transactions itself, to see what the load can do without one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from math import isqrt
from multiprocessing.connection import Connection
from secrets import token_bytes

from benchmarks.load.loop import Link
from benchmarks.load.peer import ANNOUNCEMENT, GET_POOLED, POOLED, TRANSACTIONS, Peer
from benchmarks.load.sink import ASKED_AT_ONCE, HASH
from benchmarks.load.worker import Worker
from benchmarks.transactions import CHAIN_ID, WIRE, TransferSet
from relay.primitives import rlp
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p import snappy
from relay.protocols.eth.messages import Status
from relay.relaying.packing import elements, literal, packed

_STATUS = Status(69, CHAIN_ID, bytes(31) + b"\x01", ForkId(bytes(4), 0), latest_hash=bytes(31) + b"\x01")


class Straight(Worker):
    """Accepts sinks; pushes to the square root of them and announces to the others, as relays do."""

    def __init__(self, pipe: Connection, transfers: TransferSet) -> None:
        super().__init__(pipe, transfers)
        self._key = NodeKey.generate(token_bytes)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), self._accept)
        self._chunks: dict[bytes, tuple[bytes, int]] = {}

    def do_address(self) -> tuple[bytes, int]:
        return self._key.public_key, self._listener.getsockname()[1]

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        link = self._loop.add(Peer(self._key, None, _STATUS), sock)
        link.peer.on_message = self._answerer(link)
        self._peers.append(link)

    def do_prepare(self, start: int, stop: int) -> None:
        """Compress what will be sent; the blast that follows only encrypts it."""
        self._bodies = self._transfers.pushes(start, stop)
        self._announcements = self._transfers.announcements(start, stop, ASKED_AT_ONCE)
        for first in range(start, stop, ASKED_AT_ONCE):
            wires = self._transfers.wires[first : min(first + ASKED_AT_ONCE, stop)]
            self._chunks[self._transfers.hashes[first]] = elements(b"".join(wires)), len(wires)

    def do_blast_all(self) -> None:
        """Send what was prepared to everybody."""
        direct = isqrt(len(self._peers) - 1) + 1
        for number, link in enumerate(self._peers):
            if number < direct:
                link.waiting = iter([(TRANSACTIONS, body) for body in self._bodies])
            else:
                link.waiting = iter([(ANNOUNCEMENT, body) for body in self._announcements])
            self._loop.flush(link)

    def _answerer(self, link: Link) -> Callable[[int, bytes, float], None]:
        def answer(code: int, body: bytes, now: float) -> None:
            assert code == GET_POOLED
            payload = snappy.decompress(body)
            _, pos, end = rlp.read_header(payload, 0, len(payload))
            _, _, after = rlp.read_header(payload, pos, end)
            _, first, _ = rlp.read_header(payload, after, end)
            block, count = self._chunks[payload[first + 1 : first + HASH]]
            assert end - first == count * HASH
            inner = payload[pos:after] + rlp.list_header(count * WIRE)
            size = len(inner) + count * WIRE
            header = rlp.list_header(size)
            link.peer.send(POOLED, packed(len(header) + size, (literal(header + inner), block)))

        return answer
