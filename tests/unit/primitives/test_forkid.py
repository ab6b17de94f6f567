import pytest

from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.forkid import ForkId
from tests.aids import vectors


@pytest.mark.parametrize(("digest", "following", "encoded"), vectors.load("forkid/encoding.json")["cases"])
def test_encoding(digest, following, encoded):
    fork_id = ForkId(bytes.fromhex(digest), following)

    assert rlp.encode(fork_id.to_item()).hex() == encoded
    assert ForkId.from_item(rlp.decode(bytes.fromhex(encoded))) == fork_id


@pytest.mark.parametrize(
    "item",
    [
        b"",
        [],
        [b"abcd"],
        [b"abcd", b"", b""],
        [b"abc", b""],
        [b"abcd", b"\x00"],
        [b"abcd", b"x" * 9],
        [[], b""],
        [b"abcd", []],
    ],
)
def test_what_is_no_fork_id_is_refused(item):
    with pytest.raises(DecodeError):
        ForkId.from_item(item)


def test_hash_has_four_bytes():
    with pytest.raises(DecodeError):
        ForkId(b"abc", 0)
    assert str(ForkId(b"\x07\xc9\x46\x2e", 5)) == "07c9462e/5"
