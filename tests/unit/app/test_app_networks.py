from __future__ import annotations

import json

import pytest

from relay.app import networks
from relay.app.networks import current_fork_id, load_network, preset_names
from relay.primitives.errors import UsageError
from tests.aids.chain import OwnChain


def test_shipped_networks_are_those_of_the_issue():
    assert preset_names() == ("hoodi", "mainnet", "sepolia")
    assert [load_network(name).network_id for name in preset_names()] == [560048, 1, 11155111]
    assert len(current_fork_id(load_network("mainnet")).hash) == 4


def test_a_shipped_name_wins_over_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mainnet").write_text("{}")
    assert load_network("mainnet").network_id == 1


def test_a_genesis_of_geth_is_a_network_named_by_its_file(tmp_path, monkeypatch):
    chain = OwnChain(tmp_path)
    assert load_network(str(chain.genesis)).name == chain.genesis.stem
    monkeypatch.chdir(tmp_path)
    assert load_network(chain.genesis.name).genesis_hash == chain.config.genesis_hash


@pytest.mark.parametrize("name", ["holesky", "main net", ""])
def test_a_name_that_is_none_is_refused_with_those_there_are(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"hoodi, mainnet, sepolia|Is a directory"):
        load_network(name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ("[]", "expected a JSON object"),
        ("null", "expected a JSON object"),
        ("{}", "not a genesis"),
        ('{"config": 5}', "not a genesis"),
        ('{"config": {"chainId": "x"}, "alloc": {}}', "not a genesis"),
        ('{"config": {"chainId": 1}, "alloc": {"zz": {}}}', "not a genesis"),
        ('{"config": {"chainId": 1}, "alloc": []}', "not a genesis"),
        ('{"config": {"chainId": -1}, "alloc": {}, "difficulty": {}}', "not a genesis"),
    ],
)
def test_a_file_that_is_no_genesis_is_refused(tmp_path, content, words):
    path = tmp_path / "genesis.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=words) as failure:
        load_network(str(path))
    assert str(path) in str(failure.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        load_network(str(tmp_path / "genesis.json"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not JSON"):
        load_network(str(tmp_path / "binary"))


def test_a_file_larger_than_any_genesis_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "MAX_GENESIS", 1000)
    path = tmp_path / "genesis.json"
    path.write_bytes(b" " * 1001)
    with pytest.raises(UsageError, match="larger than 1000 bytes"):
        load_network(str(path))


def test_any_part_of_a_genesis_may_be_of_the_wrong_type(tmp_path):
    whole = json.loads(OwnChain(tmp_path).genesis.read_text())
    path = tmp_path / "wrong.json"
    for key in whole:
        for wrong in ("zz", [], {"x": []}, -1, 1.5, True):
            path.write_text(json.dumps({**whole, key: wrong}))
            try:
                load_network(str(path))
            except UsageError:
                continue
