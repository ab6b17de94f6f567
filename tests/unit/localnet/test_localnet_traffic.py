from __future__ import annotations

from relay.localnet.traffic import Ledger

A, B = b"a" * 32, b"b" * 32


def ledger() -> Ledger:
    return Ledger(frozenset({2, 3}), patience=30.0)


def test_transaction_has_arrived_when_every_receiver_told_of_it():
    book = ledger()
    book.submit(A, 10.0)
    assert book.accept(A) is None
    assert book.arrive(2, A, 10.05) is None
    done = book.arrive(3, A, 10.2)
    assert done is not None
    assert {number: round(seconds, 3) for number, seconds in done.latencies.items()} == {2: 0.05, 3: 0.2}
    assert (book.sent, book.arrived, book.overdue, book.waiting, book.first_arrival) == (1, 1, 0, {}, 10.2)


def test_receiver_may_be_faster_than_the_answer_of_relay_1():
    book = ledger()
    book.submit(A, 1.0)
    assert book.arrive(2, A, 1.01) is None
    assert book.arrive(3, A, 1.02) is None
    assert book.sent == 0
    assert book.accept(A) is not None
    assert (book.sent, book.arrived) == (1, 1)


def test_what_is_told_twice_or_by_others_or_of_others_does_not_count():
    book = ledger()
    book.submit(A, 1.0)
    book.accept(A)
    book.arrive(2, A, 1.1)
    assert book.arrive(2, A, 1.2) is None
    assert book.arrive(1, A, 1.2) is None
    assert book.arrive(3, B, 1.2) is None
    assert book.arrived == 0


def test_late_transaction_is_given_up_on_and_its_arrival_changes_nothing_then():
    book = ledger()
    for tx_hash, at in ((A, 0.0), (B, 20.0)):
        book.submit(tx_hash, at)
        book.accept(tx_hash)
    book.arrive(2, A, 0.5)
    assert book.expire(29.9) == []
    (late,) = book.expire(30.0)
    assert (late.hash, late.overdue, set(late.latencies)) == (A, True, {2})
    assert book.arrive(3, A, 30.1) is None
    assert (book.overdue, list(book.waiting)) == (1, [B])


def test_answer_that_comes_after_the_deadline_is_still_a_sent_transaction():
    book = ledger()
    book.submit(A, 0.0)
    book.expire(31.0)
    assert book.accept(A) is None
    assert (book.sent, book.arrived, book.overdue) == (1, 0, 1)


def test_latencies_are_counted_for_each_receiver():
    book = ledger()
    book.submit(A, 0.0)
    book.accept(A)
    book.arrive(2, A, 0.010)
    book.arrive(3, A, 0.030)
    assert round(book.latency_ms(50) or 0, 3) == 10.0
    assert round(book.latency_ms(99) or 0, 3) == 30.0
    assert ledger().latency_ms(50) is None


def test_rate_is_of_the_last_seconds():
    book = ledger()
    for number in range(50):
        tx_hash = number.to_bytes(32, "big")
        book.submit(tx_hash, number / 10)
        book.accept(tx_hash)
        book.arrive(2, tx_hash, number / 10)
        book.arrive(3, tx_hash, number / 10)
    assert book.rate(4.9) == 10.0
    assert book.rate(20.0) == 0.0
