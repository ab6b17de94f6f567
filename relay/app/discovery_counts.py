"""What each protocol of discovery has and has done, as the metrics page shows it."""

from __future__ import annotations

from collections.abc import Mapping

from relay.discovery.driver import CoreDriver
from relay.discovery.v4 import V4Driver
from relay.discovery.walker import Walker
from relay.observe.snapshot import DiscoveryCounts
from relay.protocols.discv4 import events as v4_events

__all__ = ["count_core", "count_v4"]


def count_core(driver: CoreDriver, walker: Walker) -> DiscoveryCounts:
    """Count discv5 on one network, streams left out."""
    core = driver.core
    entries = core.table.entries
    return DiscoveryCounts(
        table=len(entries),
        live=sum(entry.live for entry in entries.values()),
        sessions=core.session_count,
        lookups=walker.walks,
        sent={kind.name.lower(): count for kind, count in core.traffic.sent.items()}
        | {"whoareyou": core.traffic.challenges, "handshake": core.traffic.handshakes},
        received={kind.name.lower(): count for kind, count in core.traffic.received.items()},
        refused={reason.value: count for reason, count in driver.refused.items()},
        failed={failure.value: count for failure, count in driver.failed.items()},
    )


def count_v4(driver: V4Driver, refused: Mapping[tuple[str, str], int]) -> DiscoveryCounts:
    """Count discv4. refused: of the socket, by protocol and reason."""
    return DiscoveryCounts(
        table=len(driver.core.table),
        live=driver.core.table.live_count,
        sent=_kinds_of_v4(driver.core.sent),
        received=_kinds_of_v4(driver.core.received),
        refused={reason: count for (protocol, reason), count in refused.items() if protocol == "v4"},
    )


def _kinds_of_v4(counts: Mapping[str, int]) -> dict[str, int]:
    """Packets by kind, as discv5 spells kinds; what was refused is counted among them, and told elsewhere."""
    reasons = {each.value for each in v4_events.Refusal}
    return {kind.lower(): count for kind, count in counts.items() if kind not in reasons}
