import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.monitor.peer import clean, mask, read_address, read_client, short_key, subnet

ONION = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwx.onion"


@pytest.mark.parametrize(
    ("name", "client", "version", "system"),
    [
        ("Geth/v1.17.8-stable-abcdef01/linux-amd64/go1.24.4", "geth", "v1.17.8", "linux"),
        ("Geth/my node 10.1/v1.16.0-unstable/windows-amd64/go1.24", "geth", "v1.16.0", "windows"),
        ("reth/v2.5.1-7b3432d/x86_64-unknown-linux-gnu", "reth", "v2.5.1", "linux"),
        ("Nethermind/v1.36.0+1a2b3c4d/linux-x64/dotnet10.0.0", "nethermind", "v1.36.0", "linux"),
        ("besu/v26.3.0/osx-aarch_64/openjdk-java-21", "besu", "v26.3.0", "macos"),
        ("erigon/v3.1.0-1234abcd/darwin-arm64/go1.24.1", "erigon", "v3.1.0", "macos"),
        ("pyrelay/v0.1.0", "pyrelay", "v0.1.0", "-"),
        ("Nimbus v0.1.0 macos arm64", "nimbus", "v0.1.0", "-"),
        ("Lighthouse/v8.0.0-1a2b3c4/x86_64-linux", "lighthouse", "v8.0.0", "linux"),
        ("", "-", "-", "-"),
        ("///", "-", "-", "-"),
    ],
)
def test_client_names_are_taken_apart(name: str, client: str, version: str, system: str) -> None:
    found = read_client(name)

    assert (found.client, found.version, found.system) == (client, version, system)


@given(st.text(max_size=300))
def test_no_name_brings_what_moves_a_cursor(name: str) -> None:
    found = read_client(name)

    assert all(part.isprintable() for part in (found.client, found.version, found.system, clean(name)))
    assert len(found.client) <= 24


@pytest.mark.parametrize(
    ("text", "network", "shown"),
    [
        ("93.184.216.34:30303", "ipv4", "93.184.216.34:30303"),
        ("::ffff:93.184.216.34:30303", "ipv4", "93.184.216.34:30303"),
        ("[2001:4860:4860::8888]:30303", "ipv6", "[2001:4860:4860::8888]:30303"),
        ("2001:4860:4860:0:0:0:0:8888:30303", "ipv6", "[2001:4860:4860::8888]:30303"),
        ("node.example/10.1.2.3:30301", "private", "10.1.2.3:30301"),
        ("127.0.0.1:4", "loopback", "127.0.0.1:4"),
        ("[::1]:4", "loopback", "[::1]:4"),
        (ONION.upper() + ":30303", "onion", ONION + ":30303"),
        ("a" * 52 + ".b32.i2p:0", "i2p", "a" * 52 + ".b32.i2p"),
        ("[fe80::1%eth0]:5", "private", "[fe80::1]:5"),
        ("evil.example:70000", "unknown", "evil.example:70000"),
        ("\x1b[2J:1", "unknown", "?[2J:1"),
        ("", "unknown", "-"),
    ],
)
def test_addresses_are_read_in_every_spelling(text: str, network: str, shown: str) -> None:
    found = read_address(text)

    assert (found.network, str(found)) == (network, shown)


@pytest.mark.parametrize(
    ("text", "masked", "block"),
    [
        ("93.184.216.34:30303", "93.184.*.*", "93.184.216.0/24"),
        ("[2001:4860:4860::8888]:30303", "2001:4860:*", "2001:4860:4860::/48"),
        ("10.1.2.3:1", "10.1.*.*", ""),
        (ONION + ":1", "abcdef*.onion", ""),
        ("127.0.0.1:4", "127.0.0.1", ""),
        ("evil.example:4", "*", ""),
        ("", "-", ""),
    ],
)
def test_masks_keep_no_host(text: str, masked: str, block: str) -> None:
    assert mask(read_address(text)) == masked
    assert subnet(read_address(text)) == block


@given(st.text(max_size=200))
def test_any_address_is_read_and_masked(text: str) -> None:
    found = read_address(text)

    assert str(found).isprintable()
    assert mask(found).isprintable()


def test_short_ids_tell_peers_of_libp2p_apart() -> None:
    assert short_key("0x" + "ab" * 64) == "abababab"
    assert short_key("16Uiu2HAmAbcdefgh12345678") == "12345678"
