"""Taking entries of relays that are gone out of the address book: for a CronJob with an account of its own.

How old an entry is, the API server tells: it notes when which manager last changed which key (managedFields),
by its own clock, and its answers carry that clock's time. So no pod's clock matters, and nothing is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from relay.kubernetes.api import Api, Stored
from relay.kubernetes.failures import ApiFailed, Trouble
from relay.primitives.errors import LocalError

__all__ = ["Pruned", "prune"]

log = structlog.get_logger("relay.kubernetes")

MANAGER: Final = "pyrelay-prune"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was done. kept: entries that are still renewed."""

    removed: tuple[str, ...]
    kept: int


async def prune(api: Api, book: str, oldest: float, *, dry_run: bool = False) -> Pruned:
    """Remove entries that nobody renewed for a while.

    Args:
        api: of the namespace.
        book: the ConfigMap's name.
        oldest: seconds since the last change.
        dry_run: only tell.

    Raises:
        ApiFailed: the book can not be read or written.
        LocalError: the API server does not tell its time.
    """
    stored = await api.read_map(book)
    leases = await _leases(api, book)
    now = api.server_time()
    if now is None:
        raise LocalError("the API server's answers carry no Date, so nobody can tell how old an entry is")
    # A pod whose entry is a Lease does not renew its line in the map: it is as young as the Lease.
    renewed = {pod: time for lease in leases for pod, time in lease.managers.items()}
    removed: list[str] = []
    kept = 0
    for pod, text in sorted((stored.data if stored is not None else {}).items()):
        assert stored is not None
        if _is_old(_latest(stored.managers.get(pod), renewed.get(pod)), now, oldest):
            removed += await _remove(api, book, pod, text, dry_run=dry_run)
        else:
            kept += 1
    for lease in leases:
        if _is_old(max(lease.managers.values(), default=None), now, oldest):
            if not dry_run:
                await api.delete_lease(lease.name)
            removed.append(f"lease/{lease.name}")
        elif not set(lease.data) & set(stored.data if stored is not None else {}):
            kept += 1
    return Pruned(tuple(removed), kept)


async def _remove(api: Api, book: str, pod: str, text: str, *, dry_run: bool) -> list[str]:
    if not dry_run:
        try:
            await api.remove_key(book, pod, text, MANAGER)
        except ApiFailed as error:
            if error.trouble is not Trouble.REFUSED and error.trouble is not Trouble.CONFLICT:
                raise
            # The value is another one than a moment ago: the relay is there after all.
            log.info("entry not removed: it changed meanwhile", pod=pod, cause=str(error))
            return []
    return [pod]


async def _leases(api: Api, book: str) -> tuple[Stored, ...]:
    try:
        return (await api.list_leases(book)).items
    except ApiFailed as error:
        if error.trouble is not Trouble.FORBIDDEN:
            raise
        log.info("Leases are not looked at", cause=str(error))
        return ()


def _latest(*times: datetime | None) -> datetime | None:
    return max((each for each in times if each is not None), default=None)


def _is_old(changed: datetime | None, now: datetime, oldest: float) -> bool:
    # Without a manager nobody claims it: left over by whoever edited the map by hand.
    return changed is None or (now - changed).total_seconds() > oldest
