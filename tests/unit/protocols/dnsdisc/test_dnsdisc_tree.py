"""Whole trees: made as go-ethereum makes them, and checked."""

import pytest

from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import DecodeError
from relay.primitives.keys import NodeKey
from relay.protocols.dnsdisc import tree as tree_module
from relay.protocols.dnsdisc.entries import Branch, Link, hash_name
from relay.protocols.dnsdisc.tree import make_tree, read_tree
from tests.aids import vectors
from tests.aids.dnsdisc import SIGNER, signed_tree, tree_key, tree_record, tree_records

UPSTREAM = vectors.load("dnsdisc/upstream.json")
BY_GETH = vectors.load("dnsdisc/signed_by_geth.json")


def test_tree_is_the_one_geth_makes_and_signs():
    links = [
        Link(tree_key(1000 + number).public_key, f"list{number}.example.org")
        for number in range(BY_GETH["links"])
    ]
    tree, link = make_tree(tree_records(BY_GETH["records"]), links, BY_GETH["seq"]).sign(
        NodeKey(bytes.fromhex(BY_GETH["signing_key"])), BY_GETH["domain"]
    )
    assert str(tree.root) == BY_GETH["root"]  # its hashes commit to every entry
    assert str(link) == BY_GETH["url"]


def test_upstream_tree_is_read_whole():
    tree = read_tree(UPSTREAM["good_tree"], Link.parse(UPSTREAM["url"]))
    assert len(tree.records) == 3
    assert [link.domain for link in tree.links] == ["morenodes.example.org"]
    assert tree.texts("n") == UPSTREAM["good_tree"]
    again = make_tree(tree.records, tree.links, tree.root.seq)
    assert (again.root.records, again.root.links) == (tree.root.records, tree.root.links)


def test_upstream_tree_with_a_bad_record_is_refused():
    with pytest.raises(DecodeError):
        read_tree(UPSTREAM["tree_with_bad_record"], Link.parse(UPSTREAM["url"]))


@pytest.mark.parametrize("count", [0, 1, 2, 13, 14, 27, 170, 183])
def test_tree_of_any_size_reads_back(count):
    records = tree_records(count)
    tree, link = signed_tree("nodes.example.org", reversed(records), seq=9)
    again = read_tree(tree.texts(link.domain), link)
    assert {record.node_id for record in again.records} == {record.node_id for record in records}
    assert again.entries == tree.entries
    assert all(len(text) < 512 for text in tree.texts().values())


def test_unsigned_tree_is_refused():
    tree = make_tree(tree_records(2))
    with pytest.raises(DecodeError):
        read_tree(tree.texts("n"), Link(SIGNER.public_key, "n"))


def test_tree_of_another_signer_is_refused():
    tree, _ = signed_tree("n", tree_records(2))
    with pytest.raises(DecodeError, match="not signed"):
        read_tree(tree.texts("n"), Link(tree_key(1).public_key, "n"))


def test_missing_or_changed_entry_is_named():
    tree, link = signed_tree("n", tree_records(2))
    name = hash_name(tree.records[0].to_text())
    with pytest.raises(DecodeError, match=f"{name}.n: no such"):
        read_tree({at: text for at, text in tree.texts("n").items() if not at.startswith(name)}, link)
    with pytest.raises(DecodeError, match=name):
        read_tree(tree.texts("n") | {f"{name}.n": tree.records[1].to_text()}, link)


def test_link_among_the_records_is_refused():
    tree, link = signed_tree("n", links=[Link(tree_key(1).public_key, "m")])
    swapped = make_tree([]).sign(SIGNER, "n")[0]
    root = type(tree.root)(tree.root.links, swapped.root.links, 1).sign(SIGNER)
    with pytest.raises(DecodeError, match="among"):
        read_tree({**tree.texts("n"), **swapped.texts("n"), "n": str(root)}, link)


def test_tree_over_the_limit_is_refused(monkeypatch):
    tree, link = signed_tree("n", tree_records(30))
    monkeypatch.setattr(tree_module, "MAX_ENTRIES", 20)
    with pytest.raises(DecodeError, match="over 20"):
        read_tree(tree.texts("n"), link)


def test_branch_that_names_an_entry_twice_is_read_once():
    record = tree_record(1)
    leaf = hash_name(record.to_text())
    branch = str(Branch((leaf, leaf)))
    empty = str(Branch(()))
    tree = make_tree([record])
    root = type(tree.root)(hash_name(branch), hash_name(empty), 1).sign(SIGNER)
    texts = {
        "n": str(root),
        f"{hash_name(branch)}.n": branch,
        f"{leaf}.n": record.to_text(),
        f"{hash_name(empty)}.n": empty,
    }
    assert read_tree(texts, Link(SIGNER.public_key, "n")).records == (record,)


def test_node_twice_or_with_an_unreadable_port_is_refused():
    with pytest.raises(DecodeError, match="twice"):
        make_tree([tree_record(1), tree_record(1, seq=77)])
    record = build_record(tree_key(1), 1, extra={"quic": 70000})
    with pytest.raises(DecodeError, match="quic"):
        make_tree([record])


def test_signing_takes_only_a_name():
    with pytest.raises(DecodeError):
        make_tree([]).sign(SIGNER, "192.0.2.1")


def test_zone_file_splits_long_texts():
    long = NodeRecord.sign(tree_key(1), 1, {"padding": b"x" * 150})
    tree, _ = signed_tree("nodes.example.org", [long, tree_record(2)])
    lines = tree.zone_file("nodes.example.org").splitlines()
    assert lines[0] == "$ORIGIN nodes.example.org."
    assert lines[1].startswith("@ ")
    assert len(lines) == 2 + len(tree.entries)
    text = next(line for line in lines if long.to_text()[:60] in line).split(" TXT ")[1]
    parts = [part.strip('"') for part in text.split('" "')]
    assert "".join(parts) == long.to_text()
    assert len(parts) == 2
    assert all(len(part) <= 255 for part in parts)
