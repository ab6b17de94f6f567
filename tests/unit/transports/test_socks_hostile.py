"""A SOCKS proxy that says anything, in any pieces: a ProxyFailed, a broken socket, or success; no fourth."""

import asyncio
import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import ProxyFailed
from relay.primitives.onion import OnionKey
from relay.transports.socks5 import Credentials, SocksHandshake
from relay.transports.socks_dialer import exchange

ONION = OnionKey.from_seed(bytes(32)).address
SERVICE = Endpoint(Network.ONION, ONION, 30303)
HONEST = (b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x01" + bytes(6))
PIECES = [
    *HONEST, b"\x05", b"\x05\x00", b"\x05\xff", b"\x01\x01", b"\x05\x00\x00\x03\xff", b"\x05\xf4\x00\x04",
    b"\x05\x00\x00\x09", b"\x04\x5a", b"HTTP/1.1 200 OK\r\n", b"514 Authentication required.\r\n", bytes(300),
]  # fmt: skip


async def told(said: bytes) -> bytes:
    """What is left in the socket for the destination, after a proxy that says this and hangs up."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        await exchange(ours, SocksHandshake(SERVICE, Credentials(b"user", b"word")), 5.0)
        return ours.recv(1 << 16)


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=12)), max_size=8))
def test_whatever_a_proxy_says_ends_the_dial_or_succeeds(pieces):
    with suppress(ProxyFailed):
        asyncio.run(told(b"".join(pieces)))


@pytest.mark.parametrize("size", range(len(b"".join(HONEST))))
async def test_answer_that_is_too_short_is_a_proxy_that_hung_up(size):
    with pytest.raises(ProxyFailed, match="closed the connection before its answer"):
        await told(b"".join(HONEST)[:size])


@pytest.mark.parametrize(
    ("reply", "rest"),
    [
        (b"\x05\x00\x00\x01" + bytes(6), b"first words"),
        (b"\x05\x00\x00\x04" + bytes(18), b"first words"),
        (b"\x05\x00\x00\x03\xff" + bytes(255 + 2), b"first words"),
        (b"\x05\x00\x00\x03\x00" + bytes(2), b""),
    ],
)
async def test_length_that_the_proxy_claims_is_what_is_taken_and_no_byte_more(reply, rest):
    assert await told(b"".join(HONEST[:2]) + reply + rest) == rest


async def test_proxy_that_never_ends_its_words_is_not_read_beyond_the_reply():
    with pytest.raises(ProxyFailed):
        await told(b"\x05\x02\x01\x00" + b"\x09" * 65_536)
