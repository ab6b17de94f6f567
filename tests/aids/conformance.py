"""geth's eth conformance suite against a node, and docs/conformance.md, which is made of what came out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.aids.daemon import ROOT
from tests.aids.geth import Geth
from tests.aids.geth_tools import Unfinished, geth_folder, run_devp2p

__all__ = ["PAGE", "TESTS", "Outcome", "page", "run_suite"]

PAGE = ROOT / "docs" / "conformance.md"
TESTS = (
    "Status",
    "MaliciousHandshake",
    "BlockRangeUpdateExpired",
    "BlockRangeUpdateFuture",
    "BlockRangeUpdateInvalid",
    "GetBlockHeaders",
    "GetNonexistentBlockHeaders",
    "SimultaneousRequests",
    "SameRequestID",
    "ZeroRequestID",
    "GetBlockAccessLists",
    "GetBlockBodies",
    "GetReceipts",
    "GetLargeReceipts",
    "LargeTxRequest",
    "Transaction",
    "InvalidTxs",
    "NewPooledTxs",
    "BlobViolations",
    "TestBlobTxWithoutSidecar",
    "TestBlobTxWithMismatchedSidecar",
    "BlobTxAvailabilityFailure",
    "GetCells",
    "BlobTxWithInvalidCells",
)
"""All of the suite, in its order (cmd/devp2p/internal/ethtest/suite.go, EthTests)."""
DEADLINE = 180.0  # seconds for the suite; geth itself takes 50
AGAIN = 40.0  # seconds for what runs again
TRIES = 3  # of what failed: the suite waits two seconds for 2,000 transactions, on any machine

_HEAD = """\
# Conformance

`devp2p rlpx eth-test`, the conformance suite of go-ethereum {version}, against geth itself and against
pyrelay with that geth, which holds the suite's chain, for its trusted peer. pyrelay has no chain file and an
empty cache. Tests of eth/72 skip themselves, and so pass, on a node of an older version. A test that fails is
run once more, as the suite's deadlines are for a machine with time to spare.

This page is written by tests/interop/test_devp2p_suite.py, which fails where it differs from what came out;
`PYRELAY_WRITE_CONFORMANCE=1` has it written anew.

"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the suite came to.

    Attributes:
        passed, failed: names of tests.
        output: of the tool, for messages.
    """

    passed: frozenset[str]
    failed: frozenset[str]
    output: str


async def run_suite(enode: str, geth: Geth) -> Outcome:
    """Run the suite, and then again what failed: its deadlines are for a machine with time to spare.

    Args:
        enode: the node under test.
        geth: has the suite's chain; the suite speaks to its Engine API.
    """
    passed, told = await _run(enode, geth, TESTS, DEADLINE)
    for _ in range(TRIES):
        missing = [name for name in TESTS if name not in passed]
        if missing:
            more, again = await _run(enode, geth, missing, AGAIN)
            passed, told = passed | more, told + again
    return Outcome(frozenset(passed), frozenset(TESTS) - passed, told)


async def _run(enode: str, geth: Geth, names: Sequence[str], deadline: float) -> tuple[set[str], str]:
    """Run tests in one process, which counts nonces; some wait for ever for what does not come."""
    try:
        _, output = await run_devp2p(
            "rlpx", "eth-test", "--run", f"^({'|'.join(names)})$",
            "--chain", str(geth_folder() / "testdata"), "--node", enode,
            "--engineapi", geth.engine_url, "--jwtsecret", geth.jwt_secret,
            deadline=deadline,
        )  # fmt: skip
    except Unfinished as error:
        output = error.args[-1]
    return set(re.findall(r"^-- OK (\S+)", output, re.MULTILINE)), output


def page(version: str, columns: Mapping[str, Outcome]) -> str:
    """Return the page.

    Args:
        version: of go-ethereum.
        columns: outcomes by the title of their column.
    """
    titles = ["test", *columns]
    rows = [[name, *(_word(name, each) for each in columns.values())] for name in TESTS]
    rows.append(["**passed**", *(f"**{len(each.passed)} of {len(TESTS)}**" for each in columns.values())])
    lines = [titles, ["---"] * len(titles), *rows]
    return _HEAD.format(version=version) + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _word(name: str, outcome: Outcome) -> str:
    return "passes" if name in outcome.passed else "fails"
