"""The texts of a tree: what is read, what is refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey
from relay.protocols.dnsdisc.entries import (
    MAX_TEXT,
    Branch,
    Link,
    Root,
    hash_name,
    parse_entry,
    parse_hash,
)
from tests.aids import vectors

UPSTREAM = vectors.load("dnsdisc/upstream.json")
SIGNER = NodeKey(bytes.fromhex(UPSTREAM["signing_key"]))


@pytest.mark.parametrize("case", UPSTREAM["roots"], ids=lambda case: case["text"][16:40])
def test_root_is_read_as_geth_does(case):
    if not case["valid"]:
        with pytest.raises(DecodeError):
            Root.parse(case["text"])
        return
    root = Root.parse(case["text"])
    assert root.seq == 3
    assert root.signature.hex() == case["signature"]
    assert str(root) == case["text"]


@pytest.mark.parametrize("case", UPSTREAM["entries"], ids=lambda case: case["text"][:24] or "empty")
def test_entry_is_read_as_geth_does(case):
    if case["kind"] is None:
        with pytest.raises(DecodeError):
            parse_entry(case["text"])
        return
    entry = parse_entry(case["text"])
    assert type(entry).__name__ == case["kind"]
    if isinstance(entry, Branch):
        assert entry.children == tuple(case["children"])
    if isinstance(entry, Link):
        assert entry == Link(SIGNER.public_key, case["domain"])
    assert (entry.to_text() if case["kind"] == "NodeRecord" else str(entry)) == case["text"]


def test_root_knows_its_signer():
    root = Root.parse(UPSTREAM["good_tree"]["n"])
    assert root.signed_by(SIGNER.public_key)
    assert not root.signed_by(NodeKey(b"\x01" * 32).public_key)
    assert not Root(root.records, root.links, root.seq + 1, root.signature).signed_by(SIGNER.public_key)
    assert Root(root.records, root.links, root.seq).sign(SIGNER).signed_by(SIGNER.public_key)
    assert not Root(root.records, root.links, root.seq).signed_by(SIGNER.public_key)


@pytest.mark.parametrize(
    "text",
    [
        UPSTREAM["good_tree"]["n"].replace("seq=1", f"seq={2**64}"),
        UPSTREAM["good_tree"]["n"].replace("seq=1", "seq=-1"),
        UPSTREAM["good_tree"]["n"].replace("e=JWX", "e=jwx"),
        UPSTREAM["good_tree"]["n"].replace("v1", "v2"),
        UPSTREAM["good_tree"]["n"] + " more",
        "enrtree-root:v1 e=" + "A" * MAX_TEXT,
    ],
)
def test_root_of_another_form_is_refused(text):
    with pytest.raises(DecodeError):
        Root.parse(text)


@pytest.mark.parametrize("host", ["192.0.2.1", "::1", "a" * 56 + ".onion", "", "no_spaces here", "a" * 3000])
def test_link_hangs_from_a_name_and_nothing_else(host):
    with pytest.raises(DecodeError):
        Link.parse(str(Link(SIGNER.public_key, host)))


def test_link_is_canonical_after_reading():
    text = str(Link(SIGNER.public_key, "Nodes.Example.ORG."))
    assert Link.parse(text).domain == "nodes.example.org"


def test_entry_beyond_the_limit_is_refused():
    with pytest.raises(DecodeError):
        parse_entry("enrtree-branch:" + ",".join(["A" * 26] * 100))


@pytest.mark.parametrize(
    "name", ["A" * 19, "A" * 53, "A" * 17, "a" * 26, "", "A" * 25 + "=", "A" * 25 + "\n"]
)
def test_hash_name_of_another_form_is_refused(name):
    with pytest.raises(DecodeError):
        parse_hash(name)


def test_hash_name_is_read_as_bytes():
    assert len(parse_hash(hash_name("enrtree-branch:"))) == 16
    assert hash_name("enrtree-branch:") == "FDXN3SN67NA5DKA4J2GOK7BVQI"  # known from the public trees


@given(
    st.text(max_size=200),
    st.sampled_from(["", "enrtree-branch:", "enrtree://", "enr:", "enrtree-root:v1 e="]),
)
def test_no_text_gets_anything_but_a_decode_error(text, prefix):
    for parse in (parse_entry, Root.parse, parse_hash, Link.parse):
        with suppress(DecodeError):
            parse(prefix + text)
