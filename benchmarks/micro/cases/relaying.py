"""The way of a message with transactions through the relay, without sockets and frames.

"verdicts known" leaves out decoding and the search for the sender (but not the hash): what remains is what
pool, gossip and fetcher cost. One sink gets all whole; of 25 each gets a fifth whole, is told of the rest and
asks for it, as geth does.
"""

from collections import deque

from benchmarks.micro.registry import Call, case
from relay.chain.transactions import Transaction, canonical, decode
from relay.chain.validity import check, rules_at
from relay.primitives import rlp
from relay.protocols.devp2p.snappy import decompress
from relay.protocols.eth.packing import decode_announcement
from relay.relaying.handler import EthRelay
from relay.relaying.options import RelayOptions
from relay.relaying.pool import PooledTx
from tests.aids.relaying import CONFIG, UNIX_NOW, SilentSession, VirtualLoop, item, seeded, small_pool

MESSAGE = 900  # transactions: near 100 KiB
SENDERS = 300
ITEMS = [item(account=n % SENDERS, nonce=n // SENDERS) for n in range(MESSAGE)]
PAYLOAD = rlp.list_header(sum(map(len, ITEMS))) + b"".join(ITEMS)
GROUP = "relaying: one transaction"


def decoded() -> list[Transaction]:
    transactions = [decode(canonical(each)) for each in ITEMS]
    for transaction in transactions:
        assert transaction.signer
    return transactions


class KnownVerdicts:
    """Admission that has seen all before."""

    def __init__(self) -> None:
        self.by_hash = {transaction.hash: transaction for transaction in decoded()}

    def admit(self, raw: bytes, tx_hash: bytes, local: bool = False) -> Transaction:
        return self.by_hash[tx_hash]


class AskingSession(SilentSession):
    """Remembers the hashes that it was told of, to ask for them."""

    def __init__(self) -> None:
        super().__init__()
        self.told: deque[bytes] = deque()

    def send_packed(self, code: int, body: bytes) -> None:
        if code == 0x08:
            self.told.append(body)


def through(sinks: int, verdicts: KnownVerdicts | None, ask: bool = False) -> Call:
    """Return a call that takes the message in with a fresh relay, and sends it on."""
    requests: dict[bytes, bytes] = {}

    def call() -> None:
        loop = VirtualLoop()
        relay = EthRelay(CONFIG, RelayOptions(), loop, lambda: UNIX_NOW, seeded())
        if verdicts is not None:
            relay.intake._admission = verdicts  # type: ignore[assignment]
        source = SilentSession()
        peers = [AskingSession() for _ in range(sinks)]
        for peer in (source, *peers):
            relay.joined(peer)
        relay.message(source, 0x02, PAYLOAD)
        loop.turn()
        assert relay.counters.accepted == MESSAGE
        if ask:
            for peer in peers:
                for body in peer.told:
                    if body not in requests:
                        requests[body] = request_for(body)
                    relay.message(peer, 0x09, requests[body])
            assert relay.counters.served == relay.counters.announcements

    return call


def request_for(body: bytes) -> bytes:
    return rlp.encode([7, decode_announcement(decompress(body))[2]])


@case(GROUP, "in", items=MESSAGE)
def _() -> Call:
    return through(0, None)


@case(GROUP, "in, verdicts known", items=MESSAGE)
def _() -> Call:
    return through(0, KnownVerdicts())


@case(GROUP, "in and to 1 sink", items=MESSAGE)
def _() -> Call:
    return through(1, None)


@case(GROUP, "in and to 1 sink, verdicts known", items=MESSAGE)
def _() -> Call:
    return through(1, KnownVerdicts())


@case(GROUP, "in and to 25 sinks, verdicts known", items=MESSAGE)
def _() -> Call:
    return through(25, KnownVerdicts())


@case(GROUP, "in and to 25 sinks that ask, verdicts known", items=MESSAGE)
def _() -> Call:
    return through(25, KnownVerdicts(), ask=True)


@case(GROUP, "a delivery to one of 25 sinks that ask, all included", items=MESSAGE * 25)
def _() -> Call:
    return through(25, None, ask=True)


@case(GROUP, "decode and check alone", items=MESSAGE)
def _() -> Call:
    rules = rules_at(CONFIG, UNIX_NOW)
    raws = [(canonical(each), decode(canonical(each)).hash) for each in ITEMS]

    def call() -> None:
        for raw, tx_hash in raws:
            check(decode(raw, tx_hash), rules)

    return call


@case("relaying: pool", "make an entry", items=MESSAGE)
def _() -> Call:
    pairs = list(zip(decoded(), ITEMS, strict=True))
    return lambda: [PooledTx(transaction, wire, 1, 0.0) for transaction, wire in pairs]


@case("relaying: pool", "insert", items=MESSAGE)
def _() -> Call:
    entries = [PooledTx(transaction, wire) for transaction, wire in zip(decoded(), ITEMS, strict=True)]

    def call() -> None:
        add = small_pool()[0].add
        for entry in entries:
            add(entry)

    return call


@case("relaying: pool", "insert into a full one", items=MESSAGE)
def _() -> Call:
    entries = [PooledTx(transaction, wire) for transaction, wire in zip(decoded(), ITEMS, strict=True)]
    pool, _, _ = small_pool(pool_count=100)

    def call() -> None:
        add = pool.add
        for entry in entries:
            add(entry)

    return call
