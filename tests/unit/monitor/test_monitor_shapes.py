import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.monitor.shapes import MAX_PEERS, PeerReader, beacon_peers, execution_peers
from tests.unit.monitor.conftest import FIXTURES, fixture


def table(name: str, **options: bool) -> list[tuple[object, ...]]:
    return [
        (each.name.client, each.direction, each.address.network, each.static, each.trusted,
         each.eth, each.snap, each.head)
        for each in execution_peers(fixture(name)["result"], **options).peers
    ]  # fmt: skip


def test_every_fixture_names_where_its_shape_is_from() -> None:
    for path in FIXTURES.glob("*.json"):
        assert len(json.loads(path.read_text())["source"]) > 20, path


def test_geth() -> None:
    assert table("geth") == [
        ("geth", "out", "private", True, False, 69, 1, 23_900_000),
        ("nethermind", "in", "ipv6", False, True, 68, 1, None),
        ("-", "in", "loopback", False, False, None, None, None),
    ]


def test_reth_tells_of_eth_only() -> None:
    assert table("reth") == [("reth", "out", "private", False, False, 70, None, None)]


def test_nethermind() -> None:
    assert table("nethermind") == [("geth", "in", "ipv4", False, False, 68, 1, None)]


def test_old_nethermind_tells_no_direction() -> None:
    [found] = execution_peers(fixture("nethermind-1.31")["result"]).peers

    assert (found.inbound, found.static, found.eth, found.name.version) == (None, True, 68, "v3.0.2")
    assert str(found.address) == "93.184.216.34:30304"
    assert len(found.key) == 128


def test_besu_names_peers_by_their_public_key() -> None:
    assert table("besu") == [
        ("besu", "out", "ipv4", False, False, 69, 1, None),
        ("nimbus", "in", "private", False, False, 68, None, None),
    ]
    assert len(execution_peers(fixture("besu")["result"]).peers[0].key) == 2 + 128


def test_erigon_tells_what_is_offered() -> None:
    assert table("erigon") == [("erigon", "in", "ipv4", False, False, 68, None, None)]


def test_pyrelay_has_peers_without_an_address_through_its_onion() -> None:
    assert [row[2] for row in table("pyrelay", of_pyrelay=True)] == ["onion", "onion"]
    assert [row[2] for row in table("pyrelay")] == ["onion", "unknown"]


def test_beacon_nodes() -> None:
    prysm, nimbus = (beacon_peers(fixture(name)["data"]) for name in ("prysm", "nimbus"))

    assert [(each.direction, each.address.network) for each in prysm.peers] == [
        ("in", "ipv4"),
        ("out", "ipv6"),
    ]
    assert prysm.waiting == 1
    assert nimbus.peers[0].name.client == "lighthouse"


WORD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
JSON = WORD | st.lists(WORD, max_size=3) | st.dictionaries(st.text(max_size=4), WORD, max_size=3)
FIELDS = (
    "id", "enode", "name", "caps", "network", "protocols", "clientId", "host", "port", "address",
    "ethDetails", "peer_id", "state", "direction", "last_seen_p2p_address", "agent", "remoteAddress",
    "eth", "version",
)  # fmt: skip


OBJECTS = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6)
ENTRIES = st.dictionaries(st.sampled_from(FIELDS), JSON | OBJECTS, max_size=8)


@given(st.lists(JSON | ENTRIES, max_size=4))
def test_whatever_comes_is_a_peer_or_counted(entries: list[object]) -> None:
    for found in (execution_peers(entries), beacon_peers(entries)):
        assert len(found.peers) + found.refused + found.waiting == len(entries)
        assert all(each.key and each.key.isprintable() for each in found.peers)


def test_second_entry_of_a_peer_is_refused() -> None:
    [first, *_] = fixture("geth")["result"]

    found = execution_peers([first, first, {"name": "no id"}, "text"])

    assert (len(found.peers), found.refused) == (1, 3)


def test_endless_list_is_cut() -> None:
    found = execution_peers({"id": f"{number:x}"} for number in range(MAX_PEERS + 5))

    assert (len(found.peers), found.refused) == (MAX_PEERS, 5)


@pytest.mark.parametrize("version", [None, "69", -1, 5000, [69], True, "0x" + "f" * 40])
def test_odd_versions_are_unknown(version: object) -> None:
    [found] = execution_peers([{"id": "a", "protocols": {"eth": {"version": version}}}]).peers

    assert found.eth == (69 if version == "69" else None)


@pytest.mark.parametrize(
    "name", ["geth", "reth", "nethermind", "nethermind-1.31", "besu", "erigon", "pyrelay"]
)
def test_second_reading_tells_the_same_as_the_first(name: str) -> None:
    reader, entries = PeerReader(), fixture(name)["result"]

    assert reader.read(entries) == reader.read(entries) == execution_peers(entries)
    assert reader.read(entries, of_pyrelay=True) == execution_peers(entries, of_pyrelay=True)


CHANGES = (
    ("id", "ee" * 32), ("enode", "enode://other"), ("name", "other/v1.0"), ("caps", ["eth/70"]),
    ("network.remoteAddress", "8.8.8.8:1"), ("network.inbound", True), ("network.trusted", True),
    ("network.static", False), ("protocols.eth.version", 70), ("protocols.eth.latestBlock", 5),
    ("protocols.snap", {"version": 2}), ("protocols.snap", None), ("protocols.eth", "handshake"),
    ("protocols", {"eth": {"version": 69, "latestBlock": 23900000}}),
)  # fmt: skip


@pytest.mark.parametrize(("field", "value"), CHANGES)
def test_whatever_changes_of_a_peer_is_seen(field: str, value: object) -> None:
    reader, [entry, *_] = PeerReader(), fixture("geth")["result"]
    [before] = reader.read([entry]).peers
    place, names = entry, field.split(".")
    for each in names[:-1]:
        place = place[each]
    place[names[-1]] = value

    [after] = reader.read([entry]).peers

    assert after == execution_peers([entry]).peers[0]
    assert after != before
    assert reader.read([entry]).peers[0] == after


@given(st.lists(JSON | ENTRIES, max_size=4))
def test_reading_again_never_differs_from_reading_anew(entries: list[object]) -> None:
    reader = PeerReader()

    assert repr(reader.read(entries)) == repr(reader.read(entries)) == repr(execution_peers(entries))
