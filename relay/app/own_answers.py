"""Joins the methods of JSON-RPC that answer from the pool with the upstream for what they lack."""

from __future__ import annotations

import time

from relay.app.views import NodeAdapter
from relay.rpc.forwarding import Forwarding, Upstream
from relay.rpc.methods import Method
from relay.rpc.own_blocks import OwnBlocks
from relay.rpc.own_eth import EthParts, eth_methods, relay_methods
from relay.rpc.txpool import txpool_methods
from relay.rpc.views import PoolTable

__all__ = ["own_answers"]


def own_answers(
    node: NodeAdapter, upstream: Upstream | None = None, pool: PoolTable | None = None
) -> tuple[tuple[Method, ...], Forwarding]:
    """Return the methods, and who answers all others.

    Args:
        node: the relay.
        upstream: who has the chain; None for nobody.
        pool: what is shown of transactions; None for the relay's pool.
    """
    forwarding = Forwarding(upstream, node.own)
    blocks = None if upstream is None else OwnBlocks(upstream, node.own, unix=time.time)
    parts = EthParts(head=node, pool=pool or node, own=node.own, forwarding=forwarding, blocks=blocks)
    return (*eth_methods(parts), *txpool_methods(node), *relay_methods(node.own)), forwarding
