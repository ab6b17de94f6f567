"""pyrelay dns sync|verify|sign, in this process, with a DNS server on loopback that serves the zone."""

from __future__ import annotations

import asyncio
import json
import os
import socket

import pytest
import structlog

from relay.cli.main import main
from relay.discovery.dns.resolvers import StubResolver
from relay.primitives.enr import build_record
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey
from relay.protocols.dnsdisc.entries import Link
from relay.protocols.dnsdisc.tree import make_tree
from relay.settings.options import OPTIONS
from tests.aids.dns_server import HOST, DnsAct, DnsServerAid
from tests.aids.dnsdisc import SIGNER, signed_tree, tree_record, tree_records
from tests.aids.socks_server import ATYP_NAME, SocksServer

DOMAIN = "nodes.example.org"
RECORDS = tree_records(40)
URL = str(Link(SIGNER.public_key, DOMAIN))
OTHER = str(signed_tree("other.example.org", signer=NodeKey(b"\x22" * 32))[1])


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("relay.cli.dns.configure", lambda _: structlog.configure(processors=[_silence]))
    monkeypatch.setitem(StubResolver.__init__.__kwdefaults__, "sleep", lambda _: asyncio.sleep(0))
    monkeypatch.chdir(tmp_path)
    mask = os.umask(0o022)  # tests of the daemon leave its own
    yield
    os.umask(mask)
    structlog.reset_defaults()


def _silence(*_: object) -> None:
    raise structlog.DropEvent


@pytest.fixture
def run(capsys):
    def call(*words: object) -> tuple[int, str, str]:
        try:
            code = main(["dns", *(str(word) for word in words)])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "signer"
    path.write_text(SIGNER.secret.hex() + "\n")
    return path


@pytest.fixture
def nodes(tmp_path):
    """A folder as a crawl leaves it."""
    folder = tmp_path / "all.example"
    folder.mkdir()
    content = {
        each.node_id.hex(): {"seq": each.seq, "record": each.to_text(), "score": 3} for each in RECORDS
    }
    (folder / "nodes.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def zone(run, nodes, key, tmp_path):
    """The signed list as a zone file."""
    code, out, _ = run("sign", nodes, "--key", key, "--domain", DOMAIN, "--zone", "zone", "--links", OTHER)
    assert (code, out) == (0, URL + "\n")
    return tmp_path / "zone"


def info(folder) -> dict:
    return json.loads((folder / "enrtree-info.json").read_text())


# -- sign


def test_list_is_signed_and_the_next_signature_has_the_next_number(run, nodes, key):
    for seq in (1, 2):
        assert run("sign", nodes, "--key", key, "--domain", DOMAIN)[:2] == (0, URL + "\n")
        said = info(nodes)
        assert (said["url"], said["seq"], said["links"]) == (URL, seq, [])
    assert run("sign", nodes, "--key", key)[0] == 0  # the domain is in the folder now
    assert run("sign", nodes, "--key", key, "--seq", 40)[0] == 0
    assert info(nodes)["seq"] == 40
    assert (nodes / "enrtree-info.json").stat().st_mode & 0o777 == 0o644


def test_links_are_kept_until_others_are_given(run, nodes, key):
    run("sign", nodes, "--key", key, "--domain", DOMAIN, "--links", OTHER)
    run("sign", nodes, "--key", key)
    assert info(nodes)["links"] == [OTHER]
    run("sign", nodes, "--key", key, "--links", URL, OTHER)
    assert info(nodes)["links"] == [URL, OTHER]


def test_records_come_from_words_and_files_of_every_form(run, key, tmp_path):
    array, lines = tmp_path / "array.json", tmp_path / "lines.txt"
    array.write_text(json.dumps([RECORDS[1].to_text(), RECORDS[2].to_text()]))
    lines.write_text(f"{RECORDS[3].to_text()}\n\n{RECORDS[1].to_text()}\n")
    code, out, _ = run("sign", RECORDS[0].to_text(), array, lines, "--key", key, "--domain", DOMAIN, "--json")
    said = json.loads(out)
    tree, link = make_tree(RECORDS[:4], (), 1).sign(SIGNER, DOMAIN)
    assert (code, said["records"], said["seq"], said["url"]) == (0, 4, 1, str(link))
    assert said["txt"] == tree.texts(DOMAIN)


def test_record_that_is_longer_than_a_file_name_may_be_is_a_record(run, key, tmp_path):
    record = build_record(
        SIGNER, 1, tcp=30303, onion3=OnionKey.from_seed(bytes(32)).address, fork_id=ForkId(bytes(4), 0)
    )
    assert len(record.to_text()) > 255
    code, out, _ = run("sign", record.to_text(), "--key", key, "--domain", DOMAIN, "--json")
    assert (code, json.loads(out)["records"]) == (0, 1)
    for words in (("sign", "x" * 300, "--key", key, "--domain", DOMAIN), ("verify", "x" * 300)):
        code, out, err = run(*words)
        assert (code, "File name too long" in out + err) == (1, True)


def test_newer_record_of_a_node_counts(run, key, tmp_path):
    old, new = tree_record(1, seq=1), tree_record(1, seq=9)
    for words in ((old, new), (new, old)):
        _, out, _ = run(
            "sign", *(each.to_text() for each in words), "--key", key, "--domain", DOMAIN, "--json"
        )
        assert new.to_text() in json.loads(out)["txt"].values()


def test_zone_can_be_printed_and_names_its_url(run, key):
    code, out, _ = run("sign", RECORDS[0].to_text(), "--key", key, "--domain", DOMAIN, "--zone", "-")
    assert code == 0
    assert out.startswith(f"; {URL}\n$ORIGIN {DOMAIN}.\n")


def test_folder_can_be_written_elsewhere(run, nodes, key, tmp_path):
    out = tmp_path / "new" / "folder"
    assert run("sign", nodes / "nodes.json", "--key", key, "--domain", DOMAIN, "--out", out)[0] == 0
    assert run("verify", out)[0] == 0
    assert not (nodes / "enrtree-info.json").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "no JSON"),
        ('{"ab": {"seq": 1}}', "it has no record"),
        (json.dumps({"ab": {"record": RECORDS[0].to_text()}}), "another node's"),
        (
            json.dumps({RECORDS[0].node_id.hex(): {"seq": 99, "record": RECORDS[0].to_text()}}),
            "seq is not that of its record",
        ),
        ("[1]", "expected an array"),
        ("enr:garbage", "enr"),
        ("enode://" + "ab" * 64 + "@203.0.113.1:30303", ""),
    ],
)
def test_bad_nodes_are_named(run, key, tmp_path, content, why):
    file = tmp_path / "bad.json"
    file.write_text(content)
    code, _, err = run("sign", file, "--key", key, "--domain", DOMAIN)
    assert code == 1
    assert str(file) in err
    assert why in err


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("sign", RECORDS[0].to_text(), "--key", "signer"), 2, "--domain is needed"),
        (("sign", RECORDS[0].to_text(), "--key", "signer", "--domain", "1.2.3.4"), 2, "DNS name"),
        (("sign", RECORDS[0].to_text(), "--key", "signer", "--domain", "a b"), 2, "host"),
        (("sign", "enr:x", "--key", "signer", "--domain", DOMAIN), 2, "not a node record"),
        (("sign", "nowhere", "--key", "signer", "--domain", DOMAIN), 1, "nowhere: No such file"),
        (("sign", "enr:x", "--key", "nokey", "--domain", DOMAIN), 1, "nokey"),
        (("sign", "enr:x", "--key", "keystore", "--domain", DOMAIN), 2, "encrypted keystore"),
        (("sign", "enr:x", "--key", "signer", "--seq", "0"), 2, "no sequence number"),
        (("sign", "enr:x", "--key", "signer", "--links", "http://x"), 2, "enrtree://"),
        (("sync", "http://x"), 2, "enrtree://"),
        (("sync", URL, "--rate", "0"), 2, "not a rate"),
        (("sync", URL, "--dns-resolver", "udp://9.9.9.9"), 2, "is not of the form"),
        (("sync", URL, "--only-onion"), 2, "needs Tor"),
        (("sync", URL, "--tor-launch", "--only-onion"), 2, "the daemon's Tor does not run"),
        (("verify", "enrtree://x"), 2, "enrtree://"),
        (("frobnicate",), 2, "invalid choice"),
        ((), 2, "required"),
    ],
)
def test_mistakes_are_told(run, key, tmp_path, words, code, why):
    (tmp_path / "keystore").write_text('{"crypto": {}}')
    found, _, err = run(*words)
    assert (found, why in err) == (code, True), err


# -- verify


def test_folder_and_zone_and_texts_are_verified(run, nodes, zone, key, tmp_path):
    texts = tmp_path / "txt.json"
    texts.write_text(json.dumps(make_tree(RECORDS[:5], (), 3).sign(SIGNER, DOMAIN)[0].texts(DOMAIN)))
    code, out, _ = run("verify", nodes, zone, texts, "--url", URL, "--json")
    found = json.loads(out)
    assert code == 0
    assert [each["ok"] for each in found] == [True] * 3
    assert [each["records"] for each in found] == [40, 40, 5]
    assert [each["links"] for each in found] == [1, 1, 0]
    assert {each["url"] for each in found} == {URL}


def test_without_a_url_the_signer_is_told(run, zone):
    code, out, _ = run("verify", zone)
    assert code == 0
    assert out == f"ok      {zone}: sequence number 1, 40 records, 1 links, signed by {URL}\n"


def test_file_that_is_another_list_is_refused(run, nodes, zone):
    other = str(Link(NodeKey(b"\x55" * 32).public_key, DOMAIN))
    code, out, _ = run("verify", nodes, zone, "--url", other)
    assert code == 1
    assert out.count("FAILED") == 2
    assert "not signed by the key of the URL" in out


def test_tampered_folder_is_refused(run, nodes, zone):
    content = json.loads((nodes / "nodes.json").read_text())
    content.popitem()
    (nodes / "nodes.json").write_text(json.dumps(content))
    code, out, _ = run("verify", nodes)
    assert code == 1
    assert out.startswith(f"FAILED  {nodes}: the signature is not of this content")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace("enr:-", "enr:_", 1), "does not have this hash"),
        (lambda text: "\n".join(text.splitlines()[:-3]), "no such TXT record"),
        (lambda text: text.replace("seq=1", "seq=2"), ""),
        (lambda text: text.replace("IN TXT", "IN NOSUCH"), "no zone file"),
        (lambda _: "", "it has 0 roots"),
        (lambda text: "$INCLUDE /etc/passwd\n" + text, "no zone file"),
        (lambda _: '{"a": 1}', "expected an object of texts"),
    ],
)
def test_damaged_zone_is_refused(run, zone, change, why):
    zone.write_text(change(zone.read_text()))
    code, out, _ = run("verify", zone, "--url", URL) if why != "it has 0 roots" else run("verify", zone)
    assert code == 1
    assert out.startswith("FAILED")
    assert why in out


@pytest.mark.parametrize(
    "content", ["[]", '{"seq": -1}', '{"seq": "1"}', '{"links": ["x"]}', '{"url": 3}', "{", '{"links": 1}']
)
def test_damaged_info_is_named(run, nodes, key, content):
    (nodes / "enrtree-info.json").write_text(content)
    for words in (("verify", nodes), ("sign", nodes, "--key", key)):
        code, out, err = run(*words)
        assert code == 1
        assert "enrtree-info.json" in out + err


def test_unsigned_folder_is_told(run, nodes):
    code, out, _ = run("verify", nodes)
    assert (code, "it is not signed" in out) == (1, True)


# -- sync


async def in_thread(run, *words):
    return await asyncio.to_thread(run, *words)


async def test_list_is_read_from_a_server_that_serves_the_zone(run, zone, tmp_path):
    async with DnsServerAid.of_zone(zone.read_text(), DOMAIN) as server:
        resolver = f"tcp://{HOST}:{server.port}"
        asked = ("--dns-resolver", resolver, "--rate", 100)
        code, out, err = await in_thread(run, "sync", URL, *asked)
        assert (code, out) == (0, "")
        assert f"{DOMAIN}: 40 nodes, 1 links, sequence number 1" in err
        folder = tmp_path / DOMAIN
        said = info(folder)
        assert (said["url"], said["seq"], said["links"]) == (URL, 1, [OTHER])
        content = json.loads((folder / "nodes.json").read_text())
        assert {each["record"] for each in content.values()} == {each.to_text() for each in RECORDS}
        assert all(set(each) == {"seq", "record"} for each in content.values())
        assert run("verify", folder)[0] == 0

        code, out, _ = await in_thread(run, "sync", URL, "--json", "--out", "only.json", *asked)
        said = json.loads(out)
        assert (code, said["seq"], len(said["nodes"]), said["links"]) == (0, 1, 40, [OTHER])
        assert json.loads((tmp_path / "only.json").read_text()) == content

        code, out, _ = await in_thread(run, "verify", URL, *asked)
        assert (code, out.startswith(f"ok      {URL}: sequence number 1, 40 records")) == (0, True)
        assert {way for way, _ in server.asked} == {"tcp"}


@pytest.mark.parametrize("flags", [(), ("--only-onion",), ("--clearnet", "tor")], ids=str)
async def test_where_tor_is_at_hand_everything_goes_through_it(run, zone, monkeypatch, flags):
    def leak(*_, **__):
        raise AssertionError("outside of Tor")

    async with DnsServerAid.of_zone(zone.read_text(), DOMAIN) as server:
        async with SocksServer(routes={("dns.test", 53): (HOST, server.port)}) as proxy:
            for place, name in (
                (socket, "getaddrinfo"),
                (asyncio.BaseEventLoop, "getaddrinfo"),
                (socket.socket, "sendto"),
                (socket.socket, "bind"),
            ):
                monkeypatch.setattr(place, name, leak)
            code, _, err = await in_thread(
                run, "sync", URL, *flags, "--tor-proxy", proxy.address, "--dns-resolver", "tcp://dns.test",
                "--rate", 100, "--out", "nodes.json",
            )  # fmt: skip
        assert (code, "40 nodes" in err) == (0, True), err
        assert {(each.address_type, each.host) for each in proxy.asked} == {(ATYP_NAME, "dns.test")}
        assert all(each.password.startswith(b"dns-") for each in proxy.asked)
        assert len(proxy.asked) <= 4


async def test_list_that_can_not_be_read_says_why_and_writes_nothing(run, zone, tmp_path):
    async with DnsServerAid.of_zone(zone.read_text(), DOMAIN) as server:
        asked = ("--dns-resolver", f"tcp://{HOST}:{server.port}", "--out", "nodes.json")
        other = str(Link(NodeKey(b"\x55" * 32).public_key, DOMAIN))
        code, _, err = await in_thread(run, "sync", other, *asked)
        assert (code, "not signed by the key of the link" in err) == (1, True)
        missing = str(Link(SIGNER.public_key, "missing.example.org"))
        code, _, err = await in_thread(run, "sync", missing, *asked)
        assert (code, "no root of a tree at this name" in err) == (1, True)
        server.act = DnsAct.CLOSE
        code, _, err = await in_thread(run, "sync", URL, *asked)
        assert code == 1
        assert f"not resolved (tcp://{HOST}:{server.port}: the resolver closed" in err
        assert not (tmp_path / "nodes.json").exists()


@pytest.mark.parametrize("action", ["sync", "verify", "sign"])
def test_each_action_explains_itself(run, action):
    code, out, _ = run(action, "--help")
    assert (code, f"usage: pyrelay dns {action}" in out) == (0, True)
    assert max(len(line) for line in out.splitlines()) <= 80
