from relay.primitives.hashing import Keccak256, keccak256

EMPTY = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"  # keccak256 of nothing


def test_keccak_is_not_sha3():
    assert keccak256(b"").hex() == EMPTY


def test_running_hash_can_be_read_and_go_on():
    running = Keccak256(b"ab")
    before = running.digest()
    running.update(b"c")

    assert before == keccak256(b"ab")
    assert running.digest() == keccak256(b"abc")
    assert running.copy().digest() == running.digest()
