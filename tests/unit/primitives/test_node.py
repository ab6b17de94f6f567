import pytest

from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enode import Enode
from relay.primitives.enr import build_record
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.primitives.onion import parse_onion

KEY = NodeKey(b"\x07" * 32)
ONION = parse_onion("vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion")


def test_record_gives_every_address_with_a_port():
    record = build_record(KEY, 1, ip="1.2.3.4", ip6="2001:db8::1", tcp=30303, tcp6=30304, onion3=ONION)

    node = Node.parse(record.to_text())

    assert node.endpoints == (
        Endpoint(Network.IPV4, "1.2.3.4", 30303),
        Endpoint(Network.IPV6, "2001:db8::1", 30304),
        Endpoint(Network.ONION, ONION, 30303),
    )
    assert node.onion == Endpoint(Network.ONION, ONION, 30303)
    assert node.ips == node.endpoints[:2]
    assert (node.public_key, node.node_id, node.record) == (KEY.public_key, KEY.node_id, record)
    assert node.enode == Enode(KEY.public_key, "1.2.3.4", 30303, 30303)


def test_ipv6_takes_the_common_port_and_its_mapped_form_is_ipv4():
    assert Node.from_record(build_record(KEY, 1, ip6="2001:db8::1", tcp=5)).endpoints == (
        Endpoint(Network.IPV6, "2001:db8::1", 5),
    )
    assert Node.from_record(build_record(KEY, 1, ip6="::ffff:127.0.0.1", tcp=5)).endpoints == (
        Endpoint(Network.IPV4, "127.0.0.1", 5),
    )


def test_record_without_a_tcp_port_has_no_endpoint():
    node = Node.from_record(build_record(KEY, 1, ip="1.2.3.4", udp=30303, onion3=ONION))

    assert node.endpoints == ()
    assert (node.onion, node.ips) == (None, ())
    assert node.enode == Enode(KEY.public_key, None, 0, 0)


@pytest.mark.parametrize(
    ("host", "endpoints"),
    [
        (f"@{ONION}:9", (Endpoint(Network.ONION, ONION, 9),)),
        ("@name.example:9", (Endpoint(Network.DNS, "name.example", 9),)),
        ("@1.2.3.4:9?discport=3", (Endpoint(Network.IPV4, "1.2.3.4", 9),)),
        ("@1.2.3.4:0", ()),
        ("@:9", ()),
        ("", ()),
    ],
)
def test_enode_gives_its_one_address(host, endpoints):
    node = Node.parse(f"enode://{KEY.public_key.hex()}{host}")

    assert node == Node(KEY.public_key, endpoints)


@pytest.mark.parametrize("text", ["", "http://x", KEY.public_key.hex(), "enr:x", "enode://x"])
def test_other_text_is_no_node(text):
    with pytest.raises(DecodeError):
        Node.parse(text)
