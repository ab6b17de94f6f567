import dataclasses
import tomllib
from pathlib import Path

import pytest

from relay.chain.forkid import ForkFilter, ForkMismatch, IncompatibleChain, RemoteStale, fork_id
from relay.chain.networks import ChainConfig, from_preset
from relay.primitives.errors import UselessPeer
from relay.primitives.forkid import ForkId
from tests.aids import vectors

PRESETS = Path(__file__).parents[3] / "config" / "networks"
CREATION = vectors.load("forkid/creation.json")["networks"]
VALIDATION = vectors.load("forkid/validation.json")["cases"]
HOLESKY = vectors.load("forkid/holesky.json")
NOVEMBER_2026 = 1795219200
VERDICTS = {"remote stale": RemoteStale, "incompatible": IncompatibleChain}


def preset(name: str) -> ChainConfig:
    return from_preset(tomllib.loads((PRESETS / f"{name}.toml").read_text()))


MAINNET = preset("mainnet")
BLOCKS_ONLY = dataclasses.replace(MAINNET, time_forks=())


@pytest.mark.parametrize("name", CREATION)
def test_creation_vectors_of_geth(name):
    config = preset(name)
    for block, time, digest, following in CREATION[name]:
        assert fork_id(config, block, time) == ForkId(bytes.fromhex(digest), following), (block, time)


def test_creation_vectors_of_holesky():
    config = from_preset(HOLESKY["config"])
    for block, time, digest, following in HOLESKY["cases"]:
        assert fork_id(config, block, time) == ForkId(bytes.fromhex(digest), following), (block, time)


@pytest.mark.parametrize(
    ("name", "digest"), [("mainnet", "07c9462e"), ("sepolia", "6c1d9423"), ("hoodi", "23aa1351")]
)
def test_fork_id_of_november_2026(name, digest):
    assert fork_id(preset(name), None, NOVEMBER_2026) == ForkId(bytes.fromhex(digest), 0)


def test_sepolia_between_bpo2_and_amsterdam():
    assert fork_id(preset("sepolia"), None, 1791294815.9) == ForkId(bytes.fromhex("268956b6"), 1791294816)


@pytest.mark.parametrize(("chain", "block", "time", "digest", "following", "verdict"), VALIDATION)
def test_validation_vectors_of_geth(chain, block, time, digest, following, verdict):
    judge = ForkFilter(MAINNET if chain == "mainnet" else BLOCKS_ONLY)
    remote = ForkId(bytes.fromhex(digest), following)

    if verdict == "accept":
        judge.check(remote, time, block)
    else:
        with pytest.raises(VERDICTS[verdict]):
            judge.check(remote, time, block)


@pytest.mark.parametrize("name", ["mainnet", "sepolia", "hoodi"])
def test_every_state_that_the_chain_went_through_is_accepted_now(name):
    config = preset(name)
    judge = ForkFilter(config)
    for block, time, _, _ in CREATION[name]:
        judge.check(fork_id(config, block, time), NOVEMBER_2026)


def test_other_chains_are_refused_now():
    judge = ForkFilter(MAINNET)
    for name in ("sepolia", "hoodi"):
        with pytest.raises(IncompatibleChain, match="not of this chain"):
            judge.check(fork_id(preset(name), None, NOVEMBER_2026), NOVEMBER_2026)


def test_peer_without_the_newest_fork_is_stale():
    judge = ForkFilter(preset("sepolia"))

    with pytest.raises(RemoteStale, match="268956b6"):
        judge.check(ForkId(bytes.fromhex("268956b6"), 0), NOVEMBER_2026)
    judge.check(ForkId(bytes.fromhex("268956b6"), 1791294816), NOVEMBER_2026)


def test_peer_ahead_of_our_clock_is_accepted():
    ForkFilter(preset("sepolia")).check(ForkId(bytes.fromhex("6c1d9423"), 0), 1791294816 - 60)


def test_chain_without_forks_by_time_counts_blocks():
    judge = ForkFilter(BLOCKS_ONLY)
    same = fork_id(BLOCKS_ONLY, None, NOVEMBER_2026)

    assert same == ForkId(bytes.fromhex("f0afd0e3"), 0)
    judge.check(same, NOVEMBER_2026)
    judge.check(ForkId(same.hash, 16_000_000), NOVEMBER_2026)
    with pytest.raises(IncompatibleChain):
        judge.check(ForkId(same.hash, 15_000_000), NOVEMBER_2026)
    with pytest.raises(IncompatibleChain):
        judge.check(ForkId(same.hash, 1700000000), NOVEMBER_2026)


def test_chain_without_any_fork():
    config = ChainConfig("bare", 5, 5, b"\x05" * 32, 100, (("london", 0),), (("shanghai", 100),))
    only = fork_id(config, None, 0)

    assert only.next == 0
    ForkFilter(config).check(only, NOVEMBER_2026)
    with pytest.raises(IncompatibleChain):
        ForkFilter(config).check(ForkId(b"\x00" * 4, 0), NOVEMBER_2026)


def test_forks_by_time_in_genesis_do_not_count():
    # core/forkid/forkid_test.go, TestTimeBasedForkInGenesis (v1.17.8)
    born = 1690475657
    for shanghai, cancun in [(born - 1, born + 1), (born, born + 1), (born + 1, born + 2)]:
        times = (("shanghai", shanghai), ("cancun", cancun))
        config = ChainConfig("x", 1337, 1337, b"\x01" * 32, born, (("london", 0),), times)
        bare = dataclasses.replace(config, time_forks=())
        assert fork_id(config, 0, born) == ForkId(fork_id(bare, 0, born).hash, born + 1)


def test_mismatch_is_a_useless_peer():
    assert issubclass(ForkMismatch, UselessPeer)
    assert RemoteStale("x").reason == 0x03
