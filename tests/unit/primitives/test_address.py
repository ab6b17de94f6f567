from __future__ import annotations

import pytest

from relay.primitives.address import TcpAddress, UnixAddress, parse_address, parse_ip
from relay.primitives.errors import DecodeError, UsageError


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("127.0.0.1:9050", TcpAddress("127.0.0.1", 9050), "127.0.0.1:9050"),
        ("localhost:9050", TcpAddress("127.0.0.1", 9050), "127.0.0.1:9050"),
        ("[::1]:9050", TcpAddress("::1", 9050), "[::1]:9050"),
        ("[0:0::1]:0", TcpAddress("::1", 0), "[::1]:0"),
        ("unix:/run/tor/socks", UnixAddress("/run/tor/socks"), "unix:/run/tor/socks"),
        ("unix:/run//tor/", UnixAddress("/run/tor"), "unix:/run/tor"),
    ],
)
def test_address_is_read_and_shown(text: str, address: object, shown: str) -> None:
    assert parse_address(text) == address
    assert str(parse_address(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9050",
        ":9050",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1: 1",
        "127.1:9050",
        "tor.example:9050",
        "[fe80::1%eth0]:9050",
        "unix:",
        "unix:relative/path",
        "unix:/" + "x" * 107,
        "unix:/a\0b",
    ],
)
def test_bad_address_is_a_usage_error_that_shows_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert repr(text)[1:5].strip("'") in str(caught.value) or text.startswith("unix:")


def test_a_proxy_name_is_never_looked_up() -> None:
    with pytest.raises(DecodeError, match="not looked up"):
        parse_ip("tor.example")


def test_addresses_know_whether_they_are_local_or_open_to_all() -> None:
    assert parse_address("127.0.0.9:1").is_local
    assert parse_address("[::1]:1").is_local
    assert parse_address("unix:/x").is_local
    assert not parse_address("10.0.0.1:1").is_local
    assert parse_address("0.0.0.0:1").is_wildcard
    assert parse_address("[::]:1").is_wildcard
    assert not parse_address("127.0.0.1:1").is_wildcard
    assert not parse_address("unix:/x").is_wildcard
