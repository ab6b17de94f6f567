from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.endpoint import Endpoint
from relay.primitives.errors import ProxyFailed, Retry
from relay.transports.socks5 import REPLIES, Credentials, SocksHandshake
from tests.unit.transports.conftest import ONION

CREDENTIALS = Credentials(b"user", b"peer-1")
ACCEPTED = b"\x05\x02" + b"\x01\x00" + b"\x05\x00\x00\x01" + bytes(6)


def handshake(host: str = ONION, port: int = 30303) -> SocksHandshake:
    return SocksHandshake(Endpoint.parse(host, port), CREDENTIALS)


def feed(machine: SocksHandshake, *parts: bytes) -> bytes:
    """Hand the parts over; returns what the machine wrote, beginning with its greeting."""
    written = machine.take_output()
    for part in parts:
        assert machine.receive(part) == b""
        written += machine.take_output()
    return written


def test_client_offers_only_the_password_method() -> None:
    assert handshake().take_output() == b"\x05\x01\x02"
    assert handshake().wanted == 2


def test_client_without_credentials_offers_none() -> None:
    machine = SocksHandshake(Endpoint.parse("8.8.8.8", 53))
    assert feed(machine, b"\x05\x00") == b"\x05\x01\x00" + b"\x05\x01\x00\x01\x08\x08\x08\x08\x00\x35"


@pytest.mark.parametrize(
    ("host", "encoded"),
    [
        (ONION, b"\x03\x3e" + ONION.encode()),
        (ONION.upper(), b"\x03\x3e" + ONION.encode()),
        ("Node.Example", b"\x03\x0cnode.example"),
        ("8.8.4.4", b"\x01\x08\x08\x04\x04"),
        ("2001:4860::1", b"\x04" + bytes.fromhex("20014860000000000000000000000001")),
    ],
)
def test_address_type_follows_the_host(host: str, encoded: bytes) -> None:
    written = feed(handshake(host), b"\x05\x02", b"\x01\x00")
    assert written == b"\x05\x01\x02" + b"\x01\x04user\x06peer-1" + b"\x05\x01\x00" + encoded + b"\x76\x5f"


@pytest.mark.parametrize(
    "bound", [b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\x00", b"\x03\x01n", b"\x03\xff" + bytes(255)]
)
def test_every_form_of_a_bound_address_ends_the_handshake(bound: bytes) -> None:
    machine = handshake()
    feed(machine, b"\x05\x02", b"\x01\x00", b"\x05\x00\x00" + bound + b"\x00\x00")
    assert machine.done
    assert machine.wanted == 0


def test_bytes_of_the_destination_come_back_untouched() -> None:
    machine = handshake()
    assert machine.receive(ACCEPTED + b"hello") == b"hello"
    assert machine.receive(b"again") == b"again"


def test_output_is_given_once() -> None:
    machine = handshake()
    machine.take_output()
    assert machine.take_output() == b""


@given(cuts=st.lists(st.integers(0, 20), max_size=12), surplus=st.binary(max_size=20))
def test_an_answer_in_any_pieces_means_the_same(cuts: list[int], surplus: bytes) -> None:
    machine = handshake()
    data, rest = ACCEPTED + surplus, b""
    for cut in cuts:
        rest += machine.receive(data[:cut])
        data = data[cut:]
    rest += machine.receive(data)
    assert machine.done
    assert rest == surplus
    assert machine.take_output() == b"".join(
        (b"\x05\x01\x02", b"\x01\x04user\x06peer-1", b"\x05\x01\x00\x03\x3e", ONION.encode(), b"\x76\x5f")
    )


@given(cuts=st.lists(st.integers(1, 9)), host=st.sampled_from([ONION, "8.8.8.8", "name.example"]))
def test_reading_no_more_than_wanted_never_eats_the_destinations_bytes(cuts: list[int], host: str) -> None:
    machine, data = handshake(host), ACCEPTED + b"destination"
    while not machine.done:
        take = min(machine.wanted, cuts.pop() if cuts else 99)
        assert take > 0
        assert machine.receive(data[:take]) == b""
        data = data[take:]
    assert data == b"destination"


@given(parts=st.lists(st.binary(max_size=24), max_size=12), prefix=st.sampled_from([0, 2, 4, 6, 9]))
def test_any_bytes_end_in_success_more_reading_or_proxy_failed(parts: list[bytes], prefix: int) -> None:
    machine = handshake()
    machine.receive(ACCEPTED[:prefix])
    with suppress(ProxyFailed):
        for part in parts:
            machine.receive(part)
            assert machine.done == (machine.wanted == 0)
            assert 0 <= machine.wanted <= 257


@pytest.mark.parametrize("code", sorted(REPLIES))
def test_every_reply_code_has_words_and_its_retry_class(code: int) -> None:
    machine = handshake()
    with pytest.raises(ProxyFailed, match=rf"the proxy says: .* \(0x{code:02X}\)$") as caught:
        machine.receive(b"\x05\x02\x01\x00\x05" + bytes((code,)))
    assert caught.value.code == code
    assert caught.value.retry is REPLIES[code].retry


def test_extended_errors_have_the_retry_classes_of_the_requirements() -> None:
    classes = {code: REPLIES[code].retry for code in range(0xF0, 0xF8)}
    assert classes == {
        0xF0: Retry.LONG,
        0xF1: Retry.NEVER,
        0xF2: Retry.LONG,
        0xF3: Retry.SHORT,
        0xF4: Retry.NEVER,
        0xF5: Retry.NEVER,
        0xF6: Retry.NEVER,
        0xF7: Retry.SHORT,
    }


def test_missing_descriptor_is_told_in_words() -> None:
    with pytest.raises(ProxyFailed, match=r"^the proxy says: the onion service can not be found \(0xF0\)$"):
        handshake().receive(b"\x05\x02\x01\x00\x05\xf0")


def test_unknown_reply_code_is_worth_another_try() -> None:
    with pytest.raises(ProxyFailed, match="0x77") as caught:
        handshake().receive(b"\x05\x02\x01\x00\x05\x77")
    assert (caught.value.code, caught.value.retry) == (0x77, Retry.SHORT)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "answers in HTTP"),
        (b"514 Authentication required.\r\n", "control port"),
        (b"\x00\x5b" + bytes(6), "SOCKS4"),
        (b"\x16\x03", "does not speak SOCKS5"),
        (b"\x05\xff", "does not take user name and password"),
        (b"\x05\x00", "method 0x00, which was not offered"),
        (b"\x05\x02\x05\x00", "garbage in place of an answer to the password"),
        (b"\x05\x02\x01\x01", "refuses our user name and password"),
        (b"\x05\x02\x01\x00\x04\x5a", "garbage in place of a SOCKS5 reply"),
        (b"\x05\x02\x01\x00\x05\x00\x00\x09\x00", "unknown type 0x09"),
    ],
)
def test_what_is_no_usable_proxy_is_named_with_a_remedy(answer: bytes, words: str) -> None:
    with pytest.raises(ProxyFailed) as caught:
        handshake().receive(answer)
    assert words in str(caught.value)
    assert "--tor-proxy" in str(caught.value)
    assert caught.value.code == 0


def test_proxy_that_wants_a_password_is_named() -> None:
    with pytest.raises(ProxyFailed, match="wants a password"):
        SocksHandshake(Endpoint.parse("8.8.8.8", 53)).receive(b"\x05\xff")


def test_credentials_are_not_shown() -> None:
    assert "user" not in repr(CREDENTIALS)
    assert "peer" not in repr(CREDENTIALS)
