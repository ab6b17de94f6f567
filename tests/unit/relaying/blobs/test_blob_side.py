"""Blob transactions from announcement to announcement: peers that record, and a verifier that is asked."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.chain.blobs import ALL_CELLS, DATA_CELLS, cell_indices, mask_bytes, mask_number
from relay.chain.transactions import InvalidTransaction, decode, wire
from relay.primitives.errors import PeerError, ProtocolBreach, SubprotocolError
from relay.protocols.eth.messages import Cells, GetCells, NewPooledTransactionHashes
from relay.protocols.eth.packing import split_pooled
from relay.relaying.blobs.options import BlobOptions
from relay.relaying.verdict import Outcome, Ruling
from tests.aids.blobs import QuickVerifier, blob_transaction, quick_blob
from tests.aids.relaying import CHAIN_ID, GWEI, House, item, key

ALL = mask_bytes(ALL_CELLS)
DATA = mask_bytes(DATA_CELLS)


class Offer:
    """A blob transaction in both forms."""

    def __init__(self, *numbers, account=0, nonce=0, price=1, **changes):
        self.numbers = numbers
        fields = {
            "key": key(account), "nonce": nonce, "chain_id": CHAIN_ID,
            "tip": price * GWEI, "fee": 2 * price * GWEI, "blob_fee": price * GWEI,
        }  # fmt: skip
        self.whole = blob_transaction(*numbers, **(fields | changes))
        self.lean = blob_transaction(*numbers, whole=False, **(fields | changes))
        self.hash = decode(self.lean).hash

    def entry(self, session):
        size = len(self.lean) if session.eth.version >= 72 else len(self.whole)
        return self.hash, 3, size

    def item(self, session):
        return wire(self.lean if session.eth.version >= 72 else self.whole)

    def cells(self, mask):
        """Its cells as they stand on the wire."""
        return tuple(
            quick_blob(number).cells[index]
            for index in cell_indices(mask_number(mask))
            for number in self.numbers
        )


class BlobHouse(House):
    def __init__(self, patient=False, **options):
        self.verifier = QuickVerifier(patient=patient)
        super().__init__(verifier=self.verifier, **options)
        self.blobs = self.relay.blobs

    def tell(self, session, *offers, mask=ALL):
        self.announce(session, *(offer.entry(session) for offer in offers), mask=mask)
        self.loop.settle()

    def deliver(self, session, *offers):
        """Answer the request for these."""
        ((request_id, hashes),) = session.requests()
        assert hashes == [offer.hash for offer in offers]
        self.answer(session, request_id, *(offer.item(session) for offer in offers))
        self.loop.settle()

    def bring(self, session, offer):
        """Announce and deliver, with cells where that is asked for."""
        self.tell(session, offer)
        self.deliver(session, offer)
        if session.eth.version >= 72:
            self.give_cells(session, offer)

    def give_cells(self, session, offer, mask=None, cells=None):
        (question,) = session.take(0x14)
        asked = GetCells.decode(question, 72)
        assert asked.hashes == (offer.hash,)
        mask = asked.mask if mask is None else mask
        cells = offer.cells(mask) if cells is None else cells
        answer = Cells(asked.request_id, (offer.hash,), (cells,), mask)
        self.relay.message(session, 0x15, answer.encode(72))
        self.loop.settle()
        return asked.mask

    def has(self, offer):
        return offer.hash in self.relay.pool


def told(session):
    """What a peer was announced: (hash, type, size) and masks."""
    payloads = session.take(0x08)
    messages = [NewPooledTransactionHashes.decode(each, session.eth.version) for each in payloads]
    entries = [entry for each in messages for entry in zip(each.hashes, each.types, each.sizes, strict=True)]
    return entries, [each.mask for each in messages]


def served(house, session, offer):
    house.ask(session, 7, [offer.hash])
    (answer,) = session.take(0x0A)
    request_id, items = split_pooled(answer)
    assert request_id == 7
    return items


def ended(session):
    return session.ended is not None


@pytest.mark.parametrize("version", [68, 69, 70, 71, 72])
def test_it_is_fetched_at_once_verified_and_announced_in_the_form_of_each_version(version):
    house = BlobHouse()
    source = house.join(version=version)
    others = [house.join(version=each) for each in (68, 71, 72)]
    offer = Offer(1, 2)
    house.bring(source, offer)
    assert house.has(offer)
    assert not ended(source)
    assert source.take(0x08) == []  # it has it
    for other in others:
        entries, masks = told(other)
        assert entries == [offer.entry(other)]
        assert masks == [ALL if other.eth.version >= 72 else bytes(16)]
        assert served(house, other, offer) == [offer.item(other)]
        assert other.take(0x02) == []
    assert house.relay.counters.blob_bytes == 2 * 256 * 1024


def test_the_verifier_is_made_ready_once_some_time_after_the_first_peer():
    house = BlobHouse()
    house.relay.start()
    house.loop.advance(100.0)
    assert house.verifier.warmed == 0
    house.join()
    house.loop.advance(28.0)
    house.join()
    assert house.verifier.warmed == 0
    house.loop.advance(4.0)
    assert house.verifier.warmed == 1
    house.loop.advance(100.0)
    assert house.verifier.warmed == 1


def test_nothing_waits_for_a_direct_copy():
    house = BlobHouse()
    source = house.join()
    house.announce(source, Offer(1).entry(source))
    assert len(source.requests()) == 1


def test_the_64_cells_of_the_blob_and_one_more_are_asked_for():
    house = BlobHouse()
    source = house.join(version=72)
    offer = Offer(1, 2, 3)
    house.tell(source, offer)
    house.deliver(source, offer)
    asked = mask_number(house.give_cells(source, offer))
    assert asked & DATA_CELLS == DATA_CELLS
    assert asked.bit_count() == 65
    assert house.has(offer)


def test_who_has_the_blob_only_is_asked_for_that():
    house = BlobHouse()
    source = house.join(version=72)
    offer = Offer(1)
    house.tell(source, offer, mask=DATA)
    house.deliver(source, offer)
    assert house.give_cells(source, offer) == DATA
    assert house.has(offer)


def test_any_64_cells_of_several_peers_are_enough():
    house = BlobHouse()
    offer = Offer(1, 2)
    masks = [mask_bytes(0xFFFF_FFFF << at) for at in (32, 64, 96)]
    peers = [house.join(version=72) for _ in masks]
    for peer, mask in zip(peers, masks, strict=True):
        house.tell(peer, offer, mask=mask)
    house.deliver(peers[0], offer)
    given = 0
    for peer in peers:
        if not house.has(offer):
            given |= mask_number(house.give_cells(peer, offer))
    assert house.has(offer)
    assert given.bit_count() >= 64
    assert served(house, house.join(version=70), offer) == [wire(offer.whole)]


def test_without_enough_cells_it_is_told_to_nobody_until_another_has_more():
    house = BlobHouse()
    source, late, other = (house.join(version=72) for _ in range(3))
    offer = Offer(1)
    house.tell(source, offer, mask=mask_bytes(0xFF))
    house.deliver(source, offer)
    assert source.take(0x14) == []
    assert not house.has(offer)
    assert other.take(0x08) == []
    house.tell(late, offer)
    house.give_cells(late, offer)
    assert house.has(offer)
    assert told(other)[0] == [offer.entry(other)]


def test_without_cells_it_is_fetched_whole_from_an_older_peer():
    house = BlobHouse()
    source, elder = house.join(version=72), house.join(version=70)
    offer = Offer(1)
    house.tell(source, offer, mask=bytes(16))
    house.tell(elder, offer)
    house.deliver(source, offer)
    house.deliver(elder, offer)
    assert house.has(offer)


def test_cells_that_nobody_gives_are_given_up():
    house = BlobHouse()
    source = house.join(version=72)
    offer = Offer(1)
    house.tell(source, offer, mask=mask_bytes(1))
    house.deliver(source, offer)
    house.loop.advance(40)
    assert house.blobs.pending == {}
    assert house.relay.counters.dropped["blob_cells"] == 1
    house.tell(source, offer)  # and may come again
    assert len(source.requests()) == 1


def test_a_silent_peer_is_not_waited_for():
    house = BlobHouse()
    first, second = house.join(version=72), house.join(version=72)
    offer, more = Offer(1), Offer(2, account=1)
    for peer in (first, second):
        house.tell(peer, offer)
    house.deliver(first, offer)
    (question,) = first.take(0x14)
    house.loop.advance(7)
    assert house.relay.counters.cells_timeouts == 1
    house.give_cells(second, offer)
    assert house.has(offer)
    house.tell(first, more)
    house.deliver(first, more)
    assert first.take(0x14) == []  # asked for nothing until it answers
    late = GetCells.decode(question, 72)
    house.relay.message(first, 0x15, Cells(late.request_id, (), (), late.mask).encode(72))
    house.give_cells(first, more)
    assert house.has(more)


def test_a_truncated_answer_counts_for_what_it_brings():
    house = BlobHouse()
    first, second = house.join(version=72), house.join(version=72)
    offer = Offer(1, 2)
    for peer in (first, second):
        house.tell(peer, offer)
    house.deliver(first, offer)
    house.give_cells(first, offer, mask=mask_bytes(0xFFFF))
    asked = mask_number(house.give_cells(second, offer))
    assert asked & 0xFFFF == 0
    assert house.has(offer)


def test_a_peer_that_leaves_is_replaced_by_the_next():
    house = BlobHouse()
    first, second = house.join(version=72), house.join(version=72)
    offer = Offer(1)
    for peer in (first, second):
        house.tell(peer, offer)
    house.deliver(first, offer)
    house.relay.left(first, 8)
    house.give_cells(second, offer)
    assert house.has(offer)


def test_its_bit_may_be_anothers_by_the_time_of_the_verdict():
    house = BlobHouse(patient=True)
    source = house.join(version=71)
    offer = Offer(1)
    house.bring(source, offer)
    bit = house.bit(source)
    house.relay.left(source, 8)
    house.loop.settle()
    newcomer = house.join(version=71)
    assert house.bit(newcomer) == bit
    house.verifier.work()
    assert told(newcomer)[0] == [offer.entry(newcomer)]


# -- what is wrong -----------------------------------------------------------------------------------------


def wrong(offer, **changes):
    return Offer(*offer.numbers, **changes)


WRONG_PROOFS = {"proofs": quick_blob(9).proofs}


@pytest.mark.parametrize("version", [71, 72])
def test_wrong_proofs_end_who_delivered_them(version):
    house = BlobHouse()
    source = house.join(version=version)
    offer = Offer(1, **WRONG_PROOFS)
    house.bring(source, offer)
    assert source.ended[0] == 0x10
    assert not house.has(offer)
    assert house.relay.counters.dropped["blob_proofs"] == 1


def test_wrong_proofs_of_one_do_not_keep_the_transaction_out():
    house = BlobHouse()
    liar, honest = house.join(version=71), house.join(version=71)
    right, spoiled = Offer(1), Offer(1, **WRONG_PROOFS)
    assert right.hash == spoiled.hash
    for peer in (liar, honest):
        house.tell(peer, right)
    ((request_id, _),) = liar.requests()
    house.answer(liar, request_id, wire(spoiled.whole))
    house.loop.settle()
    assert ended(liar)
    house.deliver(honest, right)
    assert house.has(right)
    assert not ended(honest)


def test_wrong_cells_end_who_gave_them_and_are_asked_of_another():
    house = BlobHouse()
    source, honest = house.join(version=72), house.join(version=72)
    offer = Offer(1)
    for peer in (source, honest):
        house.tell(peer, offer)
    house.deliver(source, offer)
    mask = mask_bytes(DATA_CELLS)
    cells = offer.cells(mask)
    house.give_cells(source, offer, mask, (bytes(2048), *cells[1:]))
    assert source.ended[0] == 0x10
    house.give_cells(honest, offer)
    assert house.has(offer)
    assert not ended(honest)


def test_who_gave_right_cells_for_wrong_proofs_stays():
    house = BlobHouse()
    liar, honest = house.join(version=72), house.join(version=72)
    right, spoiled = Offer(1), Offer(1, **WRONG_PROOFS)
    house.tell(liar, right, mask=bytes(16))
    house.tell(honest, right)
    ((request_id, _),) = liar.requests()
    house.answer(liar, request_id, wire(spoiled.lean))
    house.loop.settle()
    house.give_cells(honest, right)
    assert ended(liar)
    assert not ended(honest)


def test_the_older_wrapper_ends_its_sender():
    house = BlobHouse()
    source = house.join(version=71)
    fields = {"key": key(0), "chain_id": CHAIN_ID, "nonce": 0}
    old = blob_transaction(1, version=None, **fields)
    house.announce(source, (decode(old).hash, 3, len(old)))
    ((request_id, _),) = source.requests()
    house.answer(source, request_id, wire(old))
    house.loop.settle()
    assert source.ended[0] == 0x10
    assert "sidecar version" in source.ended[1]


@pytest.mark.parametrize("off", [9, -9, 100_000])
@pytest.mark.parametrize("version", [71, 72])
def test_a_wrong_size_ends_its_announcer(version, off):
    house = BlobHouse()
    source = house.join(version=version)
    offer = Offer(1)
    tx_hash, kind, size = offer.entry(source)
    house.announce(source, (tx_hash, kind, size + off), mask=ALL)
    house.deliver(source, offer)
    assert ended(source)


@pytest.mark.parametrize("version", [71, 72])
def test_the_size_of_the_other_form_is_wrong(version):
    house = BlobHouse()
    source = house.join(version=version)
    offer = Offer(1)
    other = len(offer.whole) if version == 72 else len(offer.lean)
    house.announce(source, (offer.hash, 3, other), mask=ALL)
    house.deliver(source, offer)
    assert ended(source)


def test_pushed_blob_transactions_end_the_peer():
    house = BlobHouse()
    source = house.join(version=71)
    house.push(source, wire(Offer(1).whole))
    house.loop.settle()
    assert source.ended[0] == 0x10


def test_cells_are_no_part_of_older_versions():
    house = BlobHouse()
    peer = house.join(version=71)
    for code, message in (
        (0x14, GetCells(1, (bytes(32),), ALL)),
        (0x15, Cells(1, (), (), ALL)),
    ):
        with pytest.raises(SubprotocolError):
            house.relay.message(peer, code, message.encode(72))


def test_cells_that_nobody_asked_for_end_the_peer():
    house = BlobHouse()
    peer = house.join(version=72)
    with pytest.raises(SubprotocolError, match="unsolicited"):
        house.relay.message(peer, 0x15, Cells(1, (), (), ALL).encode(72))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer, offer: Cells(answer.request_id + 1, *answer_rest(answer)),
        lambda answer, offer: Cells(answer.request_id, (bytes(32),), answer.cells, answer.mask),
        lambda answer, offer: Cells(answer.request_id, answer.hashes, (answer.cells[0][1:],), answer.mask),
        lambda answer, offer: Cells(answer.request_id, answer.hashes, (offer.cells(ALL),), ALL),
        lambda answer, offer: Cells(answer.request_id, answer.hashes, answer.cells, bytes(16)),
        lambda answer, offer: Cells(answer.request_id, answer.hashes * 2, answer.cells * 2, answer.mask),
        lambda answer, offer: Cells(answer.request_id, answer.hashes, (), answer.mask),
    ],
    ids=["id", "hash", "count", "unasked", "no mask", "twice", "no cells"],
)
def test_cells_of_another_question_end_the_peer(spoil):
    house = BlobHouse()
    source = house.join(version=72)
    offer = Offer(1, 2)
    house.tell(source, offer)
    house.deliver(source, offer)
    asked = GetCells.decode(source.take(0x14)[0], 72)
    answer = Cells(asked.request_id, (offer.hash,), (offer.cells(asked.mask),), asked.mask)
    with pytest.raises(SubprotocolError):
        house.relay.message(source, 0x15, spoil(answer, offer).encode(72))


def answer_rest(answer):
    return answer.hashes, answer.cells, answer.mask


@pytest.mark.parametrize("code", [0x14, 0x15])
@pytest.mark.parametrize("payload", [b"", b"\xc0", b"\xc4\x01\xc0\xc0\x80", b"\xff" * 40])
def test_malformed_cells_are_a_breach(code, payload):
    house = BlobHouse()
    peer = house.join(version=72)
    with pytest.raises(PeerError):
        house.relay.message(peer, code, payload)


@given(st.sampled_from([0x08, 0x0A, 0x14, 0x15]), st.binary(max_size=80), st.data())
def test_hostile_bytes_end_in_a_peer_error_or_nothing(code, noise, data):
    house = BlobHouse()
    peer = house.join(version=72)
    offer = Offer(1)
    house.tell(peer, offer)
    house.deliver(peer, offer)
    asked = GetCells.decode(peer.take(0x14)[0], 72)
    payload = bytearray(
        Cells(asked.request_id, (offer.hash,), (offer.cells(asked.mask),), asked.mask).encode(72)
    )
    if code != 0x15 or data.draw(st.booleans()):
        payload = bytearray(noise)
    elif noise:
        at = data.draw(st.integers(0, 60))
        payload[at : at + len(noise)] = noise
    with suppress(PeerError):
        house.relay.message(peer, code, bytes(payload))
    house.loop.settle()


# -- bounds ------------------------------------------------------------------------------------------------


def test_blobs_stay_within_their_budget_and_the_cheapest_go():
    house = BlobHouse(blobs=BlobOptions(pool_bytes=3 * 256 * 1024))
    source, other = house.join(version=71), house.join(version=72)
    offers = [Offer(n, account=n, price=price) for n, price in enumerate((5, 9, 7, 8), 1)]
    for offer in offers:
        house.bring(source, offer)
        assert house.relay.counters.blob_bytes <= 3 * 256 * 1024
    assert [house.has(offer) for offer in offers] == [False, True, True, True]
    assert len(house.blobs.store) == 3
    assert served(house, other, offers[0]) == []
    cheap = Offer(5, account=5, price=1)
    house.bring(source, cheap)
    assert not house.has(cheap)
    assert house.relay.counters.dropped["underpriced"] == 1
    house.tell(other, cheap)
    assert other.requests() == []  # not fetched again


def test_what_leaves_the_pool_takes_its_blobs_along():
    house = BlobHouse(lifetime=60.0)
    offer = Offer(1)
    house.bring(house.join(version=71), offer)
    house.loop.advance(70)
    assert not house.has(offer)
    assert len(house.blobs.store) == house.relay.counters.blob_bytes == 0


def test_a_replacement_has_to_double_all_three_prices():
    house = BlobHouse()
    source = house.join(version=71)
    first = Offer(1, price=10)
    house.bring(source, first)
    for short in ("tip", "fee", "blob_fee"):
        prices = {"tip": 20 * GWEI, "fee": 40 * GWEI, "blob_fee": 20 * GWEI}
        prices[short] -= 1
        rival = Offer(2, **prices)
        house.bring(source, rival)
        assert not house.has(rival)
    assert house.relay.counters.dropped["replacement_underpriced"] == 3
    assert len(house.verifier.seen) == 4  # with room each is judged: who lies is found out
    house.blobs._cost = house.blobs._options.queue_bytes * 3 // 4
    house.bring(source, Offer(2, price=11))
    assert house.relay.counters.dropped["replacement_underpriced"] == 4
    assert len(house.verifier.seen) == 4  # with little, it is refused before the work
    house.blobs._cost = 0
    rival = Offer(2, price=20)
    house.bring(source, rival)
    assert house.has(rival)
    assert not house.has(first)
    assert len(house.blobs.store) == 1


def test_a_sender_has_sixteen_at_most():
    house = BlobHouse()
    source = house.join(version=71)
    for nonce in range(17):
        house.bring(source, Offer(1, nonce=nonce))
    assert len(house.blobs.store) == 16
    assert house.relay.counters.dropped["account_limit"] == 1


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        (BlobOptions(queue_count=2), 2),
        (BlobOptions(queue_bytes=500_000), 3),
        (BlobOptions(per_peer=1), 1),
    ],
    ids=["count", "bytes", "peer"],
)
def test_what_waits_for_the_verdict_is_bounded(options, taken):
    house = BlobHouse(patient=True, blobs=options)
    source = house.join(version=71)
    offers = [Offer(n, account=n) for n in range(1, 6)]
    for offer in offers:
        house.bring(source, offer)
    assert len(house.blobs.pending) == taken
    assert house.relay.counters.dropped["blob_queue"] == 5 - taken
    house.verifier.work()
    assert sum(map(house.has, offers)) == taken
    assert not ended(source)
    house.bring(source, offers[-1])  # not remembered as refused
    house.verifier.work()
    assert house.has(offers[-1])


def test_a_verifier_that_breaks_down_blames_nobody():
    house = BlobHouse(patient=True)
    source = house.join(version=71)
    offer = Offer(1)
    house.bring(source, offer)
    house.verifier.break_down()
    assert house.blobs.pending == {}
    assert not ended(source)
    house.bring(source, offer)
    house.verifier.work()
    assert house.has(offer)


def test_it_is_fetched_and_verified_once_though_many_announce_it():
    house = BlobHouse(patient=True)
    peers = [house.join(version=71) for _ in range(4)]
    offer = Offer(1)
    house.bring(peers[0], offer)
    for peer in peers[1:]:
        house.tell(peer, offer)
        assert peer.requests() == []
    house.verifier.work()
    assert len(house.verifier.seen) == 1
    assert all(peer.take(0x08) == [] for peer in peers)  # all have it


# -- cells given -------------------------------------------------------------------------------------------


def cells_of(house, peer, *hashes, mask):
    house.relay.message(peer, 0x14, GetCells(5, hashes, mask).encode(72))
    (answer,) = peer.take(0x15)
    return Cells.decode(answer, 72)


def test_cells_are_given_by_index_then_by_blob():
    house = BlobHouse()
    offer = Offer(1, 2, 3)
    house.bring(house.join(version=70), offer)
    peer = house.join(version=72)
    for mask in (DATA, ALL, mask_bytes(1 << 127 | 1 << 64 | 1), mask_bytes(1 << 63)):
        answer = cells_of(house, peer, bytes(32), offer.hash, mask=mask)
        assert answer == Cells(5, (offer.hash,), (offer.cells(mask),), mask)


def test_no_cells_are_given_of_what_is_not_held_or_without_a_mask():
    house = BlobHouse()
    offer = Offer(1)
    house.bring(house.join(version=70), offer)
    peer = house.join(version=72)
    assert cells_of(house, peer, bytes(32), mask=ALL) == Cells(5, (), (), ALL)
    assert cells_of(house, peer, offer.hash, mask=bytes(16)) == Cells(5, (), (), bytes(16))


def test_an_answer_with_cells_is_bounded():
    options = BlobOptions(answer_bytes=256 * 1024, answer_hashes=4)
    house = BlobHouse(blobs=options)
    offers = [Offer(n, account=n) for n in range(1, 5)]
    source, peer = house.join(version=70), house.join(version=72)
    for offer in offers:
        house.bring(source, offer)
    hashes = [offer.hash for offer in offers]
    assert cells_of(house, peer, *hashes, mask=DATA).hashes == tuple(hashes[:2])
    assert cells_of(house, peer, *[bytes(32)] * 4, hashes[0], mask=DATA).hashes == ()
    assert cells_of(house, peer, hashes[0], hashes[0], mask=DATA).hashes == (hashes[0],)


# -- our own users, and a node that rules ------------------------------------------------------------------


def test_ours_goes_out_once_it_is_verified():
    house = BlobHouse(patient=True, own_listen_seconds=0.0)
    peers = [house.join(version=each) for each in (69, 72)]
    offer = Offer(1)
    assert house.relay.submit(offer.whole) == offer.hash
    assert all(peer.take(0x08) == [] for peer in peers)
    with pytest.raises(InvalidTransaction, match="already known"):
        house.relay.submit(offer.whole)
    house.verifier.work()
    house.loop.settle()
    for peer in peers:
        assert told(peer)[0] == [offer.entry(peer)]
    assert house.relay.counters.submitted == 1
    assert offer.hash in house.relay.own
    with pytest.raises(InvalidTransaction, match="already known"):
        house.relay.submit(offer.whole)


def test_ours_is_refused_when_it_is_lean_or_of_no_use():
    house = BlobHouse(patient=True, blobs=BlobOptions(queue_count=1))
    with pytest.raises(InvalidTransaction, match="missing blobs"):
        house.relay.submit(Offer(1).lean)
    with pytest.raises(InvalidTransaction, match=r"blob count|transaction size"):
        house.relay.submit(Offer(1, 2, 3, 4, 5, 6, 7).whole)
    house.relay.submit(Offer(1, account=1).whole)
    with pytest.raises(InvalidTransaction, match="too many"):
        house.relay.submit(Offer(1, account=2).whole)


def test_ours_with_wrong_proofs_goes_nowhere():
    house = BlobHouse()
    offer = Offer(1, **WRONG_PROOFS)
    assert house.relay.submit(offer.whole) == offer.hash
    assert not house.has(offer)
    assert house.relay.submit(Offer(1).whole) == offer.hash  # the right ones come after
    assert house.has(offer)


def test_a_node_rules_on_the_whole_transaction():
    house = BlobHouse()
    asked = []
    house.relay.judge_by(lambda raws, done: asked.append((list(raws), done)))
    source, other = house.join(version=72), house.join(version=72)
    good, bad, silent = Offer(1), Offer(2, account=2), Offer(3, account=3)
    for offer, outcome in ((good, Outcome.GOOD), (bad, Outcome.BAD), (silent, Outcome.UNKNOWN)):
        house.bring(source, offer)
        assert not house.has(offer)
        raws, done = asked.pop()
        assert raws == [offer.whole]
        done([Ruling(outcome)])
        house.loop.settle()
    assert [house.has(offer) for offer in (good, bad, silent)] == [True, False, False]
    assert told(other)[0] == [good.entry(other)]
    assert house.blobs.pending == {}


def test_blobs_travel_along_with_others_in_one_announcement():
    house = BlobHouse()
    offer = Offer(1)
    source = house.join(version=71)
    house.bring(source, offer)
    house.push(source, item(account=3))
    house.loop.settle()
    late = house.join(version=72)
    house.loop.advance(1)
    entries, masks = told(late)
    assert {entry[:2] for entry in entries} >= {(offer.hash, 3)}
    assert len(entries) == 2
    assert masks == [ALL]


def test_without_a_verifier_blob_transactions_are_not_asked_for():
    house = House()
    for version in (71, 72):
        peer = house.join(version=version)
        house.announce(peer, Offer(1).entry(peer), mask=ALL)
        assert peer.requests() == []
    with pytest.raises(InvalidTransaction, match="not supported"):
        house.relay.submit(Offer(1).whole)
    with pytest.raises((SubprotocolError, ProtocolBreach)):
        house.relay.message(peer, 0x15, Cells(1, (), (), ALL).encode(72))
