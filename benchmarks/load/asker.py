"""A peer that asks for chain data, one question at a time or several under way, and takes the time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from operator import itemgetter
from typing import NamedTuple

from benchmarks.load.loop import Link, Target
from benchmarks.load.peer import ETH
from benchmarks.load.worker import Worker
from benchmarks.transactions import TransferSet
from relay.primitives import rlp
from relay.protocols.devp2p import snappy
from relay.protocols.eth.messages import GetBlockBodies, GetBlockHeaders, GetReceipts

ASK_SECONDS = 60.0
Question = GetBlockHeaders | GetBlockBodies | GetReceipts


class Asked(NamedTuple):
    """What came of a row of questions.

    Attributes:
        seconds: from the first question to the last answer.
        waits: seconds that each answer took.
        items: how many headers, bodies or receipt lists came in all.
    """

    seconds: float
    waits: list[float]
    items: int


class Asker(Worker):
    """Asks over one connection, its first."""

    def __init__(self, pipe: Connection, transfers: TransferSet) -> None:
        super().__init__(pipe, transfers)
        self._sent: dict[int, float] = {}
        self._answers: list[tuple[bytes, float]] = []

    def do_join(self, target: Target) -> None:
        """Connect."""
        self.do_connect(target, 1, False, 1)
        self._peers[0].peer.on_message = self._take

    def do_ask(self, questions: Sequence[Question], window: int) -> Asked:
        """Put questions, so many of them under way at a time; their request ids are 0, 1, 2, ..."""
        link = self._peers[0]
        bodies = [(each.CODE, snappy.compress(each.encode(ETH))) for each in questions]
        self._answers, sent = [], []
        began = time.monotonic()
        for number in range(len(bodies)):
            self._until(link, number - window + 1)
            sent.append(time.monotonic())
            link.peer.send(*bodies[number])
            self._loop.flush(link)
        self._until(link, len(bodies))
        return self._result(began, sent)

    def _until(self, link: Link, count: int) -> None:
        if not self._loop.until(lambda: len(self._answers) >= count or bool(link.error), ASK_SECONDS):
            raise TimeoutError(f"{count - len(self._answers)} questions have no answer")
        if link.error:
            raise ConnectionError(link.error)

    def _take(self, code: int, body: bytes, now: float) -> None:
        if code in (0x04, 0x06, 0x10):  # BlockHeaders, BlockBodies, Receipts
            self._answers.append((body, now))

    def _result(self, began: float, sent: list[float]) -> Asked:
        waits, items = [0.0] * len(sent), 0
        for body, now in self._answers:
            number, count = _read(snappy.decompress(body))
            waits[number] = now - sent[number]
            items += count
        return Asked(max(map(itemgetter(1), self._answers)) - began, waits, items)


def _read(payload: bytes) -> tuple[int, int]:
    """Return the request id of an answer, and how many items it holds."""
    _, start, end = rlp.read_header(payload, 0, len(payload))
    (id_start, id_end), *_, (begin, stop) = rlp.list_items(payload, start, end)
    number = rlp.to_int(rlp.expect_bytes(rlp.decode(payload[id_start:id_end])), 8)
    _, first, last = rlp.read_header(payload, begin, stop)
    return number, len(rlp.list_items(payload, first, last))
