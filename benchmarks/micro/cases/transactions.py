"""Transactions: each step of the way of one, and the whole of it."""

from dataclasses import replace

from benchmarks.micro.registry import Call, case
from relay.chain.transaction_sender import address_of, recover
from relay.chain.transaction_table import decode_by_table
from relay.chain.transactions import canonical, decode, recover_sender, transaction_hash, wire
from relay.chain.validity import AMSTERDAM, OSAKA, check
from tests.aids.transactions import KEYS_OF_LIST, TO, build, pooled

TRANSFER = build(2)
TOKEN = build(2, value=0, data=bytes.fromhex("a9059cbb") + bytes(12) + TO + bytes(24) + bytes(range(8)))
RULES = replace(OSAKA, chain_id=1)

FORMS = {
    "legacy": build(0),
    "access list": build(1, access_list=KEYS_OF_LIST),
    "dynamic fee transfer": TRANSFER,
    "dynamic fee, transfer of a token": TOKEN,
    "dynamic fee, access list": build(2, access_list=KEYS_OF_LIST),
    "dynamic fee, 10 kB of data": build(2, data=bytes(range(1, 251)) * 40, gas=10**6),
    "blob as in eth/72": pooled(),
    "set code": build(4),
}


def decode_of(raw: bytes) -> Call:
    return lambda: decode(raw)


for name, raw in FORMS.items():
    case("transaction: hash and decode", f"{name}, {len(raw)} B")(lambda raw=raw: decode_of(raw))


@case("transaction: steps of a transfer", "canonical form of an item")
def _() -> Call:
    item = wire(TRANSFER)
    return lambda: canonical(item)


@case("transaction: steps of a transfer", "hash")
def _() -> Call:
    return lambda: transaction_hash(TRANSFER)


@case("transaction: steps of a transfer", "decode")
def _() -> Call:
    known = transaction_hash(TRANSFER)
    return lambda: decode(TRANSFER, known)


@case("transaction: steps of a transfer", "decode by table")
def _() -> Call:
    return lambda: decode_by_table(TRANSFER)


@case("transaction: steps of a transfer", "signing hash")
def _() -> Call:
    return decode(TRANSFER).signing_hash


@case("transaction: steps of a transfer", "ecrecover alone")
def _() -> Call:
    tx = decode(TRANSFER)
    digest, signature, y_parity = tx.signing_hash(), tx.signature, tx.y_parity
    return lambda: recover(digest, signature, y_parity)


@case("transaction: steps of a transfer", "checks with the sender known")
def _() -> Call:
    tx = decode(TRANSFER)
    recover_sender(tx)
    return lambda: check(tx, RULES)


@case("transaction: steps of a transfer", "address of a public key")
def _() -> Call:
    signer = decode(TRANSFER).signer
    return lambda: address_of(signer)


def whole(raw: bytes, rules=RULES) -> Call:
    def run() -> None:
        check(decode(raw), rules)

    return run


@case("transaction: hash, decode, check, sender", "dynamic fee transfer")
def _() -> Call:
    return whole(TRANSFER)


@case("transaction: hash, decode, check, sender", "dynamic fee transfer, with its address")
def _() -> Call:
    def run() -> bytes:
        tx = decode(TRANSFER)
        check(tx, RULES)
        return tx.sender

    return run


@case("transaction: hash, decode, check, sender", "dynamic fee transfer, Amsterdam")
def _() -> Call:
    return whole(TRANSFER, replace(AMSTERDAM, chain_id=1))


@case("transaction: hash, decode, check, sender", "dynamic fee, transfer of a token")
def _() -> Call:
    return whole(TOKEN)


@case("transaction: hash, decode, check, sender", "legacy")
def _() -> Call:
    return whole(FORMS["legacy"])


@case("transaction: hash, decode, check, sender", "set code")
def _() -> Call:
    return whole(FORMS["set code"])
