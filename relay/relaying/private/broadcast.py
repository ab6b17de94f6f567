"""The schedule of private broadcast: which transaction goes to whom, when again, and when no more.

A round brings a transaction to three peers, each on a connection of its own; what counts is confirmed
deliveries, so dials go on until there are three or nobody is left. Then it waits for the echo: an ordinary
peer brings the transaction, as any other. If none does there is another round, through other peers.

One sender's transactions go one after the other, since a pool does not relay what comes after a gap.

Precedent: Bitcoin Core's private_broadcast.h. There transactions are dropped when the mempool would not take
them; without state we can't tell, so there is a limit in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from relay.chain.transaction_errors import SERVER_ERROR
from relay.chain.transactions import InvalidTransaction
from relay.relaying.private.counters import PrivateCounters
from relay.relaying.private.letters import Letter, State

if TYPE_CHECKING:
    from relay.relaying.pool import PooledTx
    from relay.relaying.private.courier import Addressee, Courier, Receipt
    from relay.relaying.private.options import PrivateOptions
    from relay.relaying.seams import Loop

__all__ = ["PrivateBroadcast", "Watcher"]

Watcher = Callable[[Letter], None]
"""Is told that something about a transaction is new."""

_UNIT: Final = 1 << 64


class PrivateBroadcast:
    """Transactions of our own users that nobody must be able to trace to us.

    Args:
        courier: knows peers and brings transactions to them.
        options: bounds and delays.
        loop: clock and timers.
        rand: random bytes.
        objection: says why a transaction is of no use any more, None where it is; asked before each round.
        outbids: says whether the first may take the place of the second, which has the same nonce.

    Attributes:
        letters: those that are not in any pool of ours, by hash; read by others, changed only here.
        counters: what was counted.
        on_change: told when the set of transactions has changed.
        on_progress: told when something about one of them is new.
        on_echo: told of the hash of one that came back.
    """

    def __init__(
        self,
        courier: Courier,
        options: PrivateOptions,
        loop: Loop,
        rand: Callable[[int], bytes],
        *,
        objection: Callable[[PooledTx], str | None],
        outbids: Callable[[PooledTx, PooledTx], bool],
    ) -> None:
        self._courier = courier
        self._options = options
        self._loop = loop
        self._rand = rand
        self._objection = objection
        self._outbids = outbids
        self._log = structlog.get_logger("relay.relaying")
        self._under_way = 0
        self._bytes = 0
        self._sour: dict[bytes, float] = {}  # by key: when it did not take one
        self._lonely = False
        self._stopped = False
        self.letters: dict[bytes, Letter] = {}
        self.counters = PrivateCounters()
        self.on_change: Callable[[], None] = lambda: None
        self.on_progress: Watcher = lambda _letter: None
        self.on_echo: Callable[[bytes], None] = lambda _hash: None

    # -- what comes in ---------------------------------------------------------------------------------

    def submit(self, letter: Letter) -> None:
        """Take a transaction and begin to send it, unless one of its sender is before it.

        Raises:
            InvalidTransaction: it is known, does not outbid what has its nonce, or there is no room.
        """
        if letter.tx.hash in self.letters:
            raise InvalidTransaction(SERVER_ERROR, "already known", "known")
        rival = self._rival(letter)
        count = len(self.letters) - (rival is not None)
        size = self._bytes - (len(rival.item) if rival is not None else 0)
        if count >= self._options.count or size + len(letter.item) > self._options.bytes:
            raise InvalidTransaction(
                SERVER_ERROR, "too many transactions wait for their private broadcast", "private_full"
            )
        if rival is not None:
            self._end(rival, "replaced")
        self.letters[letter.tx.hash] = letter
        self._bytes += len(letter.item)
        self.counters.submitted += 1
        self._changed()
        self._begin_next(letter.tx.signer)

    def arrived(self, tx_hash: bytes) -> None:
        """An ordinary peer has brought it: the network knows it, so it is sent no more."""
        letter = self.letters.get(tx_hash)
        if letter is not None:
            self._close(letter, "echoed")
            self.on_echo(tx_hash)

    def spent(self, tx_hash: bytes) -> None:
        """A block has it."""
        letter = self.letters.get(tx_hash)
        if letter is not None:
            self._close(letter, "mined")

    def abort(self, tx_hash: bytes) -> bool:
        """Send it no more; False where it is not known. Who was given it has it."""
        letter = self.letters.get(tx_hash)
        if letter is not None:
            self._close(letter, "aborted")
        return letter is not None

    def nonces(self, signer: bytes) -> frozenset[int]:
        """Return the nonces of a sender that are on their way, by its public key."""
        return frozenset(each.tx.nonce for each in self.letters.values() if each.tx.signer == signer)

    def stop(self) -> None:
        """End all connections and timers for good; the transactions stay where `letters` has them."""
        self._stopped = True
        for letter in self.letters.values():
            self._release(letter)

    # -- a round ---------------------------------------------------------------------------------------

    def _begin_next(self, signer: bytes) -> None:
        """Begin to send the transaction of a sender that comes first; a later one has to wait again."""
        mine = [each for each in self.letters.values() if each.tx.signer == signer]
        if not mine or self._stopped:
            return
        first = min(mine, key=lambda each: each.tx.nonce)
        for letter in mine:
            if letter is not first and letter.state is not State.QUEUED:
                self._release(letter)
                self._enter(letter, State.QUEUED)
        if first.state is State.QUEUED:
            self._begin(first)
        self._pump()

    def _begin(self, letter: Letter) -> None:
        found = self._courier.addressees()
        self._tell_of_loneliness(not found)
        letter.begin_round(self._ordered(found, letter), self._loop.time())
        self.on_progress(letter)

    def _ordered(self, found: Sequence[Addressee], letter: Letter) -> list[Addressee]:
        """Sort who may be asked, the best last: strangers to this transaction, onions."""
        now, peers_last = self._loop.time(), self._options.strangers_first

        def badness(each: Addressee) -> tuple[bool, bool, bool, bool, bytes]:
            sour = now - self._sour.get(each.key, -self._options.sour) < self._options.sour
            late = peers_last and each.is_peer
            return (each.key in letter.confirmed, sour, not each.onion, late, self._rand(8))

        return sorted(found, key=badness, reverse=True)

    def _pump(self) -> None:
        """Begin connections wherever they are needed and there is room for them."""
        for letter in list(self.letters.values()):
            if letter.state is State.SENDING and not self._stopped:
                self._dial_more(letter)

    def _dial_more(self, letter: Letter) -> None:
        options = self._options
        while letter.waiting and letter.dials < options.attempts and letter.lacks(options.copies):
            if self._under_way >= options.connections:
                return
            self._dial(letter, letter.waiting.pop())
        if not letter.under_way:
            self._end_round(letter)

    def _dial(self, letter: Letter, to: Addressee) -> None:
        letter.dials += 1
        self._under_way += 1
        self.counters.dials += 1
        letter.under_way[to.key] = self._courier.carry(
            to, letter, lambda receipt: self._carried(letter, to, receipt)
        )

    def _carried(self, letter: Letter, to: Addressee, receipt: Receipt) -> None:
        if letter.under_way.pop(to.key, None) is None:
            return
        self._under_way -= 1
        if receipt.delivered:
            letter.copies += 1
            letter.confirmed.add(to.key)
            self.counters.delivered += 1
            self._sour.pop(to.key, None)
            self.on_progress(letter)
        else:
            self.counters.failed[receipt.cause] += 1
            self._remember_sour(to.key)
        self._pump()

    def _end_round(self, letter: Letter) -> None:
        options = self._options
        letter.rounds += 1
        self.counters.rounds += 1
        if letter.copies:
            self._enter(letter, State.LISTENING, self._between(options.echo_min, options.echo_max))
        elif letter.dials:
            self._enter(letter, State.UNSENT, self._between(options.unsent_min, options.unsent_max))
        else:
            self._enter(letter, State.UNSENT, options.lonely)
        self._log.debug(
            "private round ended", delivered=letter.copies, dials=letter.dials, rounds=letter.rounds
        )

    def _again(self, letter: Letter) -> None:
        letter.timer = None
        assert letter.begun is not None
        if self._loop.time() - letter.begun >= self._options.lifetime:
            self._log.warning(
                "a transaction is given up: no peer told us of it", confirmed=len(letter.confirmed)
            )
            self._close(letter, "given up")
            return
        objection = self._objection(letter.tx)
        if objection is not None:
            self._log.warning("a transaction is given up", why=objection, confirmed=len(letter.confirmed))
            self._close(letter, "stale")
            return
        self._begin(letter)
        self._pump()

    # -- inside ----------------------------------------------------------------------------------------

    def _enter(self, letter: Letter, state: State, delay: float | None = None) -> None:
        letter.state = state
        letter.waiting = []
        if delay is not None:
            letter.timer = self._loop.call_later(delay, lambda: self._again(letter))
        self.on_progress(letter)

    def _release(self, letter: Letter) -> None:
        """End its connections and its timer."""
        if letter.timer is not None:
            letter.timer.cancel()
            letter.timer = None
        self._under_way -= len(letter.under_way)
        handles, letter.under_way = letter.under_way, {}
        for handle in handles.values():
            handle.cancel()

    def _end(self, letter: Letter, why: str) -> None:
        self._release(letter)
        del self.letters[letter.tx.hash]
        self._bytes -= len(letter.item)
        self.counters.ended[why] += 1

    def _close(self, letter: Letter, why: str) -> None:
        self._end(letter, why)
        self._changed()
        self._begin_next(letter.tx.signer)
        self._pump()

    def _rival(self, letter: Letter) -> Letter | None:
        """Return what has the same nonce and would be replaced.

        Raises:
            InvalidTransaction: it is not outbid.
        """
        for each in self.letters.values():
            if each.tx.signer == letter.tx.signer and each.tx.nonce == letter.tx.nonce:
                if not self._outbids(letter.tx, each.tx):
                    raise InvalidTransaction(
                        SERVER_ERROR, "replacement transaction underpriced", "replacement_underpriced"
                    )
                return each
        return None

    def _remember_sour(self, key: bytes) -> None:
        self._sour.pop(key, None)
        self._sour[key] = self._loop.time()
        while len(self._sour) > self._options.sour_count:
            del self._sour[next(iter(self._sour))]

    def _between(self, least: float, most: float) -> float:
        return least + (most - least) * int.from_bytes(self._rand(8), "big") / _UNIT

    def _tell_of_loneliness(self, lonely: bool) -> None:
        if lonely and not self._lonely:
            self._log.warning(
                "a transaction waits: no peer is known that Tor can reach;"
                " --private-broadcast off would send it to ordinary peers"
            )
        self._lonely = lonely

    def _changed(self) -> None:
        self.counters.waiting = len(self.letters)
        self.on_change()
