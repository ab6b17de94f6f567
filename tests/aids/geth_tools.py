"""geth's programs: where they are, their console, their conformance suites, and a genesis for them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from relay.localnet.genesis import throwaway_genesis

__all__ = [
    "CHAIN_ID",
    "GENESIS_TIME",
    "Unfinished",
    "attach",
    "geth_folder",
    "leash",
    "run_devp2p",
    "write_genesis",
]

ROOT = Path(__file__).parents[2]
CHAIN_ID = 7799
GENESIS_TIME = 1_700_000_000
SYSTEM_CONTRACTS = (
    "00000961ef480eb55e80d19ad83579a64c007002",  # EIP-7002
    "0000bbddc7ce488642fb579f8b00f3a590007251",  # EIP-7251
    "0000f90827f1c53a10cb7a02335b175320002935",  # EIP-2935
    "000f3df6d732807ef1319fb7b8bb8522d0beac02",  # EIP-4788
)


@cache
def geth_folder(version: str = "") -> Path:
    """Where geth, devp2p and testdata are; built by tools/install-geth.sh when nobody told by variable.

    Args:
        version: another one than the script's own, as v1.17.0.
    """
    folder = "" if version else os.environ.get("PYRELAY_TEST_GETH")
    if not folder:
        script = subprocess.run(
            [ROOT / "tools" / "install-geth.sh"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ({"GETH_VERSION": version} if version else {}),
        )
        folder = script.stdout.strip()
    return Path(folder)


def write_genesis(
    path: Path, funded: Iterable[bytes] = (), chain_id: int = CHAIN_ID, timestamp: int = GENESIS_TIME
) -> Path:
    """Write a genesis.json with every fork up to Osaka active and the system contracts that blocks need.

    Args:
        path: of the file; returned.
        funded: addresses with a thousand ether each.
        chain_id: no part of the genesis hash.
        timestamp: Unix seconds; another one makes another genesis hash.
    """
    genesis = throwaway_genesis(chain_id, funded, timestamp)
    alloc = genesis["alloc"]
    assert isinstance(alloc, dict)
    upstream = json.loads((geth_folder() / "testdata" / "genesis.json").read_text())["alloc"]
    for address in SYSTEM_CONTRACTS:
        alloc["0x" + address] = {"balance": "0x0", "nonce": "0x1", "code": upstream[address]["code"]}
    path.write_text(json.dumps(genesis))
    return path


class Unfinished(TimeoutError):
    """A program did not end in time; the last argument is what it wrote until then."""


async def attach(ipc_path: Path, expression: str, deadline: float = 30.0) -> str:
    """Evaluate an expression in geth's console on some node's unix socket; returns what it prints."""
    code, output = await _run("geth", "attach", "--exec", expression, str(ipc_path), deadline=deadline)
    assert code == 0, output
    return output.strip()


async def run_devp2p(*words: str, deadline: float = 120.0) -> tuple[int, str]:
    """Run geth's devp2p tool; returns exit code and everything it wrote."""
    return await _run("devp2p", *words, deadline=deadline)


async def _run(program: str, *words: str, deadline: float) -> tuple[int, str]:
    child = await asyncio.create_subprocess_exec(
        geth_folder() / program, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert child.stdout is not None
    output = b""
    try:
        async with asyncio.timeout(deadline):
            while data := await child.stdout.read(1 << 16):
                output += data
            await child.wait()
    except TimeoutError:
        raise Unfinished(f"{program} within {deadline:g} s", _plain(output)) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None
    return child.returncode, _plain(output)


def _plain(output: bytes) -> str:
    """Text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", output.decode("utf-8", "replace"))


@cache
def leash() -> tuple[str, ...]:
    """Have the kernel end a child with its starter: geth would outlive a test run that is killed."""
    return ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
