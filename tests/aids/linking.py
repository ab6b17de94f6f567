"""Tries to find out whether two nodes on two networks are one relay, from all that they send.

    one, other = await look(relay, chain, raws, change)  # one relay, as the peers of its two networks see it
    stranger = await glance(another, chain)              # what every relay shows says nothing
    assert links(one, other, stranger) == set()

A spy on clearnet tells of a head and brings transactions; what is seen on the onion network is compared.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Final, Protocol

from relay.chain.networks import ChainConfig
from relay.chain.transactions import wire
from relay.primitives import rlp
from relay.primitives.enode import Enode
from relay.primitives.enr import NodeRecord
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.messages import Hello
from relay.protocols.eth import messages as m
from relay.protocols.eth.packing import split_transactions
from tests.aids.chain_headers import made_header
from tests.aids.relaying import item_hash
from tests.aids.scripted_peer import ScriptedPeer, true_status
from tests.aids.until import until

__all__ = ["TRIES", "Relay", "Trace", "glance", "links", "look", "rank_correlation"]

HEAD: Final = 50
SAME_ORDER: Final = 0.7
"""Rank correlation that makes two orders one; of thirty in no order it is 0, give or take 0.13."""
CROSSED: Final = 120.0  # seconds for transactions to come to the other side
USUAL_PORT: Final = 30303


class Relay(Protocol):
    """A relay that runs."""

    async def rpc(self, method: str, *params: object) -> Any:
        """Ask it."""
        ...

    def listener(self, label: str = ...) -> tuple[str, int]:
        """Where its peers come in."""
        ...


@dataclass
class Trace:
    """What one network is shown of a node.

    Attributes:
        key: its node key.
        hello: as peers got it.
        status: of the newest connection.
        records: in the order of time.
        first_seen: transactions in the order in which a peer heard of them.
        pool: those that a newcomer is told of, in order.
    """

    key: bytes
    hello: Hello
    status: m.Status
    records: list[NodeRecord] = field(default_factory=list)
    first_seen: list[bytes] = field(default_factory=list)
    pool: list[bytes] = field(default_factory=list)

    @property
    def values(self) -> set[tuple[str, bytes]]:
        """What its records have ever held, but for the port that most have."""
        pairs = {(name, rlp.encode(value)) for each in self.records for name, value in each.pairs.items()}
        return pairs - {("tcp", rlp.encode_int(USUAL_PORT))}


def links(one: Trace, other: Trace, stranger: Trace) -> set[str]:
    """Return by what two nodes can be told to be one; what a stranger has as well proves nothing."""
    return {name for name, tell in TRIES.items() if tell(one, other, stranger)}


def _same_hello(one: Trace, other: Trace, stranger: Trace) -> bool:
    nobody = NodeKey(bytes(31) + b"\1").public_key
    hellos = [replace(each.hello, public_key=nobody) for each in (one, other, stranger)]
    return hellos[0] == hellos[1] != hellos[2]


def _same_range(one: Trace, other: Trace, stranger: Trace) -> bool:
    ranges = [(each.status.earliest, each.status.latest_hash) for each in (one, other, stranger)]
    return ranges[0] == ranges[1] != ranges[2]


def _same_changes(one: Trace, other: Trace, _: Trace) -> bool:
    """Whether their numbers have moved, and moved alike."""
    numbers = [[each.seq for each in trace.records] for trace in (one, other)]
    return numbers[0] == numbers[1] and len(set(numbers[0])) > 1


def _far_from_any_other(one: Trace, other: Trace, _: Trace) -> bool:
    """Whether their numbers are close and so high that hardly any relay has them by chance."""
    first, second = one.records[-1].seq, other.records[-1].seq
    return min(first, second) > 100 and abs(first - second) < 10


TRIES: Final[dict[str, Callable[[Trace, Trace, Trace], bool]]] = {
    "node key": lambda one, other, _: one.key == other.key,
    "key of the record": lambda one, other, _: one.records[-1].public_key == other.records[-1].public_key,
    "entries of the record": lambda one, other, stranger: bool(one.values & other.values - stranger.values),
    "record with both networks": lambda one, other, _: any(
        each.onion3 is not None and (each.ip or each.ip6 or each.udp) for each in one.records + other.records
    ),
    "numbers of the record": _same_changes,
    "height of the number": _far_from_any_other,
    "hello": _same_hello,
    "block range": _same_range,
    "first-seen order": lambda one, other, _: rank_correlation(one.first_seen, other.first_seen) > SAME_ORDER,
    "order of the pool": lambda one, other, _: rank_correlation(one.pool, other.pool) > SAME_ORDER,
}
"""Each way to tell, by what it looks at."""


def rank_correlation(one: Sequence[bytes], other: Sequence[bytes]) -> float:
    """Kendall's: 1 for the same order, -1 for the reverse, about 0 for none; of what both have."""
    place = {tx_hash: number for number, tx_hash in enumerate(other)}
    common = [tx_hash for tx_hash in one if tx_hash in place]
    pairs = [1 if place[a] < place[b] else -1 for a, b in combinations(common, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.0


async def glance(relay: Relay, chain: ChainConfig, network: str = "onion") -> Trace:
    """See what everybody is shown."""
    async with joined(relay, chain, network) as (peer, status):
        trace = _trace(peer, status)
    trace.records.append(await record_of(relay, network))
    return trace


async def look(
    relay: Relay, chain: ChainConfig, raws: Sequence[bytes], change: Callable[[], Any]
) -> tuple[Trace, Trace]:
    """Watch a relay on both networks; returns what the onion network and clearnet were shown.

    Args:
        relay: with both.
        chain: of it.
        raws: transactions to bring, canonical bytes.
        change: has it change its onion record, and waits until it has.
    """
    networks = ("onion", "clearnet")
    records = {network: [await record_of(relay, network)] for network in networks}
    async with (
        teller(relay, chain) as mouth,
        joined(relay, chain, "clearnet") as (near, _),
        joined(relay, chain, "onion") as (far, _),
    ):
        for number, raw in enumerate(raws, 1):
            mouth.say(m.Transactions((wire(raw),)))
            await near.wait(lambda: len(heard(near)) == number, "it is heard on its own side", 30)  # noqa: B023
        await far.wait(lambda: len(heard(far)) == len(raws), "all is heard on the other side", CROSSED)
        first_seen = {"clearnet": heard(near), "onion": heard(far)}
        found = {}
        for network in networks:
            async with joined(relay, chain, network) as (newcomer, status):
                await until(lambda: len(heard(newcomer)) == len(raws), "a newcomer is told the pool")
                found[network] = _trace(newcomer, status)
                found[network].pool = heard(newcomer)
        await change()
    for network in networks:
        found[network].first_seen = first_seen[network]
        found[network].records = [*records[network], await record_of(relay, network)]
    return found["onion"], found["clearnet"]


@asynccontextmanager
async def teller(relay: Relay, chain: ChainConfig) -> AsyncIterator[ScriptedPeer]:
    """A trusted peer on clearnet with a head that nobody else has; yields when the relay has taken it."""
    header = made_header(HEAD)
    key = NodeKey.generate(secrets.token_bytes)
    await relay.rpc("admin_addTrustedPeer", Enode(key.public_key, "127.0.0.1", 9, 0).url)
    peer = await ScriptedPeer.dial(await enode_of(relay, "clearnet"), chain, key=key)
    async with peer, asyncio.TaskGroup() as tasks:
        await peer.greet()
        await peer.join(true_status(chain, peer.eth.version, latest=HEAD, latest_hash=header.hash))
        serving = tasks.create_task(_serve(peer, header.raw, header.hash))

        async def taken() -> bool:
            info = await node_of(relay, "clearnet")
            return bool(info["protocols"]["eth"]["latestBlock"] == HEAD)

        await until(taken, "the head is taken", 30)
        yield peer
        serving.cancel()


async def _serve(peer: ScriptedPeer, raw: bytes, block_hash: bytes) -> None:
    """Answer each request for headers."""
    while True:
        asked = await peer.expect(m.GetBlockHeaders, 600)
        known = asked.origin in (block_hash, HEAD)
        peer.say(m.BlockHeaders(asked.request_id, (raw,) if known else ()))


@asynccontextmanager
async def joined(
    relay: Relay, chain: ChainConfig, network: str
) -> AsyncIterator[tuple[ScriptedPeer, m.Status]]:
    """An ordinary peer on one network; Tor would bring it to the same port."""
    async with await ScriptedPeer.dial(await enode_of(relay, network), chain) as peer:
        yield peer, await peer.join()


def heard(peer: ScriptedPeer) -> list[bytes]:
    """Hashes of the transactions that a peer was sent or told of, in order."""
    found: dict[bytes, None] = {}
    for code, payload in peer.messages:
        if code == m.Transactions.CODE:
            found.update((item_hash(item), None) for item in split_transactions(payload))
        elif code == m.NewPooledTransactionHashes.CODE:
            message = peer.eth.decode(code, payload)
            assert isinstance(message, m.NewPooledTransactionHashes)
            found.update((tx_hash, None) for tx_hash in message.hashes)
    return list(found)


async def node_of(relay: Relay, network: str) -> dict[str, Any]:
    """One of its nodes, or the one."""
    info: dict[str, Any] = await relay.rpc("admin_nodeInfo")
    return dict(info.get("identities", {}).get(network, info))


async def enode_of(relay: Relay, network: str) -> str:
    """Where Tor would deliver, or clearnet peers dial."""
    host, port = relay.listener(network)
    return Enode(NodeRecord.from_text((await node_of(relay, network))["enr"]).public_key, host, port, 0).url


async def record_of(relay: Relay, network: str) -> NodeRecord:
    """Its record as it is now."""
    return NodeRecord.from_text((await node_of(relay, network))["enr"])


def _trace(peer: ScriptedPeer, status: m.Status) -> Trace:
    hello = peer.connection.remote_hello
    assert hello is not None
    return Trace(hello.public_key, hello, status)
