import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives import enode
from relay.primitives.enode import Enode
from relay.primitives.errors import DecodeError
from relay.primitives.keys import node_id
from tests.aids import vectors

ENODES = vectors.load("enr/enodes.json")
KEY = ENODES["public_key"]
PUBLIC = bytes.fromhex(KEY)
ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"


@pytest.mark.parametrize("vector", ENODES["valid"], ids=lambda v: v["url"][136:] or "incomplete")
def test_urls_of_geth_are_read_and_written_again(vector):
    parsed = enode.parse(vector["url"])

    assert parsed == Enode(PUBLIC, vector["host"], vector["tcp"], vector["udp"])
    assert str(parsed) == vector["url"]
    assert parsed.node_id == node_id(PUBLIC)


@pytest.mark.parametrize("url", ENODES["invalid"])
def test_invalid_urls_of_geth_are_refused(url):
    with pytest.raises(DecodeError):
        enode.parse(url)


def test_onion_host_is_checked_and_lowered():
    parsed = enode.parse(f"enode://{KEY}@{ONION.upper()}:30303?discport=0")

    assert parsed == Enode(PUBLIC, ONION, 30303, 0)
    assert parsed.url == f"enode://{KEY}@{ONION}:30303?discport=0"
    with pytest.raises(DecodeError, match="onion address"):
        enode.parse(f"enode://{KEY}@{'a' * 56}.onion:30303")


def test_random_node_id_is_named_as_no_point_of_the_curve():
    # The root cause of the project's seeds: 128 random hex digits are a key only half of the time.
    digits = "0123456789abcdef" * 8

    with pytest.raises(
        DecodeError, match=r"node id 0123456789abcdef\.\.\. is not a point of secp256k1: random digits"
    ):
        enode.parse(f"enode://{digits}@127.0.0.1:30303")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"enode://{KEY[:-1]}@1.2.3.4:1", "127 characters"),
        (f"enode://{KEY}00@1.2.3.4:1", "130 characters"),
        (f"enode://{KEY[:-2]}zz@1.2.3.4:1", "hex digits"),
        (f"enode://{KEY[:-2]}  @1.2.3.4:1", "hex digits"),
        (f"enode://{KEY}:pw@1.2.3.4:1", "characters"),
        (f"ENODE://{KEY}@1.2.3.4:1", "form"),
        (f"enode:{KEY}@1.2.3.4:1", "form"),
        (f"enode://{KEY}@1.2.3.4", "port"),
        (f"enode://{KEY}@1.2.3.4:", "port"),
        (f"enode://{KEY}@1.2.3.4:65536", "port"),
        (f"enode://{KEY}@1.2.3.4:-1", "port"),
        (f"enode://{KEY}@::1:30303", "form|port"),
        (f"enode://{KEY}@[::1:30303", "form"),
        (f"enode://{KEY}@[name]:30303", "brackets"),
        (f"enode://{KEY}@[1.2.3.4.5]:30303", "IP address"),
        (f"enode://{KEY}@na me:30303", "host"),
        (f"enode://{KEY}@a@b:30303", "form"),
        (f"enode://{KEY}@1.2.3.4:1?discport=70000", "discport"),
        (f"enode://{KEY}@1.2.3.4:1?" + "&".join("a=1" for _ in range(20)), "query"),
        (f"enode://{KEY}@" + "a." * 600 + ":1", "form"),
    ],
)
def test_bad_urls_are_refused_with_what_was_wrong(url, why):
    with pytest.raises(DecodeError, match=why):
        enode.parse(url)


@pytest.mark.parametrize(
    ("url", "host", "udp"),
    [
        (f"enode://{KEY}@1.2.3.4:7?discport=", "1.2.3.4", 7),
        (f"enode://{KEY}@1.2.3.4:7?other=3&discport=9#x", "1.2.3.4", 9),
        (f"enode://{KEY}@1.2.3.4:7/path", "1.2.3.4", 7),
        (f"enode://{KEY}@:7", None, 7),
        (f"enode://{KEY.upper()}@[::ffff:1.2.3.4]:7", "1.2.3.4", 7),
    ],
)
def test_what_geth_tolerates_is_tolerated(url, host, udp):
    assert enode.parse(url) == Enode(PUBLIC, host, 7, udp)


@given(st.text(max_size=60), st.text("0123456789.:[]@?=&/#%discport", max_size=30))
def test_hostile_text_is_read_or_refused(start, end):
    for text in (start, enode.PREFIX + start, f"enode://{KEY}@{end}", f"enode://{KEY}{start}"):
        try:
            parsed = enode.parse(text)
        except DecodeError:
            continue
        assert parsed.public_key == PUBLIC
