"""Custom chains: geth's genesis.json to a chain configuration with the genesis hash.

The rules are geth's (core/genesis.go, ToBlock; core/gen_genesis.go for the values' forms), so that both find
the same hash. Field names match in any case, as with Go's JSON decoder; unknown fields are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from relay.chain.networks import BLOCK_FORKS, MAX_UINT64, TIME_FORKS, ChainConfig, Fork
from relay.chain.trie import EMPTY_ROOT, trie_root
from relay.primitives import rlp
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256

__all__ = ["from_geth_genesis"]

DEFAULT_GAS_LIMIT: Final = 4712388  # params.GenesisGasLimit: what a gas limit of 0 means
INITIAL_BASE_FEE: Final = 1_000_000_000  # wei; EIP-1559
EMPTY_LIST_HASH: Final = keccak256(b"\xc0")  # no uncles; an empty block access list (EIP-7928)
EMPTY_CODE_HASH: Final = keccak256(b"")
# sha256 of nothing: no requests. EIP-7685
EMPTY_REQUESTS_HASH: Final = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
_ZERO_HASH: Final = bytes(32)
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,64}|[0-9]{1,78}")

# Forks that may be left out while later ones are set. Spec: params/config.go, CheckConfigForkOrder.
_REQUIRED: Final = frozenset(BLOCK_FORKS) - {
    "daoFork",
    "muirGlacier",
    "arrowGlacier",
    "grayGlacier",
    "mergeNetsplit",
} | {"shanghai"}


def from_geth_genesis(genesis: Mapping[str, object], name: str = "custom") -> tuple[ChainConfig, bytes]:
    """Read a parsed genesis.json.

    Returns:
        The chain, its network id equal to its chain id (geth's default), and the RLP of its genesis header.

    Raises:
        DecodeError: a value is missing or malformed (names the field and what was expected), forks are out
            of order, or the genesis state is a binary tree, which is not supported.
    """
    top = _Fields(genesis, "genesis")
    config = _Fields(top.require("config"), "config")
    if config.get("enableUBTAtGenesis"):
        raise DecodeError("genesis: config.enableUBTAtGenesis is not supported")
    blocks = _forks(config, BLOCK_FORKS, "Block")
    times = _forks(config, TIME_FORKS, "Time")
    _check_order(blocks, times)
    header = _header(top, dict(blocks), dict(times))
    chain_id = config.whole("chainId")
    return ChainConfig(
        name=name,
        network_id=chain_id,
        chain_id=chain_id,
        genesis_hash=keccak256(header),
        genesis_time=top.number("timestamp", 64, 0),
        block_forks=blocks,
        time_forks=times,
    ), header


def _header(top: _Fields, blocks: Mapping[str, int], times: Mapping[str, int]) -> bytes:
    fields: list[rlp.Encodable] = [
        top.fixed("parentHash", 32),
        EMPTY_LIST_HASH,
        top.fixed("coinbase", 20),
        _state_root(_Fields(top.require("alloc"), "alloc")),
        EMPTY_ROOT,
        EMPTY_ROOT,
        bytes(256),
        top.number("difficulty", 256),
        top.number("number", 64, 0),
        top.number("gasLimit", 64) or DEFAULT_GAS_LIMIT,
        top.number("gasUsed", 64, 0),
        top.number("timestamp", 64, 0),
        top.data("extraData"),
        top.fixed("mixHash", 32),
        top.number("nonce", 64, 0).to_bytes(8, "big"),
    ]
    optional = _fork_fields(top, blocks, times)
    while optional and optional[-1] is None:
        optional.pop()
    # go-ethereum's rlp:"optional": what is absent before something present is an empty string.
    return rlp.encode(fields + [b"" if field is None else field for field in optional])


def _fork_fields(
    top: _Fields, blocks: Mapping[str, int], times: Mapping[str, int]
) -> list[rlp.Encodable | None]:
    """Return the header fields that forks added, in their order; None where absent."""
    number, timestamp = top.number("number", 64, 0), top.number("timestamp", 64, 0)
    london = blocks.get("london", MAX_UINT64 + 1)

    def active(fork: str) -> bool:
        return london <= number and times.get(fork, MAX_UINT64 + 1) <= timestamp

    base_fee = top.optional_number("baseFeePerGas", 256)
    excess_blob_gas = top.optional_number("excessBlobGas", 64)
    return [
        INITIAL_BASE_FEE if base_fee is None and london == 0 else base_fee,
        EMPTY_ROOT if active("shanghai") else None,
        top.number("blobGasUsed", 64, 0) if active("cancun") else None,
        excess_blob_gas or 0 if active("cancun") else excess_blob_gas,
        _ZERO_HASH if active("cancun") else None,
        EMPTY_REQUESTS_HASH if active("prague") else None,
        EMPTY_LIST_HASH if active("amsterdam") else None,
        top.number("slotNumber", 64, 0) if active("amsterdam") else None,
    ]


def _state_root(alloc: _Fields) -> bytes:
    accounts = {}
    for key, value in alloc.items():
        address = _hex(key.removeprefix("0x"), 20, f"alloc key {key!r}")
        if address in accounts:
            raise DecodeError(f"genesis: alloc holds {key!r} twice")
        accounts[address] = _account(_Fields(value, f"alloc.{key}"))
    return trie_root((keccak256(address), account) for address, account in accounts.items())


def _account(fields: _Fields) -> bytes:
    storage = fields.get("storage")
    slots = {} if storage is None else _slots(_Fields(storage, f"{fields.path}.storage"))
    code = fields.data("code")
    return rlp.encode(
        [
            fields.number("nonce", 64, 0),
            fields.number("balance", 256),
            trie_root((keccak256(slot), value) for slot, value in slots.items()),
            keccak256(code) if code else EMPTY_CODE_HASH,
        ]
    )


def _slots(storage: _Fields) -> dict[bytes, bytes]:
    """Return slot and encoded value; a value of zero is an absent one."""
    slots = {}
    for key, value in storage.items():
        content = _padded(value, f"{storage.path}.{key}").lstrip(b"\x00")
        slots[_padded(key, f"{storage.path} key {key!r}")] = rlp.encode(content) if content else b""
    return slots


def _forks(config: _Fields, names: tuple[str, ...], suffix: str) -> tuple[Fork, ...]:
    found = ((name, config.get(name + suffix)) for name in names)
    return tuple((name, config.whole(name + suffix)) for name, value in found if value is not None)


def _check_order(blocks: tuple[Fork, ...], times: tuple[Fork, ...]) -> None:
    """Forks must follow the known sequence. Spec: params/config.go, CheckConfigForkOrder."""
    for forks in (blocks, times):
        for (earlier, at), (later, then) in pairwise(forks):
            if at > then:
                raise DecodeError(f"genesis: config: {earlier} at {at} must not come after {later} at {then}")
    present = [name for name, _ in blocks + times]
    known = BLOCK_FORKS + TIME_FORKS
    newest = max((known.index(name) for name in present), default=0)
    for name in known[:newest]:
        if name in _REQUIRED and name not in present:
            raise DecodeError(f"genesis: config: {known[newest]} is set, but {name} before it is not")


class _Fields:
    """A JSON object with typed access; every complaint names the field."""

    __slots__ = ("_values", "path")

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise DecodeError(f"genesis: {path} must be an object, found {_shown(value)}")
        self.path = path
        self._values: dict[str, tuple[str, object]] = {str(k).lower(): (str(k), v) for k, v in value.items()}

    def items(self) -> list[tuple[str, object]]:
        return list(self._values.values())

    def get(self, key: str) -> object:
        return self._values.get(key.lower(), (key, None))[1]

    def require(self, key: str) -> object:
        value = self.get(key)
        if value is None:
            raise DecodeError(f"genesis: {self._name(key)} is missing")
        return value

    def whole(self, key: str) -> int:
        """A plain JSON number, as everywhere under config."""
        value = self.require(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_UINT64:
            raise DecodeError(
                f"genesis: {self._name(key)} must be a number from 0 to 2^64-1, found {_shown(value)}"
            )
        return value

    def number(self, key: str, bits: int, default: int | None = None) -> int:
        """A number, or a string with a decimal or a 0x number; required where there is no default."""
        value = self.optional_number(key, bits)
        if value is not None:
            return value
        if default is None:
            raise DecodeError(f"genesis: {self._name(key)} is missing")
        return default

    def optional_number(self, key: str, bits: int) -> int | None:
        value = self.get(key)
        if value is None:
            return None
        number = _number(value)
        if number is None or number >> bits:
            raise DecodeError(
                f"genesis: {self._name(key)} must be a decimal or 0x number of at most {bits} bits,"
                f" found {_shown(value)}"
            )
        return number

    def data(self, key: str) -> bytes:
        value = self.get(key)
        if value is None:
            return b""
        if not isinstance(value, str) or not value.startswith("0x"):
            raise DecodeError(f"genesis: {self._name(key)} must be 0x and hex digits, found {_shown(value)}")
        return _hex(value[2:], None, self._name(key))

    def fixed(self, key: str, size: int) -> bytes:
        if self.get(key) is None:
            return bytes(size)
        return _hex(self.data(key).hex(), size, self._name(key))

    def _name(self, key: str) -> str:
        return key if self.path == "genesis" else f"{self.path}.{key}"


def _number(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    if value == "":
        return 0
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return None
    return int(value, 16 if value[:2].lower() == "0x" else 10)


def _padded(value: object, field: str) -> bytes:
    """A storage key or value: up to 64 hex digits, 0x or not, filled up on the left."""
    if not isinstance(value, str):
        raise DecodeError(f"genesis: {field} must be hex digits, found {_shown(value)}")
    content = _hex(value.removeprefix("0x"), None, field)
    if len(content) > 32:
        raise DecodeError(f"genesis: {field} must have at most 64 hex digits, found {2 * len(content)}")
    return content.rjust(32, b"\x00")


def _hex(digits: str, size: int | None, field: str) -> bytes:
    try:
        content = bytes.fromhex(digits)
    except ValueError:
        content = None
    # fromhex skips spaces, which nothing here allows.
    if content is None or 2 * len(content) != len(digits):
        raise DecodeError(f"genesis: {field} must be an even number of hex digits")
    if size is not None and len(content) != size:
        raise DecodeError(f"genesis: {field} must have {2 * size} hex digits, found {len(digits)}")
    return content


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
