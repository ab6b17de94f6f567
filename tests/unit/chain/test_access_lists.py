import pytest

from relay.chain.access_lists import check_access_list
from relay.chain.genesis import EMPTY_LIST_HASH
from relay.chain.headers import ContradictsHeader
from relay.primitives.hashing import keccak256
from tests.aids.chain_headers import made_header


def header(access_list_hash):
    return made_header(5, withdrawals=b"w" * 32, access_list=access_list_hash)


def test_the_list_that_the_header_names_is_its_own():
    raw = b"\xc3\x01\x02\x03"
    check_access_list(header(keccak256(raw)), raw)
    check_access_list(header(EMPTY_LIST_HASH), b"\xc0")


@pytest.mark.parametrize("raw", [b"\xc3\x01\x02\x04", b"\x80", b""])
def test_another_list_or_none_contradicts(raw):
    with pytest.raises(ContradictsHeader):
        check_access_list(header(keccak256(b"\xc3\x01\x02\x03")), raw)


def test_a_header_before_amsterdam_has_no_list():
    with pytest.raises(ContradictsHeader, match="no block access list"):
        check_access_list(made_header(5), b"\xc0")
