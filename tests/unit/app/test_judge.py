"""A node that rules on transactions, by its answers to eth_sendRawTransaction."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from relay.app.judge import NodeJudge, ruling_of
from relay.relaying.verdict import Outcome
from relay.rpc.errors import RpcError

GETH_INTRINSIC = "intrinsic gas too low: gas 20000, minimum needed 21000"


@pytest.mark.parametrize(
    ("code", "words", "outcome"),
    [
        (-32000, "already known", Outcome.GOOD),  # geth, reth
        (-32010, "AlreadyKnown", Outcome.GOOD),  # Nethermind
        (-32000, "Known transaction", Outcome.GOOD),  # Besu
        (-32000, "ALREADY_EXISTS: already known", Outcome.GOOD),  # Erigon
        (-32000, "nonce too low: next nonce 5, tx nonce 4", Outcome.STALE),  # geth
        (-32003, "OldNonce, Current nonce: 5", Outcome.STALE),  # Nethermind
        (-32001, "Nonce too low", Outcome.STALE),  # Besu
        (-32000, "replacement transaction underpriced", Outcome.STALE),
        (-32000, "transaction underpriced: tip needed 1, tip permitted 0", Outcome.STALE),
        (-32000, "txpool is full", Outcome.STALE),
        (-32000, "insufficient funds for gas * price + value: balance 0", Outcome.BAD),
        (-32003, "insufficient funds for gas * price + value", Outcome.BAD),
        (-32000, GETH_INTRINSIC, Outcome.BAD),
        (-32002, "no upstream answers: 1: timeout", Outcome.UNKNOWN),
        (-32005, "daily request count exceeded", Outcome.UNKNOWN),
        (-32603, "internal error", Outcome.UNKNOWN),
        (-32601, "the method eth_sendRawTransaction does not exist/is not available", Outcome.UNKNOWN),
    ],
)
def test_words_of_nodes(code, words, outcome):
    assert ruling_of(RpcError(code, words)).outcome is outcome


class Node:
    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    async def call(self, method, params=None, *, timeout=None):
        self.asked.append((method, params))
        answer = self.answers[params[0]]
        await asyncio.sleep(0)
        if isinstance(answer, RpcError):
            raise answer
        return answer


async def test_each_is_shown_to_the_node_and_ruled_on_in_order():
    node = Node({"0x01": "0xhash", "0x02": RpcError(-32000, "insufficient funds"), "0x03": "0xhash"})
    got = []
    async with asyncio.TaskGroup() as tasks:
        NodeJudge(node, tasks)([b"\x01", b"\x02", b"\x03"], got.extend)
        assert not got  # never from within
    assert [ruling.outcome for ruling in got] == [Outcome.GOOD, Outcome.BAD, Outcome.GOOD]
    assert node.asked[0] == ("eth_sendRawTransaction", ["0x01"])


async def test_a_node_that_does_not_rule_is_told_of_once_and_once_when_it_does_again():
    node = Node({"0x01": RpcError(-32002, "no upstream answers: 1: refused"), "0x02": "0xhash"})
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            judge = NodeJudge(node, tasks)
            judge([b"\x01"], lambda _: None)
            judge([b"\x01"], lambda _: judge([b"\x02", b"\x02"], lambda _: None))
    assert [each["log_level"] for each in logs] == ["warning", "info"]
