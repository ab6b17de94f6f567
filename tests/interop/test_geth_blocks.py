"""Every block of geth's test chain passes our checks, with the receipts that geth computes for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.chain.bodies import check_body
from relay.chain.headers import linked_hashes
from relay.chain.receipts import check_receipts, with_blooms, without_blooms
from relay.primitives import rlp
from tests.aids.chain_headers import RealBlock, split_block
from tests.aids.geth import Geth
from tests.aids.geth_tools import geth_folder

pytestmark = [pytest.mark.geth]


async def test_headers_bodies_and_receipts_of_a_whole_chain(folder: Path) -> None:
    testdata = geth_folder() / "testdata"
    raw = (testdata / "chain.rlp").read_bytes()
    blocks = [split_block(raw[slice(*span)]) for span in rlp.list_items(raw, 0, len(raw))]
    headers = [block.header for block in blocks]
    assert linked_hashes([header.raw for header in headers]) == [header.hash for header in headers]
    assert [header.number for header in headers] == list(range(1, len(headers) + 1))
    async with Geth(folder / "geth", testdata / "genesis.json", chain=testdata / "chain.rlp") as geth:
        head = await geth.rpc("eth_getBlockByNumber", "latest", False)
        assert head["hash"] == "0x" + headers[-1].hash.hex()
        for block in blocks:
            found = await geth.rpc("debug_getRawReceipts", hex(block.header.number))
            check_body(block.header, block.body)
            wide = RealBlock(
                block.header, block.body, tuple(bytes.fromhex(each[2:]) for each in found)
            ).receipts_68
            slim = without_blooms(wide)
            check_receipts(block.header, slim)
            assert with_blooms(slim) == wide
