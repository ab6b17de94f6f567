"""What looks wrong about a node's peers, each with a reason in words. Pure: a function of what was watched.

Each rule is one that a person would apply, with a figure that can be argued with; none of them proves an
attack, and the words say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from relay.monitor.peer import UNKNOWN, mask, subnet
from relay.monitor.watch import Watch

__all__ = ["Anomaly", "find_anomalies"]

LOSS_SECONDS: Final = 120.0
LOSS_SHARE: Final = 0.5
LOSS_LEAST: Final = 5  # peers; of fewer, one that goes is half of them
DOMINANT: Final = 0.9  # the alert rule's figure, too
CLIENTS_LEAST: Final = 10  # peers that tell their client
SUBNET_LEAST: Final = 4  # peers; geth's own tables take two of one /24 into a bucket and ten in all
SUBNET_SHARE: Final = 0.1
ECLIPSE_LEAST: Final = 8  # peers
NEW_SECONDS: Final = 300.0
SETTLED_SECONDS: Final = 900.0  # watched for so long, before "all are new" says anything
STALE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that a person should look at.

    Attributes:
        kind: a word for programs: stale, no_peers, loss, dominance, subnet, eclipse_new, eclipse_inbound.
        severity: warning or critical.
        words: what was seen, and why it matters. Names no address but a masked block.
    """

    kind: str
    severity: str
    words: str


def find_anomalies(watch: Watch, now: float, *, addresses: bool = False) -> tuple[Anomaly, ...]:
    """Return what looks wrong now, the worst first.

    Args:
        watch: what was seen.
        now: seconds of its clock.
        addresses: a block of addresses may be named whole.
    """
    if watch.view is None:
        return ()
    found = [*_stale(watch, now)]
    if not watch.failure:
        found += [*_few(watch, now), *_eclipse(watch, now), *_dominance(watch), *_subnets(watch, addresses)]
    return tuple(sorted(found, key=lambda each: each.severity != "critical"))


def _stale(watch: Watch, now: float) -> Iterator[Anomaly]:
    age = watch.age(now)
    if age is not None and age > STALE_SECONDS and watch.failure:
        words = f"the node has not answered for {age:.0f} s ({watch.failure}): all that is shown is that old"
        yield Anomaly("stale", "critical", words)


def _few(watch: Watch, now: float) -> Iterator[Anomaly]:
    total = len(watch.peers)
    recent = [sample.total for sample in watch.samples if now - sample.at <= LOSS_SECONDS]
    most = max(recent, default=0)
    if not total:
        yield Anomaly(
            "no_peers", "critical", "the node has no peer: it hears of no block and passes on no transaction"
        )
    if most >= LOSS_LEAST and total <= most * (1 - LOSS_SHARE):
        words = f"{most - total} of {most} peers are gone within {LOSS_SECONDS / 60:.0f} minutes: its network"
        yield Anomaly("loss", "critical", words + " may be down, or somebody cuts its connections")


def _dominance(watch: Watch) -> Iterator[Anomaly]:
    clients = Counter(peer.name.client for peer in watch.peers if peer.name.client != UNKNOWN)
    known = clients.total()
    if known < CLIENTS_LEAST:
        return
    [(client, count)] = clients.most_common(1)
    if count / known > DOMINANT:
        words = f"{count} of {known} peers run {client}: a bug in it would take them all away at once"
        yield Anomaly("dominance", "warning", words)


def _subnets(watch: Watch, addresses: bool) -> Iterator[Anomaly]:
    public = {peer.key: subnet(peer.address) for peer in watch.peers if subnet(peer.address)}
    if not public:
        return
    blocks = Counter(public.values())
    [(block, count)] = blocks.most_common(1)
    if count >= SUBNET_LEAST and count / len(public) > SUBNET_SHARE:
        example = next(peer for peer in watch.peers if public.get(peer.key) == block)
        name = block if addresses else f"{mask(example.address)}, masked"
        kind = "/24" if example.address.network == "ipv4" else "/48"
        words = (
            f"{count} of {len(public)} peers with a public address are in one {kind} ({name}): they may be"
        )
        yield Anomaly("subnet", "warning", words + " one operator's")


def _eclipse(watch: Watch, now: float) -> Iterator[Anomaly]:
    peers = watch.peers
    if len(peers) < ECLIPSE_LEAST:
        return
    if all(peer.inbound is True for peer in peers):
        words = f"all {len(peers)} peers dialed the node, it dialed none of them: whoever wants to surround a"
        yield Anomaly(
            "eclipse_inbound", "warning", words + " node dials it; is its discovery off, or cut off?"
        )
    oldest = max(watch.seen_for(peer, now) for peer in peers)
    if oldest < NEW_SECONDS and watch.watched_for(now) >= SETTLED_SECONDS:
        words = (
            f"none of the {len(peers)} peers is older than {oldest / 60:.0f} minutes, though the node was"
            f" watched for {watch.watched_for(now) / 60:.0f}: all were replaced at once, as when somebody"
            " surrounds it; a restart or a loss of its network looks the same"
        )
        yield Anomaly("eclipse_new", "critical", words)
