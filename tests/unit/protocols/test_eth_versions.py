"""The table of eth versions."""

import pytest

from relay.primitives.errors import ProtocolBreach, SubprotocolError
from relay.protocols.devp2p.capabilities import Capability
from relay.protocols.eth import messages as m
from relay.protocols.eth.versions import BY_VERSION, ETH68, ETH69, ETH70, ETH71, ETH72, EthVersion

ALL = (ETH68, ETH69, ETH70, ETH71, ETH72)


def test_lengths_are_those_of_the_specification():
    assert [each.length for each in ALL] == [17, 18, 18, 20, 22]
    assert [each.version for each in ALL] == [68, 69, 70, 71, 72] == list(BY_VERSION)


def test_codes_are_those_of_the_specification():
    names = {code: spec.name for code, spec in ETH72.messages.items()}
    assert names == {
        0x00: "Status",
        0x02: "Transactions",
        0x03: "GetBlockHeaders",
        0x04: "BlockHeaders",
        0x05: "GetBlockBodies",
        0x06: "BlockBodies",
        0x08: "NewPooledTransactionHashes",
        0x09: "GetPooledTransactions",
        0x0A: "PooledTransactions",
        0x0F: "GetReceipts",
        0x10: "Receipts",
        0x11: "BlockRangeUpdate",
        0x12: "GetBlockAccessLists",
        0x13: "BlockAccessLists",
        0x14: "GetCells",
        0x15: "Cells",
    }


@pytest.mark.parametrize("older", range(4))
def test_version_changes_what_the_layouts_say(older):
    """A row is new or changed exactly where its class has a layout since that version."""
    before, after = ALL[older], ALL[older + 1]
    changed = {
        spec.message
        for code, spec in after.messages.items()
        if code not in before.messages or after.version in spec.message.LAYOUTS
    }
    assert {each for each in changed if after.version not in each.LAYOUTS} == set()
    assert set(before.messages) <= set(after.messages)


def test_evolving_leaves_the_older_version_alone():
    class News(m.BlockRangeUpdate):
        __slots__ = ()
        CODE = 0x20

    newer = ETH72.evolve(73, News)
    assert newer.length == 0x21
    assert ETH72.length == 22
    assert newer.messages[0x02].name == "Transactions"


def test_capability_says_length_and_limit():
    capability = ETH70.capability
    assert capability == Capability("eth", 70)
    assert (capability.length, capability.max_message) == (18, 10 * 1024 * 1024)
    assert repr(ETH70) == "eth/70"


@pytest.mark.parametrize("version", ALL, ids=repr)
@pytest.mark.parametrize("code", [0x01, 0x07, 0x0B, 0x0D, 0x16, 0xFF])
def test_block_announcements_and_unknown_codes_are_refused(version: EthVersion, code):
    with pytest.raises(SubprotocolError, match="has no message"):
        version.decode(code, b"\xc0")


def test_message_is_decoded_by_its_version():
    payload = m.GetReceipts(7, (bytes(32),), 3).encode(70)
    assert ETH70.decode(0x0F, payload) == m.GetReceipts(7, (bytes(32),), 3)
    with pytest.raises(ProtocolBreach):
        ETH69.decode(0x0F, payload)
    with pytest.raises(SubprotocolError):
        ETH68.decode(0x11, m.BlockRangeUpdate(0, 1, b"\x01" * 32).encode(69))
