"""Cases in the format of ethereum/execution-apis (tests/METHOD/NAME.io), compared as hive's rpc-compat does.

A line `>> ` is a request, the `<< ` after it what a client answers, `// ` a comment. The comment `speconly:`
says that values are the client's own business. Where both are errors, their texts are, too.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.aids.geth import Geth
from tests.aids.until import until

__all__ = ["Case", "difference", "read_cases", "until_indexed", "write_case"]

_ENTRY = re.compile("0x[0-9a-fA-F]{40}|[0-9]+")


@dataclass(frozen=True, slots=True)
class Case:
    """One file. exchanges: requests with the answers that are expected, both decoded."""

    name: str
    spec_only: bool
    exchanges: tuple[tuple[Any, Any], ...]


def read_cases(folder: Path) -> list[Case]:
    """Read every case below a folder."""
    return [_read(path, folder) for path in sorted(folder.glob("*/*.io"))]


def _read(path: Path, folder: Path) -> Case:
    lines = path.read_text("utf-8").splitlines()
    requests = [json.loads(line[3:]) for line in lines if line.startswith(">> ")]
    answers = [json.loads(line[3:]) for line in lines if line.startswith("<< ")]
    spec_only = any(line.startswith("// speconly:") for line in lines)
    name = str(path.relative_to(folder).with_suffix(""))
    return Case(name, spec_only, tuple(zip(requests, answers, strict=True)))


def write_case(folder: Path, name: str, comment: str, request: str, answer: str, spec_only: bool) -> None:
    """Write one case of one exchange."""
    path = folder / f"{name}.io"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"// {comment}", *(["// speconly: the values are of the moment"] if spec_only else [])]
    path.write_text("\n".join([*lines, f">> {request}", f"<< {answer}"]) + "\n")


def difference(expected: Any, got: Any, *, spec_only: bool) -> str:
    """Say how an answer differs from the expected one; nothing where it does not."""
    if "error" in expected and "error" in got:
        return ""
    if spec_only:
        expected, got = shape(expected), shape(got)
    return "" if expected == got else f"expected {_short(expected)}, got {_short(got)}"


def shape(value: Any) -> Any:
    """Names and types without the values; one entry stands for a list, or a table by address or nonce."""
    if isinstance(value, dict):
        if value and all(_ENTRY.fullmatch(name) for name in value):
            return {"*": shape(next(iter(value.values())))}
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 400 else f"{text[:400]}..."


async def until_indexed(geth: Geth) -> None:
    """Wait until geth has indexed its transactions; before it says of hashes that it does not know yet."""

    async def done() -> bool:
        told = await geth.rpc("eth_syncing")
        return told is False or told["txIndexRemainingBlocks"] == "0x0"

    await until(done, lambda: f"{geth.name} has indexed its chain\n{geth.tail()}", 60.0, 0.1)
