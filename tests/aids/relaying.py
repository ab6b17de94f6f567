"""What tests and benchmarks of relaying share: a virtual loop, sessions that record, signed transactions."""

from __future__ import annotations

import hashlib
from collections import deque
from functools import lru_cache
from heapq import heappop, heappush

from relay.chain.networks import ChainConfig
from relay.chain.transactions import Transaction, decode, wire
from relay.primitives import rlp
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.snappy import decompress
from relay.protocols.eth.packing import decode_announcement, split_pooled, split_transactions
from relay.protocols.eth.versions import BY_VERSION
from relay.relaying.counters import RelayCounters
from relay.relaying.handler import EthRelay
from relay.relaying.options import RelayOptions
from relay.relaying.pool import PooledTx, TxPool
from relay.relaying.recent import RecentHashes

CHAIN_ID = 1337
GENESIS = b"\x11" * 32
CONFIG = ChainConfig(
    name="test",
    network_id=4242,
    chain_id=CHAIN_ID,
    genesis_hash=GENESIS,
    genesis_time=0,
    block_forks=(("london", 0),),
    time_forks=(("shanghai", 0), ("cancun", 0), ("prague", 0), ("osaka", 2_000_000_000)),
)
UNIX_NOW = 1_900_000_000.0
GWEI = 10**9


class Timer:
    def __init__(self, due, callback):
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


class VirtualLoop:
    """An event loop whose clock only moves by `advance`, and by `cost` at each look at it."""

    def __init__(self, now=1000.0, cost=0.0):
        self.now = now
        self.cost = cost
        self.ready = deque()
        self.timers = []
        self.turns = 0
        self._order = 0

    def time(self):
        self.now += self.cost
        return self.now

    def call_soon(self, callback):
        timer = Timer(self.now, callback)
        self.ready.append(timer)
        return timer

    def call_later(self, delay, callback):
        timer = Timer(self.now + delay, callback)
        self._order += 1
        heappush(self.timers, (timer.due, self._order, timer))
        return timer

    def turn(self):
        """Run what is ready now, as one iteration of asyncio does."""
        self.turns += 1
        while self.timers and self.timers[0][0] <= self.now:
            self.ready.append(heappop(self.timers)[2])
        for _ in range(len(self.ready)):
            timer = self.ready.popleft()
            if not timer.cancelled:
                timer.callback()

    def settle(self):
        """Run turns until nothing is ready."""
        while True:
            while self.timers and self.timers[0][2].cancelled:
                heappop(self.timers)
            if not self.ready and not (self.timers and self.timers[0][0] <= self.now):
                return
            self.turn()

    def advance(self, seconds):
        """Move the clock, running each timer at its time."""
        self.settle()
        end = self.now + seconds
        while self.timers and self.timers[0][0] <= end:
            self.now = max(self.now, self.timers[0][0])
            self.settle()
        self.now = end

    @property
    def live_timers(self):
        return [timer for _, _, timer in self.timers if not timer.cancelled]


class RecordingSession:
    """A peer as relaying sees it. Everything sent to it is kept, decompressed."""

    def __init__(
        self, version=69, trusted=False, status=None, name="", inbound=False, capabilities=(), endpoint=None
    ):
        self.endpoint = endpoint
        self.eth = BY_VERSION[version]
        self.trusted = trusted
        self.inbound = inbound
        self.status = status
        self.name = name
        self.writable = True
        self.paused = False
        self.sent = []
        self.bodies = []
        self.foreign = []
        self.capabilities = capabilities
        self.ended = None

    def send(self, code, payload):
        self.sent.append((code, payload))

    def send_packed(self, code, body):
        self.bodies.append(body)
        self.sent.append((code, decompress(body)))

    def speaks(self, name):
        return name in self.capabilities

    def send_to(self, name, code, payload):
        self.foreign.append((name, code, payload))

    def disconnect(self, reason, cause=""):
        self.ended = self.ended or (reason, cause)

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    # -- what came out --

    def take(self, code):
        """Return the payloads of a code, and forget them."""
        found = [payload for each, payload in self.sent if each == code]
        self.sent = [(each, payload) for each, payload in self.sent if each != code]
        return found

    def pushed(self):
        """Return hashes of transactions that it was sent whole, in order."""
        return [item_hash(item) for payload in self.take(0x02) for item in split_transactions(payload)]

    def announced(self):
        """Return (hash, type, size) that it was announced, in order."""
        found = []
        for payload in self.take(0x08):
            types, sizes, hashes = decode_announcement(payload, masked=self.eth.version >= 72)
            found += list(zip(hashes, types, sizes, strict=True))
        return found

    def requests(self):
        """Return (request id, hashes) of what it was asked for."""
        found = []
        for payload in self.take(0x09):
            request_id, hashes = rlp.decode(payload)
            found.append((int.from_bytes(request_id, "big"), hashes))
        return found

    def answers(self):
        """Return (request id, hashes) of answers it got."""
        return [
            (request_id, [item_hash(item) for item in items])
            for request_id, items in map(split_pooled, self.take(0x0A))
        ]


class SilentSession(RecordingSession):
    """Counts frames and keeps nothing, for benchmarks."""

    frames = 0
    size = 0

    def send(self, code, payload):
        self.frames += 1
        self.size += len(payload)

    send_packed = send


def item_hash(item):
    """Return the hash of a wire item."""
    _, start, stop = rlp.read_header(item, 0, len(item))
    return keccak256(item if item[0] >= 0xC0 else item[start:stop])


def seeded(seed=b"relaying"):
    """Return a deterministic source of randomness."""
    state = [0]

    def rand(count):
        out = b""
        while len(out) < count:
            state[0] += 1
            out += hashlib.sha256(seed + state[0].to_bytes(8, "big")).digest()
        return out[:count]

    return rand


@lru_cache(maxsize=4096)
def key(number):
    return NodeKey(keccak256(b"key %d" % number))


@lru_cache(maxsize=65536)
def raw_tx(account=0, nonce=0, tip=GWEI, fee=None, data=b"", gas=None, chain_id=CHAIN_ID, kind=2, value=1):
    """Return canonical bytes of a signed transaction of type 0 or 2; chain_id None is before EIP-155."""
    fee = 2 * tip if fee is None else fee
    gas = 21000 + 40 * len(data) if gas is None else gas
    to = b"\x22" * 20
    if kind == 0:
        fields = [nonce, tip, gas, to, value, data]
        unsigned = fields if chain_id is None else [*fields, chain_id, 0, 0]
        signature = key(account).sign_recoverable(keccak256(rlp.encode(unsigned)))
        v = 27 + signature[64] if chain_id is None else 35 + 2 * chain_id + signature[64]
        prefix = b""
    else:
        fields = [chain_id, nonce, tip, fee, gas, to, value, data, []]
        prefix = bytes((kind,))
        signature = key(account).sign_recoverable(keccak256(prefix + rlp.encode(fields)))
        v = signature[64]
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64]))
    return prefix + rlp.encode([*fields, v, r, s])


def item(**kwargs):
    """Return the wire item of a signed transaction."""
    return wire(raw_tx(**kwargs))


def blob_tx(sidecar=False):
    """Return the wire item of a blob transaction; its sidecar is not that of its hashes."""
    hashes = [b"\x01" + bytes(31)]
    fields = [1337, 0, GWEI, 2 * GWEI, 21_000, b"\x22" * 20, 0, b"", [], GWEI, hashes]
    signature = NodeKey(keccak256(b"blob")).sign_recoverable(keccak256(b"\x03" + rlp.encode(fields)))
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64]))
    signed = [*fields, signature[64], r, s]
    body = [signed, [bytes(131072)], [bytes(48)], [bytes(48)]] if sidecar else signed
    return wire(b"\x03" + rlp.encode(body))


def access_list_tx():
    """Return the wire item of a transaction of type 1."""
    fields = [1337, 0, GWEI, 30_000, b"\x22" * 20, 0, b"", [[b"\x33" * 20, [bytes(32)]]]]
    signature = key(9).sign_recoverable(keccak256(b"\x01" + rlp.encode(fields)))
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64]))
    return wire(b"\x01" + rlp.encode([*fields, signature[64], r, s]))


def tx(**kwargs) -> Transaction:
    return decode(raw_tx(**kwargs))


def pooled(known=0, arrived=0.0, local=False, **kwargs):
    decoded = tx(**kwargs)
    return PooledTx(decoded, wire(decoded.raw), known, arrived, local)


class FakeTx:
    """The fields of a decoded transaction that the pool reads, without a signature."""

    def __init__(self, number, signer=b"s" * 64, nonce=0, tip=GWEI, fee=None, size=110, kind=2):
        self.hash = keccak256(b"%d" % number)
        self.signer = signer
        self.nonce = nonce
        self.tip_cap = tip
        self.fee_cap = tip if fee is None else fee
        self.type = kind
        self.size = size


def fake(number, known=0, arrived=0.0, local=False, wire_size=None, **kwargs):
    made = FakeTx(number, **kwargs)
    size = min(made.size, 200) if wire_size is None else wire_size  # well-formed from 58 to 257
    return PooledTx(made, b"\xb8" + bytes((size - 2,)) + bytes(size - 2), known, arrived, local)


def small_pool(**options):
    made = RelayOptions(**options)
    counters = RelayCounters()
    recent = RecentHashes(made.recent_count, made.recent_seconds)
    return TxPool(made, counters, recent), counters, recent


class House:
    """A relay with its virtual loop and recording peers."""

    def __init__(self, peers=0, version=69, cost=0.0, config=CONFIG, verifier=None, loop=None, **options):
        self.loop = loop or VirtualLoop(cost=cost)
        self.unix = UNIX_NOW
        self.relay = EthRelay(
            config, RelayOptions(**options), self.loop, lambda: self.unix, seeded(), verifier
        )
        self.relay.start()
        self.sessions = [self.join(version=version, name=f"peer {n}") for n in range(peers)]

    def join(self, **kwargs):
        session = RecordingSession(**kwargs)
        self.relay.joined(session)
        self.loop.settle()
        return session

    def push(self, session, *items):
        self.relay.message(session, 0x02, rlp.list_header(sum(map(len, items))) + b"".join(items))

    def answer(self, session, request_id, *items):
        inner = rlp.list_header(sum(map(len, items))) + b"".join(items)
        head = rlp.encode_int(request_id)
        self.relay.message(session, 0x0A, rlp.list_header(len(head) + len(inner)) + head + inner)

    def announce(self, session, *entries, mask=bytes(16)):
        types = bytes(kind for _, kind, _ in entries)
        sizes = [size for _, _, size in entries]
        hashes = [tx_hash for tx_hash, _, _ in entries]
        fields = [types, sizes, hashes]
        if session.eth.version >= 72:
            fields.append(mask)
        self.relay.message(session, 0x08, rlp.encode(fields))

    def ask(self, session, request_id, hashes):
        self.relay.message(session, 0x09, rlp.encode([request_id, list(hashes)]))

    def bit(self, session):
        return self.relay.roster.get(session).bit
