"""A sink fetches what is announced and keeps everything as it came; it is looked at when the run is over."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.load.peer import ANNOUNCEMENT, GET_POOLED, POOLED, TRANSACTIONS, Peer
from benchmarks.transactions import WIRE, TransferSet
from relay.primitives import rlp
from relay.protocols.devp2p import snappy
from relay.protocols.eth.packing import split_pooled, split_transactions
from relay.relaying.packing import literal, varint

ASKED_AT_ONCE = 256  # hashes a request, as geth
HASH = 33  # in RLP


@dataclass
class Verdict:
    """What a sink got, compared with what was sent.

    Attributes:
        arrived: monotonic seconds by number; 0 where it did not.
        twice: transactions that came more than once.
        foreign: transactions that are no byte-for-byte copy of one that was sent.
        announced: how many of all came because they were fetched.
    """

    arrived: list[float]
    twice: int = 0
    foreign: int = 0
    fetched: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        return self.arrived.count(0.0)


class Sink:
    """Takes the messages of one peer."""

    def __init__(self, peer: Peer, fetches: bool = True) -> None:
        self._peer = peer
        self._fetches = fetches
        self._kept: list[tuple[int, bytes, float]] = []
        self._request = 0
        self.count = 0  # transactions so far, by the length of the messages
        self.last = 0.0  # monotonic seconds of the last one
        peer.on_message = self._message

    def _message(self, code: int, body: bytes, now: float) -> None:
        if code == ANNOUNCEMENT:
            if self._fetches:
                self._ask(snappy.decompress(body))
        elif code in (TRANSACTIONS, POOLED):
            self._kept.append((code, body, now))
            self.count += snappy.declared_length(body) // WIRE
            self.last = now

    def _ask(self, payload: bytes) -> None:
        _, pos, _ = rlp.read_header(payload, 0, len(payload))
        _, start, end = rlp.read_header(payload, pos, len(payload))
        count = end - start
        first = len(payload) - HASH * count
        for pos in range(first, len(payload), HASH * ASKED_AT_ONCE):
            self._request += 1
            self._peer.send(GET_POOLED, _request(self._request, payload[pos : pos + HASH * ASKED_AT_ONCE]))

    def verdict(self, transfers: TransferSet, start: int, stop: int) -> Verdict:
        """Compare with the transactions of a run, numbered from start to stop, and forget."""
        verdict = Verdict([0.0] * (stop - start))
        arrived, index = verdict.arrived, transfers.index
        for code, body, now in self._kept:
            payload = snappy.decompress(body)
            items = split_transactions(payload) if code == TRANSACTIONS else split_pooled(payload)[1]
            verdict.fetched += len(items) * (code == POOLED)
            for item in items:
                number = index.get(item, -1) - start
                if not 0 <= number < len(arrived):
                    verdict.foreign += 1
                elif arrived[number]:
                    verdict.twice += 1
                else:
                    arrived[number] = now
        self.forget()
        return verdict

    def forget(self) -> None:
        self._kept.clear()
        self.count = 0
        self.last = 0.0


def _request(number: int, hashes: bytes) -> bytes:
    """A compressed GetPooledTransactions; hashes do not compress, so they go as they are."""
    head = rlp.encode_int(number) + rlp.list_header(len(hashes))
    outer = rlp.list_header(len(head) + len(hashes)) + head
    return varint(len(outer) + len(hashes)) + literal(outer) + literal(hashes)
