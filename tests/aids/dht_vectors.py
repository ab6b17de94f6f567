"""Vectors of the provider DHT, made by our own code from fixed keys.

`python -m tests.aids.dht_vectors` writes them anew; a change of the file is a change of the wire form.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from relay.primitives import rlp
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey
from relay.protocols.dht import ProviderRecord, Status, parse_key, rendezvous_key, rendezvous_keys
from relay.protocols.dht.messages import Added, AddProvider, GetProviders, Page
from relay.protocols.dht.record import signed
from relay.protocols.dht.rendezvous import offset, share_of
from tests.aids.vectors import ROOT

PATH = ROOT / "provider-dht.json"
HOUR = 500_024
UNIX = 1_800_000_000  # the record of HOUR has 24 hours left
KEY = parse_key("0x" + "a5" * 32)
OTHER_KEY = parse_key("something else")
TOKEN, CURSOR = bytes(range(16)), bytes(range(16, 32))
MAINNET = bytes.fromhex("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3")
TEXTS = ("0x" + "a5" * 32, "0X" + "A5" * 32, "a5" * 32, "something", "wiki/Onion", "ключ", "0x12")


def node_key(name: str) -> NodeKey:
    return NodeKey(sha256(name.encode()).digest())


def enr_of(name: str, seq: int = 1, **more: Any) -> NodeRecord:
    onion = OnionKey.from_seed(sha256(b"onion of " + name.encode()).digest())
    return build_record(node_key(name), seq, onion3=onion.address, tcp=30303, **more)


def record_of(name: str, key: bytes = KEY, hour: int = HOUR, **more: Any) -> ProviderRecord:
    return ProviderRecord.sign(node_key(name), key, enr_of(name, **more), hour)


def make() -> dict[str, Any]:
    return {
        "about": "docs/specs/provider-dht.md; written by tests/aids/dht_vectors.py",
        "keys": [{"text": text, "key": parse_key(text).hex()} for text in TEXTS],
        "unix": UNIX,
        "record": _record(),
        "refused_records": _refused(),
        "messages": _messages(),
        "rendezvous": _rendezvous(),
    }


def _record() -> dict[str, Any]:
    record = record_of("provider")
    signature = rlp.expect_bytes(rlp.expect_list(rlp.decode(record.raw))[2])
    return {
        "node_key": node_key("provider").secret.hex(),
        "node_id": record.node_id.hex(),
        "enr": record.enr.to_text(),
        "key": KEY.hex(),
        "hour": HOUR,
        "signed": signed(KEY, record.enr.raw, HOUR).hex(),
        "signature": signature.hex(),
        "encoded": record.raw.hex(),
    }


def _refused() -> list[dict[str, str]]:
    good = record_of("provider").raw
    enr, hour, signature = rlp.expect_list(rlp.decode(good))
    refused = {
        "the record of another key": record_of("provider", OTHER_KEY).raw,
        "another hour than was signed": rlp.encode([enr, HOUR + 1, signature]),
        "another record of the same node": _spliced(enr_of("provider", 2).raw, hour, signature),
        "signed by another node": _spliced(enr_of("other").raw, hour, signature),
        "the hour with a leading zero": rlp.encode([enr, b"\x00" + HOUR.to_bytes(3, "big"), signature]),
        "a fourth field": rlp.encode([enr, hour, signature, b""]),
        "cut off": good[:-1],
        "followed by a byte": good + b"\x00",
        "expired": record_of("provider", hour=UNIX // 3600).raw,
        "26 hours ahead": record_of("provider", hour=UNIX // 3600 + 26).raw,
        "with an IP, among onions": record_of("provider", ip="9.9.9.9").raw,
    }
    return [{"why": why, "key": KEY.hex(), "encoded": raw.hex()} for why, raw in refused.items()]


def _spliced(enr: bytes, hour: rlp.RLPItem, signature: rlp.RLPItem) -> bytes:
    payload = enr + rlp.encode(hour) + rlp.encode(signature)
    return rlp.list_header(len(payload)) + payload


def _messages() -> list[dict[str, Any]]:
    record, nearer = record_of("provider"), enr_of("nearer")
    page = Page(TOKEN, 7, CURSOR, (record.raw,), (nearer.raw,))
    return [
        {
            "name": "GET_PROVIDERS, first page",
            "key": KEY.hex(),
            "cursor": "",
            "limit": 24,
            "encoded": GetProviders(KEY, b"", 24).encode().hex(),
        },
        {
            "name": "GET_PROVIDERS, next page",
            "key": KEY.hex(),
            "cursor": CURSOR.hex(),
            "limit": 3,
            "encoded": GetProviders(KEY, CURSOR, 3).encode().hex(),
        },
        {
            "name": "PROVIDERS",
            "token": TOKEN.hex(),
            "total": 7,
            "next": CURSOR.hex(),
            "records": [record.raw.hex()],
            "nodes": [nearer.raw.hex()],
            "encoded": page.encode().hex(),
        },
        {
            "name": "PROVIDERS, none known",
            "token": TOKEN.hex(),
            "total": 0,
            "next": "",
            "records": [],
            "nodes": [nearer.raw.hex()],
            "encoded": Page(TOKEN, 0, b"", (), (nearer.raw,)).encode().hex(),
        },
        {
            "name": "ADD_PROVIDER",
            "key": KEY.hex(),
            "token": TOKEN.hex(),
            "record": record.raw.hex(),
            "encoded": AddProvider(KEY, TOKEN, record.raw).encode().hex(),
        },
        *(
            {"name": "ADDED", "status": status.value, "encoded": Added(status).encode().hex()}
            for status in Status
        ),
    ]


def _rendezvous() -> dict[str, Any]:
    own = node_key("provider").node_id
    begin = 20_833 * 86_400 - offset(MAINNET)
    times = (begin - 7201, begin - 7200, begin - 1, begin, begin + 7199, begin + 7200)
    return {
        "genesis_hash": MAINNET.hex(),
        "chain_id": 1,
        "offset": offset(MAINNET),
        "keys": [
            {"epoch": epoch, "part": part, "key": rendezvous_key(MAINNET, 1, epoch, part).hex()}
            for epoch, part in ((0, 0), (20_833, 0), (20_833, 15), (20_834, 0))
        ],
        "node_id": own.hex(),
        "shares": [{"epoch": epoch, "parts": list(share_of(own, epoch))} for epoch in range(20_832, 20_840)],
        "times": [_at(unix, own) for unix in times],
    }


def _at(unix: int, own: Any) -> dict[str, Any]:
    keys = rendezvous_keys(MAINNET, 1, unix, own)
    return {
        "unix": unix,
        "find_first": keys.find[0].hex(),
        "find_last": keys.find[-1].hex(),
        "find_count": len(keys.find),
        "provide": [each.hex() for each in keys.provide],
        "until": keys.until,
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(make(), indent=1, ensure_ascii=True) + "\n", encoding="ascii")
