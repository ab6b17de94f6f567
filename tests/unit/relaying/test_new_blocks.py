"""From a new head to merit of peers, and to blocks of our own users' transactions."""

from __future__ import annotations

from relay.chain.headers import Header
from relay.chain.ordered_trie import ordered_trie_root
from relay.primitives import rlp
from relay.protocols.eth import messages as m
from tests.aids.blocks import EMPTY_LIST_HASH
from tests.aids.relaying import CONFIG, House, blob_tx, item, item_hash, raw_tx, wire


class Block:
    """A block of some transactions, in their wire form."""

    def __init__(self, number, parent, *items, extra=b""):
        raws = [each if each[0] >= 0xC0 else rlp.decode(each) for each in items]
        empty = ordered_trie_root([])
        fields = [parent, EMPTY_LIST_HASH, bytes(20), bytes(32), ordered_trie_root(raws), empty, bytes(256)]
        fields += [
            0,
            number,
            30_000_000,
            21_000 * len(items),
            1_700_000_000 + number,
            extra,
            bytes(32),
            bytes(8),
            7,
        ]
        self.header = Header.decode(rlp.encode([*fields, ordered_trie_root([]), 0, 0, bytes(32)]))
        inner = b"".join(items)
        payload = rlp.list_header(len(inner)) + inner + b"\xc0\xc0"
        self.body = rlp.list_header(len(payload)) + payload


class Scene(House):
    """A relay that follows a trusted peer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.source = self.join(version=69, name="source", trusted=True)
        self.blocks = {}
        update = m.BlockRangeUpdate(0, 40, b"\x40" * 32)
        self.relay.message(self.source, update.CODE, update.encode(69))

    def confirm(self, *blocks, serve=True):
        self.blocks |= {block.header.hash: block for block in blocks}
        self.relay.ranges.on_blocks([block.header for block in blocks])
        return self.serve() if serve else None

    def serve(self):
        asked = []
        for payload in self.source.take(0x05):
            request = m.GetBlockBodies.decode(payload, 69)
            asked += request.hashes
            found = [self.blocks[each].body for each in request.hashes if each in self.blocks]
            answer = m.BlockBodies(request.request_id, tuple(found))
            self.relay.message(self.source, answer.CODE, answer.encode(69))
        self.loop.settle()
        return asked

    def block_of(self, tx_hash):
        return self.relay.own.progress(tx_hash).block


def test_a_new_head_has_its_body_fetched_and_credits_who_brought_its_transactions():
    scene = Scene()
    peer = scene.join()
    scene.push(peer, item(account=1), item(account=2))
    scene.loop.settle()
    block = Block(1, CONFIG.genesis_hash, item(account=1), item(account=9))
    assert scene.confirm(block) == [block.header.hash]
    assert scene.relay.roster.get(peer).included == 0.05
    assert scene.relay.counters.included == 1
    assert list(scene.relay.pool.by_hash) == [item_hash(item(account=2))]
    assert scene.confirm(block) == []  # told again where the chain was set back
    assert scene.relay.roster.get(peer).included == 0.05


def test_own_transactions_are_found_and_come_back_when_the_chain_takes_another_way():
    scene = Scene()
    tx_hash = scene.relay.submit(raw_tx(account=1))
    first = Block(1, CONFIG.genesis_hash)
    second = Block(2, first.header.hash, item(account=1))
    scene.confirm(first, second)
    assert scene.block_of(tx_hash) == (2, second.header.hash)
    assert tx_hash not in scene.relay.pool
    other = Block(2, first.header.hash, extra=b"other")
    scene.confirm(other)
    assert scene.block_of(tx_hash) is None
    assert tx_hash in scene.relay.pool
    third = Block(3, other.header.hash, item(account=1))
    scene.confirm(third)
    assert scene.block_of(tx_hash) == (3, third.header.hash)
    scene.confirm(other)  # set back
    assert scene.block_of(tx_hash) is None


def test_a_replacement_that_is_held_by_then_stays():
    scene = Scene()
    tx_hash = scene.relay.submit(raw_tx(account=1))
    scene.confirm(Block(1, CONFIG.genesis_hash, item(account=1)))
    replacement = scene.relay.submit(raw_tx(account=1, tip=3 * 10**9))
    scene.confirm(Block(1, CONFIG.genesis_hash, extra=b"other"))
    assert scene.block_of(tx_hash) is None
    assert list(scene.relay.pool.by_hash) == [replacement]


def test_who_catches_up_asks_for_the_newest_blocks_only():
    scene = Scene()
    blocks = [Block(1, CONFIG.genesis_hash)]
    for number in range(2, 31):
        blocks.append(Block(number, blocks[-1].header.hash))
    assert scene.confirm(*blocks) == [block.header.hash for block in blocks[-8:]]


def test_a_body_that_comes_after_its_block_was_left_counts_nothing():
    scene = Scene()
    tx_hash = scene.relay.submit(raw_tx(account=1))
    block = Block(1, CONFIG.genesis_hash, item(account=1))
    scene.confirm(block, serve=False)
    scene.relay.ranges.on_blocks([Block(1, CONFIG.genesis_hash, extra=b"other").header])
    scene.serve()
    assert scene.block_of(tx_hash) is None
    assert tx_hash in scene.relay.pool


def test_a_body_that_nobody_has_costs_nothing_but_its_credit():
    scene = Scene()
    block = Block(1, CONFIG.genesis_hash, item(account=1))
    scene.confirm(block, serve=False)
    scene.loop.advance(60)
    assert scene.relay.chain.under_way == 0
    scene.relay.left(scene.source, 8)
    scene.confirm(Block(2, block.header.hash), serve=False)
    assert scene.relay.chain.under_way == 0


def test_memory_of_blocks_is_bounded_and_a_type_nobody_knows_harms_nothing():
    scene = Scene()
    odd = wire(b"\x7e\x01\x02")
    parent = CONFIG.genesis_hash
    for number in range(1, 300):
        block = Block(number, parent, odd, blob_tx())
        scene.confirm(block)
        parent = block.header.hash
    assert len(scene.relay._followed._hashes) == 256
