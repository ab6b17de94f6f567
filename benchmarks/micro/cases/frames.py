"""RLPx frames by size, the eth messages of the transactions' path, and the handshake.

A received frame is part of a chain, so receiving is timed together with the sending of what is received:
"out and in" less "out" is what receiving costs. "floor" is the same bytes through snappy, AES and Keccak
alone, once in each direction: what no framing in Python can be faster than.
"""

import cramjam
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.micro.registry import Call, case
from relay.primitives import rlp
from relay.primitives.hashing import Keccak256
from relay.protocols.devp2p import snappy
from relay.protocols.eth import packing
from tests.aids.devp2p import Pair, Randomness

CODE = 18  # Transactions of the only capability
READ = 65_536  # bytes asyncio reads at a time at first
SIZES = {"33 B": 33, "120 B": 120, "1 KiB": 1024, "16 KiB": 16_384, "100 KiB": 102_400}
ANNOUNCED = 4096
TRANSFERS = 256


def half_random(size: int) -> bytes:
    """Half of it compresses, as transactions do."""
    return Randomness(size)(size // 2) + bytes(size - size // 2)


def out(size: int) -> Call:
    connection, payload = Pair().connect().a, half_random(size)
    return lambda: connection.send(CODE, payload)


def out_packed(size: int) -> Call:
    connection, body = Pair().connect().a, snappy.compress(half_random(size))
    return lambda: connection.send_packed(CODE, body)


def out_and_in(size: int) -> Call:
    pair, payload = Pair().connect(), half_random(size)
    sender, receiver = pair.a, pair.b
    return lambda: receiver.receive(sender.send(CODE, payload))


def out_and_in_by_reads(size: int) -> Call:
    pair, payload = Pair().connect(), half_random(size)
    sender, receiver = pair.a, pair.b

    def call() -> None:
        frame = sender.send(CODE, payload)
        for start in range(0, len(frame), READ):
            receiver.receive(frame[start : start + READ])

    return call


def floor(size: int) -> Call:
    payload = half_random(size)
    cipher = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()
    state = Keccak256()

    def call() -> None:
        packed = cramjam.snappy.compress_raw(payload)
        state.update(cipher.update(packed))
        state.update(cipher.update(packed))
        bytes(cramjam.snappy.decompress_raw(packed))

    return call


KINDS = {
    "out": out,
    "out, packed before": out_packed,
    "out and in": out_and_in,
    "out and in, floor": floor,
}
for _name, _size in SIZES.items():
    for _kind, _prepare in KINDS.items():
        case(f"frame {_name}", _kind, size=_size)(lambda prepare=_prepare, size=_size: prepare(size))
case("frame 100 KiB", "out and in, by reads of 64 KiB", size=102_400)(lambda: out_and_in_by_reads(102_400))


@case("frame 120 B", "out and in, 50 frames a read", items=50, size=6000)
def _() -> Call:
    pair, payload = Pair().connect(), half_random(120)
    return lambda: pair.b.receive(b"".join(pair.a.send(CODE, payload) for _ in range(50)))


@case("handshake", "both sides, to Connected")
def _() -> Call:
    return lambda: Pair().connect()


@case("eth message", f"split {TRANSFERS} transactions", items=TRANSFERS)
def _() -> Call:
    rand = Randomness("transfers")
    payload = packing.encode_transactions([rlp.encode(b"\x02" + rand(116)) for _ in range(TRANSFERS)])
    return lambda: packing.split_transactions(payload)


@case("eth message", f"join {TRANSFERS} transactions", items=TRANSFERS)
def _() -> Call:
    rand = Randomness("transfers")
    items = [rlp.encode(b"\x02" + rand(116)) for _ in range(TRANSFERS)]
    return lambda: packing.encode_transactions(items)


def announcement() -> tuple[bytes, list[int], list[bytes]]:
    rand = Randomness("announced")
    return b"\x02" * ANNOUNCED, [110 + n % 60 for n in range(ANNOUNCED)], [rand(32) for _ in range(ANNOUNCED)]


@case("eth message", f"read announcement of {ANNOUNCED}", items=ANNOUNCED)
def _() -> Call:
    payload = packing.encode_announcement(*announcement())
    return lambda: packing.decode_announcement(payload)


@case("eth message", f"write announcement of {ANNOUNCED}", items=ANNOUNCED)
def _() -> Call:
    types, sizes, hashes = announcement()
    return lambda: packing.encode_announcement(types, sizes, hashes)
