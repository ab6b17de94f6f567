"""Where others see us."""

from __future__ import annotations

import pytest

from relay.discovery.votes import OwnEndpoint
from relay.primitives.endpoint import Endpoint
from relay.protocols.discv5 import UdpNetwork

IP = bytes((93, 184, 216, 34))
IP6 = bytes.fromhex("2a001450400100000000000000000001")


@pytest.fixture
def told() -> list[Endpoint]:
    return []


@pytest.fixture
def own(told: list[Endpoint]) -> OwnEndpoint:
    return OwnEndpoint(UdpNetwork(), told.append)


def host(number: int, port: int = 30303) -> Endpoint:
    return Endpoint.parse(f"20.0.{number}.1", port)


def test_ten_hosts_within_five_minutes_are_believed_once(own: OwnEndpoint, told: list[Endpoint]) -> None:
    for number in range(9):
        own.add(host(number), IP, 30303, 30.0 * number)
    assert not told
    own.add(host(9), IP, 30303, 299.0)
    assert told == [Endpoint.parse("93.184.216.34", 30303)]
    for number in range(20):
        own.add(host(number), IP, 30303, 300.0)
    assert len(told) == 1


def test_statements_of_long_ago_do_not_count(own: OwnEndpoint, told: list[Endpoint]) -> None:
    for number in range(9):
        own.add(host(number), IP, 30303, 0.0)
    own.add(host(9), IP, 30303, 301.0)
    assert not told


def test_host_has_one_vote_whatever_its_port(own: OwnEndpoint, told: list[Endpoint]) -> None:
    for number in range(30):
        own.add(host(1, 30000 + number), IP, 30303, 0.0)
    assert not told


def test_change_is_told_when_the_new_one_has_the_most(own: OwnEndpoint, told: list[Endpoint]) -> None:
    for number in range(12):
        own.add(host(number), IP, 30303, 0.0)
    for number in range(12):
        own.add(host(number), IP, 40404, 10.0)
    assert told == [Endpoint.parse("93.184.216.34", port) for port in (30303, 40404)]


def test_repeated_statements_are_counted_now_and_then(own: OwnEndpoint, told: list[Endpoint]) -> None:
    for number in range(12):
        own.add(host(number), IP, 30303, 0.0)
    for number in range(12, 23):
        own.add(host(number), IP, 40404, 100.0)
    assert len(told) == 1
    for now in (200.0, 350.0):  # by the second time the majority has aged away
        for number in range(12, 23):
            own.add(host(number), IP, 40404, now)
    assert told[1:] == [Endpoint.parse("93.184.216.34", 40404)]


def test_families_are_counted_apart(own: OwnEndpoint, told: list[Endpoint]) -> None:
    for number in range(10):
        own.add(host(number), IP, 30303, 0.0)
        own.add(Endpoint.parse(f"2a00:{number + 1}::1", 30303), IP6, 30303, 0.0)
    assert told == [
        Endpoint.parse("93.184.216.34", 30303),
        Endpoint.parse("2a00:1450:4001::1", 30303),
    ]


@pytest.mark.parametrize(
    ("voter", "ip", "port"),
    [
        ("20.0.{}.1", bytes((192, 168, 0, 1)), 30303),  # of a LAN, stated from the internet
        ("20.0.{}.1", bytes((127, 0, 0, 1)), 30303),
        ("20.0.{}.1", bytes(4), 30303),
        ("20.0.{}.1", IP, 0),
        ("20.0.{}.1", IP6, 30303),  # of a family that it does not see
        ("2a00:{}::1", IP, 30303),
        ("20.0.{}.1", b"", 30303),
        ("20.0.{}.1", bytes(5), 30303),
    ],
)
def test_what_a_host_can_not_know_is_not_counted(
    own: OwnEndpoint, told: list[Endpoint], voter: str, ip: bytes, port: int
) -> None:
    for number in range(1, 20):
        own.add(Endpoint.parse(voter.format(number), 30303), ip, port, 0.0)
    assert not told


def test_own_network_may_name_our_address_in_it(own: OwnEndpoint, told: list[Endpoint]) -> None:
    for number in range(1, 11):
        own.add(Endpoint.parse(f"192.168.0.{number}", 30303), bytes((192, 168, 0, 99)), 30303, 0.0)
    assert told == [Endpoint.parse("192.168.0.99", 30303)]


def test_mapped_ipv4_address_is_of_ipv4(own: OwnEndpoint, told: list[Endpoint]) -> None:
    for number in range(10):
        own.add(host(number), IP if number % 2 else bytes(10) + b"\xff\xff" + IP, 30303, 0.0)
    assert told == [Endpoint.parse("93.184.216.34", 30303)]
