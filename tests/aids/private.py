"""A courier that only writes down what it is to carry, and a relay that has one."""

from __future__ import annotations

from relay.chain.transactions import transaction_hash, wire
from relay.relaying.private.courier import Addressee, Receipt
from relay.relaying.private.desk import PrivateDesk
from relay.relaying.private.options import PrivateOptions
from tests.aids.relaying import House, raw_tx, seeded

__all__ = ["Carried", "PrivateHouse", "ScriptedCourier", "node"]


def node(number, *, onion=True, is_peer=False):
    return Addressee(number.to_bytes(64, "big"), onion, is_peer)


class Carried:
    """One short connection.

    Attributes:
        to: the receiver; hash: of the transaction; open: neither done nor cancelled.
    """

    def __init__(self, courier, to, letter, done):
        self.to, self.hash, self.open, self.cancelled = to, letter.tx.hash, True, False
        self._courier, self._done = courier, done

    def deliver(self):
        self._finish(Receipt(True))

    def fail(self, cause="too many peers"):
        self._finish(Receipt(False, cause))

    def _finish(self, receipt):
        assert self.open
        self.open = False
        self._done(receipt)

    def cancel(self):
        self.open, self.cancelled = False, True


class ScriptedCourier:
    def __init__(self, known=()):
        self.known = list(known)
        self.carried = []

    def addressees(self):
        return tuple(self.known)

    def carry(self, to, letter, done):
        self.carried.append(Carried(self, to, letter, done))
        return self.carried[-1]

    @property
    def under_way(self):
        return [each for each in self.carried if each.open]

    def of(self, tx_hash):
        return [each for each in self.carried if each.hash == tx_hash]

    def deliver_all(self):
        """Confirm all connections, those too that begin meanwhile; returns how many."""
        count = 0
        while self.under_way:
            self.under_way[0].deliver()
            count += 1
        return count


class PrivateHouse(House):
    """A relay whose users' transactions go out privately."""

    def __init__(self, known=8, peers=2, private=None, seed=b"private", **options):
        super().__init__(peers, **options)
        self.courier = ScriptedCourier(map(node, range(1, known + 1)))
        self.desk = PrivateDesk(
            self.relay, self.courier, private or PrivateOptions(), self.loop, seeded(seed)
        )
        self.broadcast = self.desk.broadcast

    def submit(self, **kwargs):
        tx_hash = self.relay.submit(raw_tx(**kwargs))
        self.loop.settle()
        return tx_hash

    def echo(self, session=None, **kwargs):
        """Have an ordinary peer announce a transaction and deliver what we ask it for."""
        session = session or self.sessions[0]
        raw = raw_tx(**kwargs)
        self.announce(session, (transaction_hash(raw), raw[0] if raw[0] < 0x80 else 0, len(raw)))
        self.loop.advance(1)
        ((request_id, hashes),) = session.requests()
        assert hashes == [transaction_hash(raw)]
        self.answer(session, request_id, wire(raw))
        self.loop.settle()

    def state(self, tx_hash):
        return self.broadcast.letters[tx_hash].state.name

    def progress(self, tx_hash):
        return self.relay.own.progress(tx_hash)
