"""A node key that changes networks is told of, since it links them."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from relay.app.datadir import DataDir
from relay.app.key_use import KEY_USE, MAX_KEYS, note_key_use
from relay.primitives.errors import StorageError
from tests.aids.peering import key_of

TOR = {"tor_proxy": "127.0.0.1:9050"}
MODES = {
    "no tor": {},
    "one for both": TOR | {"single_identity": "true"},
    "only onion": TOR | {"only_onion": "true"},
    "exits": TOR | {"clearnet": "tor"},
}


@pytest.fixture
def data(tmp_path):
    return DataDir(tmp_path / "data")


def warnings(settings, data, key=1):
    with capture_logs() as logs:
        note_key_use(settings, data, key_of(key).public_key)
    return [each["event"] for each in logs]


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ("no tor", "no tor", None),
        ("no tor", "one for both", None),
        ("only onion", "exits", None),
        ("no tor", "only onion", "used on clearnet before"),
        ("one for both", "exits", "used on clearnet before"),
        ("only onion", "no tor", "used on the onion network before"),
        ("one for both", "no tor", "used on the onion network before"),
    ],
)
def test_a_key_that_changes_networks_is_told_of_each_time(settings_of, data, before, now, words):
    assert warnings(settings_of(**MODES[before]), data) == []
    for _ in range(2):
        found = warnings(settings_of(**MODES[now]), data)
        assert found == [] if words is None else words in found[0]
    assert warnings(settings_of(**MODES[now]), data, key=2) == []


def test_a_damaged_file_is_none_and_the_latest_keys_are_kept(settings_of, data):
    for damaged in ([], {"x": 3}, {"x": ["moon"]}):
        data.save_state(KEY_USE, damaged)
        assert warnings(settings_of(), data) == []
    for number in range(1, 2 * MAX_KEYS):
        note_key_use(settings_of(), data, key_of(number).public_key)
    assert len(json.loads((data.path / KEY_USE).read_text())) == MAX_KEYS


def test_a_full_disk_is_only_a_warning(settings_of, data, monkeypatch):
    def fail(*_):
        raise StorageError("the disk is full")

    monkeypatch.setattr(data, "save_state", fail)
    assert warnings(settings_of(), data) == ["the use of the node key is not written down"]
