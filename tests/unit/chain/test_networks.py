import tomllib
from pathlib import Path

import pytest

from relay.chain.networks import BLOCK_FORKS, TIME_FORKS, ChainConfig, from_preset
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.primitives.node import Node

PRESETS = Path(__file__).parents[3] / "config" / "networks"
NAMES = ("mainnet", "sepolia", "hoodi")


def read(name: str) -> dict:
    return tomllib.loads((PRESETS / f"{name}.toml").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_shipped_preset_is_whole(name):
    config = from_preset(read(name))

    assert config.name == name
    assert config.network_id == config.chain_id
    assert config.dns_tree.startswith("enrtree://")
    assert config.dns_tree.endswith(f"@all.{name}.ethdisco.net")
    assert all(Node.parse(text) for text in config.bootnodes_v4)
    assert all(NodeRecord.from_text(text) for text in config.bootnodes_v5)
    assert len(config.bootnodes_v4) >= 8
    assert len(config.bootnodes_v5) >= 20


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_of_a_preset_has_a_comment(name):
    before = ""
    for line in (PRESETS / f"{name}.toml").read_text().splitlines():
        if line and line[0].isalpha() and before.strip() == "":
            raise AssertionError(line)
        before = line


@pytest.mark.parametrize(
    ("name", "now", "newest", "not_yet"),
    [
        ("mainnet", 1764798550, "prague", "osaka"),
        ("mainnet", 1764798551, "osaka", "bpo1"),
        ("mainnet", 1795000000, "bpo2", "amsterdam"),
        ("sepolia", 1791294815, "bpo2", "amsterdam"),
        ("sepolia", 1791294816, "amsterdam", "bogota"),
        ("hoodi", 0, "cancun", "prague"),
    ],
)
def test_forks_come_into_force_at_their_time(name, now, newest, not_yet):
    forks = from_preset(read(name)).forks_at(now)

    assert forks[-1] == newest
    assert not_yet not in forks
    assert "london" in forks


def changed(**settings: object) -> dict:
    preset = read("hoodi") | settings
    return {key: value for key, value in preset.items() if value is not ...}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"name": ...}, "name must be of type str, found nothing"),
        ({"name": 5}, "name must be of type str, found int"),
        ({"chain_id": "1"}, "chain_id must be of type int, found str"),
        ({"chain_id": True}, "chain_id must be of type int, found bool"),
        ({"network_id": -1}, "network_id must be between 0"),
        ({"network_id": 2**64}, "network_id must be between 0"),
        ({"genesis_hash": "0x00"}, "genesis_hash must be 0x and 64"),
        ({"genesis_hash": "zz" * 32}, "genesis_hash must be 0x and 64"),
        ({"genesis_hash": "00 " * 31 + "00"}, "genesis_hash must be 0x and 64"),
        ({"bootnodes_v4": "enode"}, "bootnodes_v4 must be of type list"),
        ({"bootnodes_v5": [1]}, "bootnodes_v5 must hold strings"),
        ({"dns_tree": ...}, "dns_tree"),
        ({"time_forks": []}, "time_forks must be of type dict"),
        ({"time_forks": {"tomorrow": 1}}, "unknown fork 'tomorrow'"),
        ({"block_forks": {"london": "0"}}, "london must be of type int"),
        ({"bootnode": []}, "unknown setting 'bootnode'"),
    ],
)
def test_bad_preset_is_refused_by_the_name_of_the_setting(settings, why):
    with pytest.raises(DecodeError, match=why):
        from_preset(changed(**settings))


def test_forks_of_a_preset_are_put_in_order():
    config = from_preset(changed(time_forks={"cancun": 5, "shanghai": 5}))
    assert config.time_forks == (("shanghai", 5), ("cancun", 5))


def test_chain_without_ways_in_needs_no_lists():
    config = ChainConfig("x", 1, 1, bytes(32), 0, (), ())
    assert (config.bootnodes_v4, config.bootnodes_v5, config.dns_tree, config.forks_at(9)) == ((), (), "", ())


def test_fork_names_are_geths():
    assert len(set(BLOCK_FORKS + TIME_FORKS)) == 27
