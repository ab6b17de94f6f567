"""The shape of a pending transaction. That values and order are geth's: tests/interop/test_geth_attach.py."""

from __future__ import annotations

import pytest

from relay.chain.transactions import decode
from relay.rpc.transaction_json import checksum_address, inspect_line, transaction_json
from tests.aids.transactions import AUTHORIZATION, BLOB_HASH, KEY, KEYS_OF_LIST, TO, build, pooled

COMMON = {
    "blockHash", "blockNumber", "blockTimestamp", "from", "gas", "gasPrice", "hash", "input", "nonce", "to",
    "transactionIndex", "value", "type", "chainId", "v", "r", "s",
}  # fmt: skip
TYPED = COMMON | {"accessList", "yParity"}
FEES = TYPED | {"maxFeePerGas", "maxPriorityFeePerGas"}
LIST = [
    {"address": "0x" + "aa" * 20, "storageKeys": ["0x" + "01" * 32, "0x" + "02" * 32]},
    {"address": "0x" + "bb" * 20, "storageKeys": []},
]


# From EIP-55.
@pytest.mark.parametrize(
    "text",
    [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    ],
)
def test_addresses_have_their_checksum(text: str) -> None:
    assert checksum_address(bytes.fromhex(text[2:])) == text


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (0, COMMON),
        (1, TYPED),
        (2, FEES),
        (3, FEES | {"maxFeePerBlobGas", "blobVersionedHashes"}),
        (4, FEES | {"authorizationList"}),
    ],
)
def test_each_type_has_its_names(kind: int, names: set[str]) -> None:
    shown = transaction_json(decode(build(kind, access_list=KEYS_OF_LIST if kind else [])))
    assert set(shown) == names
    assert shown["type"] == hex(kind)
    assert shown["from"] == "0x" + KEY.node_id[12:].hex()
    assert (shown["to"], shown["nonce"], shown["value"]) == ("0x" + TO.hex(), hex(1234), hex(10**17))
    if kind:
        assert shown["accessList"] == LIST
        assert shown["v"] == shown["yParity"] in ("0x0", "0x1")
    else:
        assert int(str(shown["v"]), 16) in (37, 38)


def test_a_blob_transaction_is_shown_without_its_sidecar() -> None:
    with_sidecar = decode(pooled(blobs=1, blob_hashes=[BLOB_HASH]))
    assert with_sidecar.sidecar is not None
    assert transaction_json(with_sidecar) == transaction_json(decode(build(3, blob_hashes=[BLOB_HASH])))
    assert transaction_json(with_sidecar)["blobVersionedHashes"] == ["0x" + BLOB_HASH.hex()]


def test_authorizations_are_shown() -> None:
    (shown,) = transaction_json(decode(build(4)))["authorizationList"]
    chain_id, address, nonce, y_parity, r, s = AUTHORIZATION
    assert shown == {
        "chainId": hex(chain_id),
        "address": "0x" + address.hex(),
        "nonce": hex(nonce),
        "yParity": hex(y_parity),
        "r": hex(r),
        "s": hex(s),
    }


def test_old_and_creating_ones_lack_what_they_lack() -> None:
    old = transaction_json(decode(build(0, protect=None)))
    assert "chainId" not in old
    assert old["v"] in ("0x1b", "0x1c")
    creating = decode(build(2, to=b"", data=b"\x60\x00"))
    assert transaction_json(creating)["to"] is None
    assert transaction_json(creating)["input"] == "0x6000"
    assert inspect_line(creating).startswith("contract creation: 100000000000000000 wei + 100000 gas × ")
