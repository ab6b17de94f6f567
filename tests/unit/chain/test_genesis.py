import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.chain.genesis import from_geth_genesis
from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from tests.aids import vectors

NAMES = ("sepolia", "hoodi", "eth_test", "lab_funded", "all_forms", "before_london", "gap_in_optional_fields")
FORMS = vectors.load("genesis/all_forms.json")["genesis"]


@pytest.mark.parametrize("name", NAMES)
def test_hash_is_the_one_that_geth_finds(name):
    vector = vectors.load(f"genesis/{name}.json")

    config, header = from_geth_genesis(vector["genesis"], name)

    assert config.genesis_hash.hex() == vector["hash"]
    assert keccak256(header) == config.genesis_hash
    assert config.name == name
    assert config.chain_id == config.network_id == vector["genesis"]["config"]["chainId"]


def test_forks_and_time_of_a_custom_chain():
    config, _ = from_geth_genesis(vectors.load("genesis/eth_test.json")["genesis"])

    assert config.block_forks[0] == ("homestead", 0)
    assert config.block_forks[-1] == ("mergeNetsplit", 0)
    assert config.time_forks == (
        ("shanghai", 0),
        ("cancun", 60),
        ("prague", 120),
        ("osaka", 180),
        ("bpo1", 240),
        ("bpo2", 300),
        ("amsterdam", 360),
    )
    assert (config.genesis_time, config.bootnodes_v4, config.dns_tree) == (0, (), "")
    assert config.forks_at(200)[-1] == "osaka"


def test_header_has_the_fields_of_its_forks():
    sizes = {
        name: len(rlp.decode(from_geth_genesis(vectors.load(f"genesis/{name}.json")["genesis"])[1]))
        for name in NAMES
    }

    assert sizes == {
        "sepolia": 16,  # London at genesis: base fee
        "hoodi": 20,  # Cancun: withdrawals, blob gas, beacon root
        "eth_test": 17,
        "lab_funded": 21,  # Prague: requests
        "all_forms": 23,  # Amsterdam: access list, slot
        "before_london": 15,
        "gap_in_optional_fields": 19,
    }


def changed(path: str, value: object) -> dict:
    genesis = copy.deepcopy(FORMS)
    *parents, last = path.split("/")
    target = genesis
    for parent in parents:
        target = target[parent]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return genesis


ACCOUNT = "alloc/" + "AB" * 20


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("config", ..., "config is missing"),
        ("config", [], r"config must be an object, found \[\]"),
        ("config/chainId", ..., "config.chainId is missing"),
        ("config/chainId", "1", "config.chainId must be a number from 0 to 2.64-1, found '1'"),
        ("config/chainId", 2**64, "config.chainId must be a number"),
        ("config/londonBlock", True, "config.londonBlock must be a number"),
        ("config/cancunTime", "0x0", "config.cancunTime must be a number"),
        ("config/cancunTime", -1, "config.cancunTime must be a number"),
        ("config/cancunTime", 1.5, "config.cancunTime must be a number"),
        ("config/pragueTime", 7, "prague at 7 must not come after osaka at 0"),
        ("config/berlinBlock", 9, "berlin at 9 must not come after london at 0"),
        ("config/shanghaiTime", ..., "amsterdam is set, but shanghai before it is not"),
        ("config/istanbulBlock", ..., "istanbul before it is not"),
        ("config/enableUBTAtGenesis", True, "enableUBTAtGenesis is not supported"),
        ("alloc", ..., "alloc is missing"),
        ("alloc", "x" * 100, "alloc must be an object, found 'xxx"),
        ("alloc/12", {"balance": "0"}, "alloc key '12' must have 40 hex digits, found 2"),
        ("alloc/zz", {"balance": "0"}, "alloc key 'zz' must be an even number of hex digits"),
        ("alloc/0x" + "ab" * 20, {"balance": "0"}, "twice"),
        (ACCOUNT, 5, "must be an object, found 5"),
        (ACCOUNT + "/balance", ..., "balance is missing"),
        (
            ACCOUNT + "/balance",
            "1e18",
            "balance must be a decimal or 0x number of at most 256 bits, found '1",
        ),
        (ACCOUNT + "/balance", hex(2**256), "balance must be a decimal"),
        (ACCOUNT + "/balance", -1, "balance must be a decimal"),
        (ACCOUNT + "/balance", 1.0, "balance must be a decimal"),
        (ACCOUNT + "/nonce", "0x1" + "0" * 16, "nonce must be a decimal or 0x number of at most 64 bits"),
        (ACCOUNT + "/code", "6001", "code must be 0x and hex digits, found '6001'"),
        (ACCOUNT + "/code", 5, "code must be 0x and hex digits, found 5"),
        (ACCOUNT + "/code", "0x600", "code must be an even number"),
        (ACCOUNT + "/code", "0x60 0", "code must be an even number"),
        (ACCOUNT + "/storage", [], "storage must be an object"),
        (ACCOUNT + "/storage/0x1", "0x1", "even number"),
        (ACCOUNT + "/storage/01", "0x" + "1" * 66, "at most 64 hex digits, found 66"),
        (ACCOUNT + "/storage/01", 5, "must be hex digits, found 5"),
        ("difficulty", ..., "difficulty is missing"),
        ("gasLimit", ..., "gasLimit is missing"),
        ("gasLimit", True, "gasLimit must be a decimal"),
        ("mixhash", "0x11", "mixHash must have 64 hex digits, found 2"),
        ("extraData", "text", "extraData must be 0x and hex digits"),
        ("timestamp", "soon", "timestamp must be a decimal"),
        ("slotNumber", hex(2**64), "slotNumber must be a decimal"),
    ],
)
def test_bad_value_is_refused_by_the_name_of_its_field(path, value, why):
    with pytest.raises(DecodeError, match=why):
        from_geth_genesis(changed(path, value))


@pytest.mark.parametrize("genesis", [[], None, "{}", 5])
def test_what_is_no_object_is_refused(genesis):
    with pytest.raises(DecodeError, match="genesis must be an object"):
        from_geth_genesis(genesis)


def test_empty_string_is_zero_as_in_geth():
    assert from_geth_genesis(changed("timestamp", ""))[1] == from_geth_genesis(changed("timestamp", "0"))[1]


def test_absent_values_take_their_defaults():
    genesis = {"config": {"chainId": 1}, "alloc": {}, "difficulty": 1, "gasLimit": 5}

    config, header = from_geth_genesis(genesis)

    assert (config.block_forks, config.time_forks) == ((), ())
    assert rlp.decode(header)[7:] == [b"\x01", b"", b"\x05", b"", b"", b"", bytes(32), bytes(8)]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(
        [
            "config",
            "alloc",
            "nonce",
            "mixHash",
            "config/chainId",
            "config/bpo1Time",
            ACCOUNT,
            ACCOUNT + "/storage",
        ]
    ),
)
def test_any_json_in_a_field_is_read_or_refused(value, path):
    try:
        config, _ = from_geth_genesis(changed(path, value))
    except DecodeError:
        return
    assert len(config.genesis_hash) == 32
