"""static-nodes.json: what is used, what is named and skipped, what leaves the earlier set in force."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from relay.discovery.static_nodes import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    StaticNodes,
    StaticNodesFile,
    log_static_nodes,
    parse_static_nodes,
)
from relay.primitives.endpoint import Network
from relay.primitives.enr import build_record
from relay.primitives.errors import LocalError
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey

ONION = OnionKey.from_seed(bytes(range(32))).address


def key(number: int) -> NodeKey:
    return NodeKey(number.to_bytes(32, "big"))


def enode(number: int, host: str = "192.0.2.1", port: int = 30303) -> str:
    return f"enode://{key(number).public_key.hex()}@{host}:{port}"


def parse(*entries: object) -> StaticNodes:
    return parse_static_nodes(json.dumps(entries).encode())


def test_enodes_with_ip_onion_and_name_and_records_are_used() -> None:
    record = build_record(key(4), 1, tcp=30303, onion3=ONION).to_text()
    found = parse(enode(1), enode(2, ONION), enode(3, "relay.example.org"), f"  {record}\n")
    assert found.rejected == ()
    assert [node.public_key for node in found.nodes] == [key(number).public_key for number in (1, 2, 3, 4)]
    assert [node.endpoints[0].network for node in found.nodes] == [
        Network.IPV4,
        Network.ONION,
        Network.DNS,
        Network.ONION,
    ]


def test_random_node_ids_of_the_seeds_are_named_and_skipped() -> None:
    """What the pods wrote: 128 random hex digits, of which half are no point of the curve."""
    invalid = "ff" * 64
    found = parse(f"enode://{invalid}@{ONION}:30303", enode(1, ONION))
    assert [node.public_key for node in found.nodes] == [key(1).public_key]
    (rejected,) = found.rejected
    assert rejected.index == 0
    assert "is not a point of secp256k1" in rejected.why
    assert rejected.text.startswith("enode://ffff")
    assert "entry 0 (enode://ffff" in str(rejected)


def test_metadata_of_pods_is_named_and_skipped() -> None:
    pod = {"onion": ONION, "nodeId": "pod-gethrelay-only-onion-1-0", "port": 30303}
    found = parse(pod, "pod-gethrelay-only-onion-1-0", 7, 1.5, None, True, [], {}, enode(1))
    assert len(found.nodes) == 1
    assert [each.index for each in found.rejected] == list(range(8))
    assert "keys: onion, nodeId, port" in found.rejected[0].why
    assert 'begins with "enode://"' in found.rejected[1].why


def test_an_object_in_place_of_the_array_is_refused_with_its_keys() -> None:
    pod = json.dumps({"onion": ONION, "nodeId": "pod-1", "\x1b[31m": 1}).encode()
    with pytest.raises(LocalError, match=r"keys onion, nodeId, \?\[31m, expected an array"):
        parse_static_nodes(pod)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (
            enode(1, ONION[:-8] + "aaa.onion" if not ONION.endswith("aaad.onion") else "b" * 56 + ".onion"),
            "onion",
        ),
        (f"enode://{key(1).public_key.hex()}", "no host"),
        (enode(1, port=0), "no host"),
        (enode(1, port=70000), "port"),
        ("enode://abcd@192.0.2.1:30303", "128"),
        ("enr:-abc", ""),
        (build_record(key(1), 1).to_text(), "no host"),
    ],
)
def test_bad_entry_says_what_is_wrong(entry: str, why: str) -> None:
    found = parse(entry, enode(9))
    assert len(found.nodes) == 1
    assert why in found.rejected[0].why


def test_one_key_with_two_addresses_is_one_node() -> None:
    found = parse(enode(1), enode(1, ONION), enode(1))
    (node,) = found.nodes
    assert [each.network for each in node.endpoints] == [Network.IPV4, Network.ONION]
    assert "duplicate" in found.rejected[0].why


@pytest.mark.parametrize("empty", [b"", b" \n", b"[]", b"null", b"\xef\xbb\xbf[]"])
def test_empty_file_is_an_empty_set(empty: bytes) -> None:
    assert parse_static_nodes(empty) == StaticNodes()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[1,", "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b'"enode://"', "holds a string"),
        (b"7", "holds a number"),
        (b"[" * 200_000, "not JSON"),
        (b"9" * 6000, "not JSON"),
        (b" " * (MAX_FILE_BYTES + 1), "more than"),
        (b"[" + b"0," * MAX_ENTRIES + b"0]", "entries"),
    ],
)
def test_bad_file_is_refused_in_words(data: bytes, why: str) -> None:
    with pytest.raises(LocalError, match=why):
        parse_static_nodes(data, "nodes.json")


@given(
    st.binary(max_size=300)
    | st.recursive(st.none() | st.text(), lambda x: st.lists(x)).map(json.dumps).map(str.encode)
)
def test_no_content_breaks_the_parser(data: bytes) -> None:
    with contextlib.suppress(LocalError):
        parse_static_nodes(data)


def write(path: Path, *entries: object) -> None:
    """Replace atomically, as a careful writer does: a new inode each time."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(entries))
    os.replace(fresh, path)


def test_change_is_seen_once(tmp_path: Path) -> None:
    path = tmp_path / "static-nodes.json"
    write(path, enode(1))
    file = StaticNodesFile(path)
    assert file.path == path
    assert len(file.load().nodes) == 1
    assert file.poll() is None
    write(path, enode(1), enode(2))
    found = file.poll()
    assert found is not None
    assert len(found.nodes) == 2
    assert file.poll() is None
    write(path, enode(1), enode(2))
    assert file.poll() is None, "another inode with the same content changes nothing"


def test_half_written_file_is_read_again_before_it_is_complained_of(tmp_path: Path) -> None:
    path = tmp_path / "static-nodes.json"
    write(path, enode(1))
    file = StaticNodesFile(path)
    file.load()
    path.write_text('["enode://')
    assert file.poll() is None
    write(path, enode(2))
    found = file.poll()
    assert found is not None
    assert found.nodes[0].public_key == key(2).public_key


def test_broken_file_is_complained_of_once_and_leaves_the_earlier_set(tmp_path: Path) -> None:
    path = tmp_path / "static-nodes.json"
    write(path, enode(1))
    file = StaticNodesFile(path)
    file.load()
    path.write_text('["enode://')
    assert file.poll() is None
    with pytest.raises(LocalError, match="not JSON"):
        file.poll()
    assert file.poll() is None
    assert len(file.current.nodes) == 1
    assert file.failures == 1


def test_truncated_file_is_looked_at_twice_before_it_empties_the_set(tmp_path: Path) -> None:
    path = tmp_path / "static-nodes.json"
    write(path, enode(1))
    file = StaticNodesFile(path)
    file.load()
    path.write_text("")
    assert file.poll() is None
    assert file.poll() == StaticNodes()


def test_missing_file_is_an_empty_set_unless_it_was_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.json"
    assert StaticNodesFile(path).load() == StaticNodes()
    named = StaticNodesFile(path, required=True)
    with pytest.raises(LocalError, match="does not exist"):
        named.load()
    assert named.poll() is None
    write(path, enode(1))
    found = named.poll()
    assert found is not None
    assert len(found.nodes) == 1


def test_unreadable_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot be read"):
        StaticNodesFile(tmp_path).load()
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(LocalError, match="more than"):
        StaticNodesFile(path).load()


def test_pipe_in_place_of_the_file_is_refused_and_waits_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "static-nodes.json"
    os.mkfifo(path)
    with pytest.raises(LocalError, match="not a regular file"):
        StaticNodesFile(path).load()


async def test_watcher_applies_changes_and_outlives_bad_ones(tmp_path: Path) -> None:
    path = tmp_path / "static-nodes.json"
    path.write_text("{}")
    file = StaticNodesFile(path, required=True)
    applied: list[StaticNodes] = []
    came = asyncio.Event()

    def apply(found: StaticNodes) -> None:
        applied.append(found)
        came.set()

    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            watching = group.create_task(file.watch(apply, pause=0))
            while not file.failures:
                await asyncio.sleep(0)
            write(path, enode(1), "rubbish")
            await came.wait()
            watching.cancel()
    assert len(applied) == 1
    events = [entry["event"] for entry in logs]
    assert "static nodes not reloaded" in events
    assert events.index("static node rejected") < events.index("static nodes read")


def test_log_names_what_was_rejected() -> None:
    with structlog.testing.capture_logs() as logs:
        log_static_nodes(parse(enode(1), "x"))
    assert [(entry["event"], entry.get("index")) for entry in logs] == [
        ("static node rejected", 1),
        ("static nodes read", None),
    ]
    assert logs[1]["loaded"] == 1
