"""The network by name or by the path of a geth genesis.json, and its fork id at this time."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path
from typing import Final

from relay.chain.forkid import fork_id
from relay.chain.genesis import from_geth_genesis
from relay.chain.networks import ChainConfig, from_preset
from relay.discovery.files import read_regular
from relay.primitives.errors import DecodeError, UsageError
from relay.primitives.forkid import ForkId

MAX_GENESIS: Final = 256 << 20  # bytes; mainnet's is 12 MB


def shipped_config() -> Path:
    """The folder config/: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_config"
    return inside if inside.is_dir() else package.parent / "config"


def preset_names() -> tuple[str, ...]:
    """The networks that are shipped."""
    return tuple(sorted(path.stem for path in (shipped_config() / "networks").glob("*.toml")))


def load_network(name: str) -> ChainConfig:
    """Load a shipped network, or a genesis.json as `geth init` takes it.

    Raises:
        UsageError: neither; the text says what is wrong with the file, or which names there are.
    """
    if name in preset_names():
        return from_preset(tomllib.loads((shipped_config() / "networks" / f"{name}.toml").read_text()))
    path = Path(name).expanduser()
    if "/" not in name and not path.exists():
        raise UsageError(
            f"--network {name}: no such network; known: {', '.join(preset_names())},"
            " or the path of a genesis.json"
        )
    return _from_genesis_file(path)


def _from_genesis_file(path: Path) -> ChainConfig:
    try:
        content = read_regular(path, MAX_GENESIS + 1)
        if len(content) > MAX_GENESIS:
            raise UsageError(f"--network {path}: larger than {MAX_GENESIS} bytes")
        genesis = json.loads(content)
        if not isinstance(genesis, dict):
            raise UsageError(f"--network {path}: not a genesis: expected a JSON object")
        return from_geth_genesis(genesis, path.stem)[0]
    except OSError as error:
        raise UsageError(f"--network {path}: {error.strerror}") from None
    except DecodeError as error:
        raise UsageError(f"--network {path}: not a genesis of geth: {error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--network {path}: not JSON: {error}") from None


def current_fork_id(config: ChainConfig) -> ForkId:
    """The fork id that a node at the head would tell now."""
    return fork_id(config, None, time.time())
