import base64
import hashlib
import re
import secrets

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from stem.descriptor.networkstatus import KeyCertificate

from relay.localnet.authority_keys import AuthorityIdentity, write_authority_keys, write_relay_key
from relay.localnet.network import count_descriptors, count_running
from relay.localnet.ports import FIRST_PORT, LAST_PORT, free_ports
from relay.localnet.torrc import (
    Authority,
    authority_lines,
    bandwidth_file,
    network_lines,
    node_lines,
    relay_lines,
)
from relay.primitives.errors import LocalError
from relay.transports.sockets import SocketFactory, SocketRules

FACTORY = SocketFactory(SocketRules.anywhere())


def recovered_digest(key, signature):
    """What an RSA signature signs, its padding removed."""
    numbers = key.public_numbers()
    size = numbers.n.bit_length() // 8
    padded = pow(int.from_bytes(signature, "big"), numbers.e, numbers.n).to_bytes(size, "big")
    return padded.partition(b"\xff\x00")[2]


def pem_body(block):
    return base64.b64decode("".join(line for line in block.splitlines() if not line.startswith("-")))


def test_certificate_is_one_that_stem_reads_and_its_signatures_hold(tmp_path):
    identity = write_authority_keys(tmp_path / "data", "127.0.0.1:7000")
    text = (tmp_path / "data/keys/authority_certificate").read_text()
    certificate = KeyCertificate(text, validate=True)
    assert (certificate.version, certificate.address, certificate.dir_port) == (3, "127.0.0.1", 7000)
    assert certificate.fingerprint == identity.v3ident
    assert certificate.published < certificate.expires
    long_term = load_pem_public_key(certificate.identity_key.encode())
    signing = load_pem_public_key(certificate.signing_key.encode())
    signed = text[: text.index("dir-key-certification\n") + len("dir-key-certification\n")]
    assert (
        recovered_digest(long_term, pem_body(certificate.certification))
        == hashlib.sha1(signed.encode()).digest()
    )
    assert recovered_digest(signing, pem_body(certificate.crosscert)).hex().upper() == identity.v3ident


def test_keys_are_readable_for_us_only(tmp_path):
    write_authority_keys(tmp_path / "data", "127.0.0.1:7000")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    for name in ("secret_id_key", "authority_signing_key", "authority_certificate"):
        assert (tmp_path / "data/keys" / name).stat().st_mode & 0o777 == 0o600


def test_relays_differ(tmp_path):
    first, second = (write_relay_key(tmp_path / name) for name in "ab")
    assert first != second
    assert re.fullmatch("[0-9A-F]{40}", first)


def test_every_node_knows_every_authority_and_listens_on_loopback_only(tmp_path):
    authorities = [
        Authority(f"authority{number}", 5000 + number, 7000 + number, AuthorityIdentity("AB" * 20, "CD" * 20))
        for number in range(3)
    ]
    shared = network_lines(authorities)
    assert f"DirAuthority authority1 orport=5001 v3ident={'CD' * 20} 127.0.0.1:7001 {'AB' * 20}" in shared
    lines = [
        *shared,
        *node_lines("authority1", tmp_path, 5001, 77),
        *authority_lines(authorities[1], voting_interval=20, voting_offset=3, bandwidths=tmp_path / "bw"),
        *relay_lines(exits=True, resolver_file=tmp_path / "resolv.conf"),
    ]
    for line in lines:
        option, _, value = line.partition(" ")
        if option in {"ORPort", "DirPort", "Address", "OutboundBindAddressExit"}:
            assert value.startswith("127.0.0.1")
    assert "__OwningControllerProcess 77" in lines
    assert len([line for line in lines if line.startswith("DirAuthority ")]) == 3


def test_a_network_can_be_on_an_address_that_others_reach(tmp_path):
    identity = AuthorityIdentity("AB" * 20, "CD" * 20)
    authority = Authority("authority0", 5000, 7000, identity, "203.0.113.1")
    lines = [
        *network_lines([authority]),
        *node_lines("authority0", tmp_path, 5000, 77, "203.0.113.1"),
        *authority_lines(authority, voting_interval=20, voting_offset=3, bandwidths=tmp_path / "bw"),
        *relay_lines(exits=False, resolver_file=tmp_path / "resolv.conf"),
    ]
    assert {"Address 203.0.113.1", "ORPort 203.0.113.1:5000", "DirPort 203.0.113.1:7000"} <= set(lines)
    assert not any("127.0.0.1" in line for line in lines)


def test_relays_are_no_exits_unless_asked(tmp_path):
    assert relay_lines(exits=False, resolver_file=tmp_path) == ["ExitRelay 0"]


def test_bandwidths_are_equal():
    assert bandwidth_file(["AA", "BB"], 12.7) == "12\nnode_id=$AA bw=10000\nnode_id=$BB bw=10000\n"


def test_running_nodes_are_counted_in_a_consensus():
    document = (
        b"HTTP/1.0 200 OK\n\nr a b\ns Fast Running Valid\nr c d\ns Running\nr e f\ns Fast\np NotRunning x\n"
    )
    assert count_running(document) == 2
    assert count_running(b"HTTP/1.0 404 Not found\r\n\r\n") == 0


def test_descriptors_are_counted_in_a_journal(tmp_path):
    assert count_descriptors(tmp_path) == 0
    (tmp_path / "cached-microdescs.new").write_bytes(b"@last-listed x\nonion-key\nntor-onion-key a\n" * 3)
    assert count_descriptors(tmp_path) == 3


async def test_free_ports_differ_and_lie_below_the_ephemeral_ones():
    ports = free_ports(20, FACTORY, secrets.token_bytes)
    assert len(set(ports)) == 20
    assert all(FIRST_PORT <= port < LAST_PORT for port in ports)


async def test_taken_port_is_passed_over():
    (taken,) = free_ports(1, FACTORY, secrets.token_bytes)
    listening = FACTORY.listen_tcp("127.0.0.1", taken)
    try:
        with pytest.raises(LocalError, match="no 1 free ports"):
            free_ports(1, FACTORY, lambda _count: (taken - FIRST_PORT).to_bytes(4, "big"))
    finally:
        listening.close()
