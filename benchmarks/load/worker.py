"""A process of the load: connects peers to a relay and does what its `Remote` tells it."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

from benchmarks.load.loop import Link, Loop, Target
from benchmarks.load.peer import ANNOUNCEMENT, ETH, GET_POOLED, POOLED, TRANSACTIONS
from benchmarks.load.sink import Sink, Verdict
from benchmarks.transactions import TransferSet
from relay.protocols.devp2p import snappy
from relay.protocols.eth.messages import GetPooledTransactions
from relay.protocols.eth.packing import encode_pooled

PUSH, ANNOUNCE = 0, 1
JOIN_SECONDS = 60.0
QUIET_SECONDS = 3.0  # without a new transaction: what is missing by then is missing


class Worker:
    """Every `do_` method is a command."""

    def __init__(self, pipe: Connection, transfers: TransferSet) -> None:
        self._pipe = pipe
        self._transfers = transfers
        self._loop = Loop()
        self._peers: list[Link] = []
        self._sinks: list[Sink] = []
        self._served = 0
        self._loop.watch(pipe.fileno(), self._command)
        self._over = False

    def serve(self) -> None:
        # What is kept is no garbage: looking for some would only be a stall that is not the relay's.
        gc.collect()
        gc.disable()
        while not self._over:
            self._loop.turn(1.0)

    def _command(self) -> None:
        try:
            name, arguments = self._pipe.recv()
        except EOFError:
            self._over = True
            return
        try:
            answer = getattr(self, f"do_{name}")(*arguments)
        except Exception as error:  # noqa: BLE001 - told to the other end, which raises it
            answer = error
        self._pipe.send(answer)

    # -- connecting

    def do_connect(self, target: Target, count: int, sinks: bool, at_once: int) -> list[float]:
        """Connect peers; returns the seconds from dialing to Status of each."""
        joined: list[Link] = []
        while len(joined) < count:
            links = [
                self._loop.dial(target, self._loop.make_peer(target))
                for _ in range(min(at_once, count - len(joined)))
            ]
            self._wait_joined(links)
            joined += links
        self._peers += joined
        self._sinks += [Sink(link.peer) for link in joined] if sinks else []
        return [link.peer.joined_at - link.began for link in joined]

    def do_burst(self, target: Target, count: int) -> float:
        """Connect peers all at once; returns the seconds from the first dial until all have Status."""
        peers = [self._loop.make_peer(target) for _ in range(count)]  # each with its first packet ready
        began = time.monotonic()
        links = [self._loop.dial(target, peer) for peer in peers]
        self._wait_joined(links)
        self._peers += links
        return max(link.peer.joined_at for link in links) - began

    def _wait_joined(self, links: list[Link]) -> None:
        def done() -> bool:
            for link in links:
                if link.error:
                    raise ConnectionError(link.error)
            return all(link.peer.joined_at for link in links)

        if not self._loop.until(done, JOIN_SECONDS):
            lacking = sum(not link.peer.joined_at for link in links)
            raise TimeoutError(f"{lacking} of {len(links)} peers have no Status")

    def do_disconnect(self) -> None:
        for link in self._peers:
            if not link.error:
                self._loop.drop(link, "done")
        self._peers.clear()
        self._sinks.clear()

    # -- sending

    def do_blast(self, start: int, stop: int) -> float:
        """Send transactions as fast as the relay takes them; returns when the first one left."""
        link = self._peers[0]
        bodies = self._transfers.pushes(start, stop)
        began = time.monotonic()
        link.waiting = iter([(TRANSACTIONS, body) for body in bodies])
        self._loop.flush(link)
        if not self._loop.until(lambda: bool(link.error) or not link.peer.out, 120):
            raise TimeoutError("the relay does not read on")
        if link.error:
            raise ConnectionError(link.error)
        return began

    def do_pace(self, start: int, stop: int, rate: float) -> list[float]:
        """Send transactions one by one; returns when each left."""
        bodies = self._transfers.pushes(start, stop, 1)
        return self._play([(n / rate, PUSH, TRANSACTIONS, body) for n, body in enumerate(bodies)])

    def do_announce(self, start: int, stop: int, rate: float) -> list[float]:
        """Announce transactions one by one and give them to the relay when it asks."""
        self._serve_requests(self._peers[1])
        bodies = self._transfers.announcements(start, stop)
        return self._play([(n / rate, ANNOUNCE, ANNOUNCEMENT, body) for n, body in enumerate(bodies)])

    def do_announce_then_push(
        self, start: int, stop: int, rate: float, longest_gap: float
    ) -> tuple[list[float], int]:
        """Announce by one peer, push by another up to so many seconds later; returns bytes that were served.

        What is served is a duplicate: the push would have come anyway.
        """
        self._serve_requests(self._peers[1])
        self._served = 0
        gaps = random.Random(start)
        events = []
        announcements = self._transfers.announcements(start, stop)
        pushes = self._transfers.pushes(start, stop, 1)
        for n, (announcement, push) in enumerate(zip(announcements, pushes, strict=True)):
            events.append((n / rate, ANNOUNCE, ANNOUNCEMENT, announcement))
            events.append((n / rate + gaps.random() * longest_gap, PUSH, TRANSACTIONS, push))
        times = self._play(sorted(events))
        self._loop.until(lambda: False, 1.0)
        return times, self._served

    def _play(self, events: list[tuple[float, int, int, bytes]]) -> list[float]:
        """Send each event by its peer at its time; returns when each left, in the order of the events."""
        loop, links, times = self._loop, self._peers, []
        base = time.monotonic() + 0.01
        for offset, peer, code, body in events:
            due = base + offset
            while (now := time.monotonic()) < due:
                loop.turn(due - now)
            link = links[peer]
            if link.error:
                raise ConnectionError(link.error)
            times.append(time.monotonic())
            link.peer.send(code, body)
            loop.flush(link)
        return times

    def _serve_requests(self, link: Link) -> None:
        transfers = self._transfers

        def answer(code: int, body: bytes, now: float) -> None:
            if code != GET_POOLED:
                return
            request = GetPooledTransactions.decode(snappy.decompress(body), ETH)
            wires = [transfers.wires[transfers.index_by_hash[each]] for each in request.hashes]
            self._served += sum(map(len, wires))
            link.peer.send(POOLED, snappy.compress(encode_pooled(request.request_id, wires)))

        link.peer.on_message = answer

    # -- receiving

    def do_wait(self, count: int, seconds: float) -> float:
        """Wait until every sink has so many transactions; returns when the last one came."""
        deadline = time.monotonic() + seconds

        def done() -> bool:
            now = time.monotonic()
            if all(sink.count >= count for sink in self._sinks):
                return True
            last = max(sink.last for sink in self._sinks)
            return now > deadline or (last > 0.0 and now - last > QUIET_SECONDS)

        self._loop.until(done, seconds + 1)
        return max(sink.last for sink in self._sinks)

    def do_verdicts(self, start: int, stop: int) -> list[Verdict]:
        """Compare what each sink got with what was sent."""
        verdicts = [sink.verdict(self._transfers, start, stop) for sink in self._sinks]
        verdicts[0].reasons = [link.error for link in self._peers if link.error]
        return verdicts

    def do_forget(self) -> None:
        for sink in self._sinks:
            sink.forget()

    # -- waiting

    def do_idle(self, seconds: float) -> int:
        """Answer pings for a while; returns how many peers are left."""
        self._loop.until(lambda: False, seconds)
        return sum(not link.error for link in self._peers)

    def do_ping(self, seconds: float, interval: float) -> list[float]:
        """Ping by the first peer, again and again; returns the round trips."""
        return list(self._pings(seconds, interval))

    def _pings(self, seconds: float, interval: float) -> Iterator[float]:
        link = self._peers[0]
        answers: list[float] = []
        link.peer.on_pong = answers.append
        end = time.monotonic() + seconds
        while (sent := time.monotonic()) < end:
            answers.clear()
            link.peer.ping()
            self._loop.flush(link)
            if not self._loop.until(lambda: bool(answers) or bool(link.error), 10) or link.error:
                raise TimeoutError(f"no answer to a ping: {link.error}")
            yield answers[0] - sent
            self._loop.until(lambda: False, max(0.0, sent + interval - time.monotonic()))
