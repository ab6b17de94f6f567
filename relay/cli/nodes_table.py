"""What a crawl found, for people and for programs: a table that fits the terminal, totals, and JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.box import ASCII, SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from relay.chain.forknames import ForkNames
from relay.discovery.crawled import CrawledNode
from relay.peering.session import printable
from relay.primitives.endpoint import Network

__all__ = ["View", "describe_node", "heading", "node_totals", "render"]

CONSENSUS: Final = "consensus"
UNKNOWN: Final = "-"
UNSAID: Final = "unknown"  # the same in totals
MAX_CLIENT: Final = 120  # characters of a client's name in JSON; any peer chooses its own
MAX_NAME: Final = 24  # letters of a client in the totals
TOP: Final = 6  # words of one total that are shown; the rest is one number
_ID_DIGITS: Final = 16  # of the public key, as logs have it
WIDE: Final = 140  # columns


@dataclass(frozen=True, slots=True)
class View:
    """What is shown at one moment.

    Attributes:
        nodes: that have answered, in the order in which they did.
        heard: how many were heard of, these included.
        visits: how many visits were made.
        elapsed: seconds since the crawl began.
        now: unix seconds.
        running: whether it goes on.
    """

    nodes: Sequence[CrawledNode]
    heard: int
    visits: int
    elapsed: float
    now: float
    running: bool


@dataclass(frozen=True, slots=True)
class _Column:
    """A column.

    Attributes:
        title: its heading.
        narrow: letters of a cell on a screen of less than WIDE columns; 0: it is not there.
        wide: letters on a wider one.
        cell: what it shows.
    """

    title: str
    narrow: int
    wide: int
    cell: Callable[[CrawledNode, ForkNames, float], str]


def chain_of(node: CrawledNode, names: ForkNames) -> str:
    """Return the network's name; an unknown one is its fork hash in hex."""
    fork = node.fork_id
    if fork is None:
        return CONSENSUS if node.is_consensus else UNKNOWN
    name = names.name(fork)
    return "0x" + fork.hash.hex() if name is None else name.chain


def fork_of(node: CrawledNode, names: ForkNames) -> str:
    """Return the newest fork that the node has passed."""
    name = None if node.fork_id is None else names.name(node.fork_id)
    return UNKNOWN if name is None else name.fork


def client_of(node: CrawledNode) -> str:
    """Return name and version of the client, as in Geth/v1.17.8; what follows is about its machine."""
    name, _, version = _client_words(node)
    return f"{name}/{re.split('[-+ ]', version)[0]}" if version else name


def _client_words(node: CrawledNode) -> tuple[str, str, str]:
    if node.client is None:
        return UNKNOWN, "", ""
    name, slash, rest = printable(node.client.name, MAX_CLIENT).partition("/")
    return name or "(no name)", slash, rest.partition("/")[0]


def describe_node(node: CrawledNode, names: ForkNames) -> dict[str, Any]:
    """Return all that is known of a node, for JSON."""
    fork, found = node.fork_id, node.node
    said: dict[str, Any] = {
        "id": node.node_id.hex(),
        "node_id": node.public_key.hex(),
        "enr": None if node.record is None else node.record.to_text(),
        "enode": found.enode.url if found.endpoints else None,
        "seq": node.seq,
        "networks": [str(network) for network in node.addresses],
        "addresses": {str(network): host for network, host in node.addresses.items()},
        "endpoints": {str(each.network): str(each) for each in found.endpoints},
        "onion": node.addresses.get(Network.ONION),
        "answered": sorted(node.answered),
        "chain": chain_of(node, names),
        "fork": None if fork is None else {"hash": "0x" + fork.hash.hex(), "next": fork.next},
        "fork_name": fork_of(node, names),
        "client": None if node.client is None else printable(node.client.name, MAX_CLIENT),
        "capabilities": None
        if node.client is None
        else [printable(each) for each in node.client.capabilities],
        "no_client": node.hello or None,
        "first_seen": round(node.first_response, 3),
        "last_seen": round(node.last_response, 3),
        "score": node.score,
    }
    return {name: None if value == UNKNOWN else value for name, value in said.items()}


def node_totals(nodes: Iterable[CrawledNode], names: ForkNames) -> dict[str, Counter[str]]:
    """Count nodes by network class, chain, fork, client and the discovery that they answered."""
    found: dict[str, Counter[str]] = {
        word: Counter() for word in ("networks", "chains", "forks", "clients", "answered")
    }
    for node in nodes:
        found["networks"].update(str(network) for network in node.addresses)
        found["answered"].update(node.answered)
        chain, fork, client = chain_of(node, names), fork_of(node, names), _client_words(node)[0]
        found["chains"][_said(chain)] += 1
        found["forks"][_said(fork) if fork == UNKNOWN else f"{chain}/{fork}"] += 1
        found["clients"][_said(client)[:MAX_NAME]] += 1
    return found


def _said(text: str) -> str:
    return UNSAID if text == UNKNOWN else text


def render(
    view: View, names: ForkNames, width: int, rows: int, *, ascii_only: bool = False
) -> RenderableType:
    """Lay a view out.

    Args:
        view: what to show.
        names: of forks.
        width: columns of the screen.
        rows: nodes that are shown at most; the newest ones.
        ascii_only: the terminal has nothing beyond ASCII.
    """
    shown = list(view.nodes)[-rows:] if rows else []
    parts: list[RenderableType] = [Text(heading(view), style="bold")]
    if shown:
        parts.append(_table(shown, names, width, view.now, ascii_only=ascii_only))
    hidden = len(view.nodes) - len(shown)
    if hidden:
        parts.append(Text(f"and {hidden} more, found earlier", style="dim"))
    if view.nodes:
        parts.append(_totals(node_totals(view.nodes, names)))
    return Group(*parts)


def heading(view: View) -> str:
    """Return the state of the crawl in one line."""
    silent = view.heard - len(view.nodes)
    words = f"{len(view.nodes)} nodes answered, {silent} more were heard of; {view.visits} visits"
    return f"{words}, {view.elapsed:.0f} s{'' if view.running else ', done'}"


def _table(
    nodes: Sequence[CrawledNode], names: ForkNames, width: int, now: float, *, ascii_only: bool
) -> Table:
    roomy, dots = width >= WIDE, ".." if ascii_only else "\N{HORIZONTAL ELLIPSIS}"
    table = Table(
        box=ASCII if ascii_only else SIMPLE_HEAD, padding=(0, 1, 0, 0) if roomy else 0, pad_edge=False
    )
    columns = [column for column in COLUMNS if roomy or column.narrow]
    for column in columns:
        table.add_column(column.title, no_wrap=True, overflow="crop")
    for node in nodes:
        # Text, not str: what nodes say must not be read as rich's own markup.
        cells = (
            _cut(column.cell(node, names, now), column.wide if roomy else column.narrow, dots)
            for column in columns
        )
        table.add_row(*map(Text, cells))
    return table


def _cut(text: str, letters: int, dots: str) -> str:
    return text if len(text) <= letters else text[: letters - len(dots)] + dots


def _totals(found: dict[str, Counter[str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True, overflow="crop")
    table.add_column(overflow="fold")
    for word, counts in found.items():
        if word == "clients" and set(counts) == {UNSAID}:
            continue
        top = counts.most_common(TOP)
        rest = counts.total() - sum(count for _, count in top)
        pieces = [f"{name} {count}" for name, count in top]
        table.add_row(word, Text(", ".join([*pieces, *([f"others {rest}"] if rest else [])])))
    return table


def _networks(node: CrawledNode, _names: ForkNames, _now: float) -> str:
    return " ".join(str(network) for network in node.addresses) or UNKNOWN


def _onion(node: CrawledNode, _names: ForkNames, _now: float) -> str:
    onion = node.addresses.get(Network.ONION)
    return UNKNOWN if onion is None else onion


def _address(node: CrawledNode, _names: ForkNames, _now: float) -> str:
    ips = [str(each) for each in node.node.endpoints if each.is_ip]
    return ips[0] if ips else UNKNOWN


def _ago(node: CrawledNode, _names: ForkNames, now: float) -> str:
    seconds = max(0, int(now - node.last_response))
    return (
        f"{seconds}s" if seconds < 100 else f"{seconds // 60}m" if seconds < 6000 else f"{seconds // 3600}h"
    )


COLUMNS: Final = (
    _Column("node", 12, 16, lambda node, _names, _now: node.public_key.hex()[:_ID_DIGITS]),
    _Column("by", 0, 12, lambda node, _names, _now: " ".join(sorted(node.answered))),
    _Column("networks", 15, 15, _networks),
    _Column("address", 0, 21, _address),
    _Column("chain", 10, 10, lambda node, names, _now: chain_of(node, names)),
    _Column("fork", 9, 11, lambda node, names, _now: fork_of(node, names)),
    _Column("client", 14, 24, lambda node, _names, _now: client_of(node)),
    _Column("onion", 8, 14, _onion),
    _Column("seen", 4, 4, _ago),
)
