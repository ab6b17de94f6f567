"""Fork ids of the wild in words."""

from __future__ import annotations

from relay.app.networks import load_network
from relay.chain.forkid import fork_id
from relay.chain.forknames import ForkName, ForkNames
from relay.chain.networks import ChainConfig
from relay.primitives.forkid import ForkId

MAINNET, SEPOLIA = load_network("mainnet"), load_network("sepolia")


def named(names: ForkNames, digits: str) -> ForkName | None:
    return names.name(ForkId(bytes.fromhex(digits), 0))


def test_hashes_of_eip_2124_have_their_names():
    names = ForkNames([MAINNET, SEPOLIA])
    # EIP-2124's own test vectors for mainnet, and go-ethereum core/forkid/forkid_test.go.
    assert named(names, "fc64ec04") == ForkName("mainnet", "genesis")
    assert named(names, "97c2c34c") == ForkName("mainnet", "homestead")
    assert named(names, "91d1f948") == ForkName("mainnet", "daoFork")
    assert named(names, "668db0af") == ForkName("mainnet", "petersburg")
    assert named(names, "dce96c2d") == ForkName("mainnet", "shanghai")
    assert named(names, "9f3d2254") == ForkName("mainnet", "cancun")
    assert named(names, "fe3366e7").chain == "sepolia"
    assert named(names, "88cf81d9") == ForkName("sepolia", "cancun")
    assert named(names, "deadbeef") is None


def test_a_chain_that_begins_with_its_newest_fork_is_named_by_it():
    chain = ChainConfig(
        "mine", 7, 7, bytes(32), 100, (("berlin", 0), ("london", 0)), (("shanghai", 0), ("osaka", 100))
    )
    names = ForkNames([chain])
    assert names.name(fork_id(chain, None, 1000.0)) == ForkName("mine", "osaka")


def test_the_chain_that_was_given_first_has_a_hash_that_two_share():
    twin = ChainConfig("twin", 1, 1, MAINNET.genesis_hash, 0, (), ())
    assert named(ForkNames([twin, MAINNET]), "fc64ec04") == ForkName("twin", "genesis")
    assert named(ForkNames([MAINNET, twin]), "fc64ec04") == ForkName("mainnet", "genesis")
