from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relay.observe.redaction import Redactor

ONION = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion"
OTHER = "sp3k262uwy4r2k3ycr5awluarykdpag6a7y33jxop4cs2lu5uz5sseqd.onion"
FEWER = settings(max_examples=60, deadline=None)
PREFIX = st.sampled_from(
    [
        "",
        "peer ",
        "addr:",
        "bad:",
        "dead:",
        "12:",
        "x=",
        "'",
        "(",
        "0.",
        "7",
        ".",
        "@",
        "/",
        "a",
        "::ffff:",
        "[",
    ]
)
SUFFIX = st.sampled_from(["", ":30303", "]:80", "%eth0", "'", ",", "/24", ".", ")", " refused", ":"])
V4 = st.ip_addresses(v=4).filter(lambda ip: int(ip) >> 24 not in (0, 127))
V6 = st.ip_addresses(v=6).filter(lambda ip: not (ip.is_loopback or ip.is_unspecified))


@pytest.fixture
def hiding() -> Redactor:
    return Redactor(hide_addresses=True)


@FEWER
@given(PREFIX, V4, SUFFIX)
def test_ipv4_is_masked_whatever_stands_around(prefix: str, ip: IPv4Address, suffix: str) -> None:
    shown = Redactor(hide_addresses=True).text("event", f"{prefix}{ip}{suffix}")
    assert str(ip) not in shown
    assert "<ip>" in shown


@FEWER
@given(PREFIX, V6, SUFFIX, st.booleans())
def test_ipv6_is_masked_whatever_stands_around(prefix: str, ip: IPv6Address, suffix: str, long: bool) -> None:
    text = ip.exploded if long else str(ip)
    assume(int(ip) >> 32)  # ::1:2 may be a time of day or a port
    shown = Redactor(hide_addresses=True).text("event", f"{prefix}{text}{suffix}")
    assert text not in shown
    assert "<ip>" in shown


@given(PREFIX, st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=56, max_size=56), SUFFIX, st.booleans())
def test_onion_is_masked_whatever_stands_around(prefix: str, label: str, suffix: str, upper: bool) -> None:
    label = label.upper() if upper else label
    shown = Redactor(hide_addresses=True).text("event", f"{prefix}{label}.onion{suffix}")
    assert label not in shown
    assert "<onion>" in shown


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:6060",
        "listening on [::1]:30303 and ::",
        "0.0.0.0:30303",
        "tor 0.4.9.11",
        "12:30:45.678",
        "00:1a:2b:3c:4d:5e",
        "Geth/v1.17.8-stable/linux-amd64/go1.26.8",
        "0xdc0e6961ce7ae3e69061111737190973d7241794ed4492b2de9d94ea6dc76f26",
        "12ab" * 16,
        "1.2.3",
        "/run/tor/control",
    ],
)
def test_what_is_no_address_of_a_peer_stays(hiding: Redactor, text: str) -> None:
    assert hiding.text("event", text) == text


def test_endless_groups_are_masked_unread(hiding: Redactor) -> None:
    assert hiding.text("event", "a:" * 50_000) == "<ip>"


def test_names_of_peers_are_masked_in_urls_and_host_fields(hiding: Redactor) -> None:
    url = f"enode://{'12ab' * 32}@relay.example.org:30303?discport=0"
    assert hiding.text("event", url) == f"enode://{'12ab' * 32}@<host>:30303?discport=0"
    assert hiding.field("host", "relay.example.org") == "<address>"
    assert hiding.field("endpoint", "relay.example.org:30303") == "<address>"
    assert hiding.field("remote", "127.0.0.1:50000") == "127.0.0.1:50000"
    assert hiding.field("remote", "198.51.100.7:50000") == "<ip>:50000"


def test_refused_static_nodes_are_not_quoted(hiding: Redactor) -> None:
    assert hiding.field("entry", "secretpeer4.example.com:30303") == "<address>"
    told = hiding.field("why", "host '1572395042' looks like an IP address in an odd spelling")
    assert told == "host '***' looks like an IP address in an odd spelling"


def test_record_is_masked(hiding: Redactor) -> None:
    record = "enr:-Jy4QG9iC2eLjUsXBKD-Wa4wg2eZ0akfPef4n4_2duPjctt_XxUndVO8EPHAFpxhHUBZ"
    assert hiding.field("enr", record) == "<enr>"
    assert hiding.text("event", f"record {record} is old") == "record <enr> is old"


def test_own_onion_stands_in_its_own_fields_only(hiding: Redactor) -> None:
    hiding.allow_own(ONION)

    assert hiding.field("onion", ONION) == ONION
    assert hiding.field("address", ONION.upper()) == ONION.upper()
    assert hiding.field("enode", f"enode://ab@{ONION}:30303") == f"enode://ab@{ONION}:30303"
    assert hiding.field("event", ONION) == "<onion>"
    assert hiding.field("onion", OTHER) == "<onion>"
    assert hiding.field("enode", f"enode://ab@{OTHER}:30303") == "enode://ab@<onion>:30303"


def test_without_hiding_addresses_stay_and_secrets_do_not() -> None:
    redactor = Redactor(hide_addresses=False)

    assert redactor.field("peer", f"198.51.100.7 {ONION}") == f"198.51.100.7 {ONION}"
    assert redactor.field("onion_key", "00") == "***"
    assert redactor.text("event", "ADD_ONION ED25519-V3:AAAA+/= Port=1") == "ADD_ONION *** Port=1"


@pytest.mark.parametrize(
    "name",
    ["secret", "cookie", "tor_password", "key", "nodekey", "node_key", "auth-token", "KEY", "passphrase"],
)
def test_secrets_are_masked_by_name(hiding: Redactor, name: str) -> None:
    for value in ("hush", b"hush", 5, ["hush"], {"a": "hush"}):
        assert hiding.field(name, value) == "***"
        assert hiding.field("outer", {name: value}) == {name: "***"}
    assert hiding.field(name, None) is None


@pytest.mark.parametrize("name", ["public_key", "keyspace", "monkey", "cookie_file", "key_path"])
def test_names_that_only_sound_secret_are_shown(hiding: Redactor, name: str) -> None:
    assert hiding.field(name, "shown") == "shown"


def test_values_of_any_kind_become_plain(hiding: Redactor) -> None:
    class Reason(IntEnum):
        QUITTING = 8

    class Peer:
        def __repr__(self) -> str:
            return "<Peer 198.51.100.7>"

    value = {
        "a": (1, 2.5, None, True),
        5: {"198.51.100.7"},
        "r": Reason.QUITTING,
        "p": [Peer()],
        "f": float("inf"),
        "b": b"\x00" * 32,
        "c": bytearray(b"\x01"),
        "198.51.100.8": 1,
    }
    assert hiding.field("x", value) == {
        "a": [1, 2.5, None, True],
        "5": ["<ip>"],
        "r": 8,
        "p": ["<Peer <ip>>"],
        "f": "inf",
        "b": "<32 bytes>",
        "c": "b'\\x01'",
        "<ip>": 1,
    }


def test_depth_is_bounded(hiding: Redactor) -> None:
    value: object = "end"
    for _ in range(2000):
        value = [value]
    assert str(hiding.field("x", value)).count("[") == 6


@FEWER
@given(
    st.recursive(
        st.none()
        | st.integers()
        | st.floats()
        | st.text()
        | st.binary()
        | st.builds(ip_address, st.integers(0, 9)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
        max_leaves=10,
    )
)
def test_fuzz_any_value_is_cleaned(value: object) -> None:
    Redactor(hide_addresses=True).field("field", value)


def test_folders_are_shown_by_their_names_where_addresses_are_hidden() -> None:
    for hide in (True, False):
        redactor = Redactor(hide_addresses=hide)
        redactor.hide_folder("/home/alice", "~")
        redactor.hide_folder("/home/alice/relay/", "DATADIR")
        redactor.hide_folder("/", "ROOT")  # a service's home
        shown = redactor.text("address", "unix:/home/alice/relay/pyrelay.ipc and /home/alice/x")
        expected = "unix:DATADIR/pyrelay.ipc and ~/x"
        assert (shown == expected) is hide
