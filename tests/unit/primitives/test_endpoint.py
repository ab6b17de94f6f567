import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.endpoint import Endpoint, Network, parse_host, parse_port
from relay.primitives.errors import DecodeError

ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"


@pytest.mark.parametrize(
    ("host", "network", "canonical"),
    [
        ("127.0.0.1", Network.IPV4, "127.0.0.1"),
        ("2001:DB8::0:1", Network.IPV6, "2001:db8::1"),
        ("::ffff:10.0.0.1", Network.IPV4, "10.0.0.1"),
        (ONION, Network.ONION, ONION),
        (ONION.upper(), Network.ONION, ONION),
        (ONION + ".", Network.ONION, ONION),
        ("Node.Example.org", Network.DNS, "node.example.org"),
        ("valid.", Network.DNS, "valid."),
        ("a_b-c.x1", Network.DNS, "a_b-c.x1"),
        ("3com", Network.DNS, "3com"),
    ],
)
def test_hosts_are_classified_and_brought_to_one_form(host, network, canonical):
    endpoint = Endpoint.parse(host, 30303)

    assert (endpoint.network, endpoint.host) == (network, canonical)
    assert Endpoint.parse(canonical, 30303) == endpoint


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "a..b",
        "-a.b",
        "a-.b",
        "a b",
        "a/b",
        "user@host",
        "host\x00",
        "host\n",
        "[::1]",
        "fe80::1%eth0",
        "1.2.3.4%1",
        "\u212aelvin",  # the Kelvin sign, a "k" in lower case
        "münchen.de",
        "a" * 64,
        ".".join(["abcdefg"] * 32),
    ],
)
def test_what_is_no_host_is_refused(host):
    with pytest.raises(DecodeError):
        parse_host(host)


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f.1", "0x7f000001", "1.2.3.4.5", "256.1.1.1", "0x"]
)
def test_names_that_a_resolver_would_take_for_a_number_are_refused(host):
    with pytest.raises(DecodeError):
        parse_host(host)


@pytest.mark.parametrize(
    "host", ["short.onion", "www." + ONION, ONION.replace("v", "w", 1), "a.ONION.", ".onion"]
)
def test_bad_onion_names_never_become_names_to_resolve(host):
    with pytest.raises(DecodeError):
        parse_host(host)


def test_ports():
    assert [parse_port(text) for text in ("0", "30303", "65535", "00080")] == [0, 30303, 65535, 80]
    for text in ("", "65536", "-1", "+1", " 1", "1 ", "1e3", "0x10", "٣", "²", "9" * 5000):
        with pytest.raises(DecodeError):
            parse_port(text)
    for port in (-1, 65536):
        with pytest.raises(DecodeError):
            Endpoint.parse("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "loopback", "private"),
    [
        ("127.0.0.1", True, True),
        ("127.255.0.3", True, True),
        ("::1", True, True),
        ("::ffff:127.0.0.1", True, True),
        ("64:ff9b::7f00:1", True, True),
        ("2002:7f00:1::", True, True),
        ("localhost", True, True),
        ("LOCALHOST.", True, True),
        ("db.localhost", True, True),
        ("10.1.2.3", False, True),
        ("172.16.0.1", False, True),
        ("192.168.0.1", False, True),
        ("169.254.1.1", False, True),
        ("100.64.0.1", False, True),
        ("0.0.0.0", False, True),
        ("::", False, True),
        ("224.0.0.1", False, True),
        ("fd00::1", False, True),
        ("fe80::1", False, True),
        ("2002:c0a8:1::", False, True),
        ("8.8.8.8", False, False),
        ("2a00:1450:4001::1", False, False),
        ("64:ff9b::808:808", False, False),
        ("notlocalhost", False, False),
        (ONION, False, False),
    ],
)
def test_addresses_that_must_not_be_dialed_for_others_are_known(host, loopback, private):
    endpoint = Endpoint.parse(host, 1)

    assert (endpoint.is_loopback, endpoint.is_private) == (loopback, private)


def test_text_form_has_brackets_for_ipv6_only():
    assert str(Endpoint.parse("::1", 80)) == "[::1]:80"
    assert str(Endpoint.parse("1.2.3.4", 80)) == "1.2.3.4:80"
    assert str(Endpoint.parse(ONION, 80)) == f"{ONION}:80"


@given(st.text(max_size=40) | st.text("0123456789abcdefx.:%-[]", max_size=20))
def test_any_text_is_a_host_in_stable_form_or_an_error(text):
    try:
        network, host = parse_host(text)
    except DecodeError:
        return
    assert parse_host(host) == (network, host)
