"""What the init containers do and end: publish our entry, write static-nodes.json from what is there already.

Neither waits for what a later container makes, and neither keeps a relay from starting: its keys are what it
needs, the address book is what the sidecar tries again for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from relay.kubernetes.api import Api
from relay.kubernetes.book import AddressBook
from relay.kubernetes.discovery import MAP, OBJECTS
from relay.kubernetes.events import EventWriter
from relay.kubernetes.failures import ApiFailed, Trouble
from relay.kubernetes.identity import Identity
from relay.kubernetes.options import BookMode, BookOptions, Own
from relay.kubernetes.peers_file import PeersFile, merged, short_onion
from relay.kubernetes.publisher import Publisher

__all__ = ["count_pods", "publish_once", "write_static_nodes"]

log = structlog.get_logger("relay.kubernetes")


async def count_pods(api: Api, options: BookOptions, *, seconds: float) -> int:
    """Count the pods of the book, which decides where an entry goes; 0 where nobody can tell."""
    if options.mode is not BookMode.AUTO:
        return 0
    try:
        async with asyncio.timeout(seconds):
            stored = await api.read_map(options.name)
    except (ApiFailed, TimeoutError):
        return 0  # writing says why
    return 0 if stored is None else len(stored.data)


async def publish_once(publisher: Publisher, events: EventWriter, *, seconds: float) -> bool:
    """Write our entry, if the API server takes it in time; tell whether it did."""
    try:
        async with asyncio.timeout(seconds):
            await publisher.publish()
    except TimeoutError:
        log.warning("own entry not written: no answer in time; the sidecar goes on trying")
        return False
    except ApiFailed as error:
        log.warning("own entry not written; the sidecar goes on trying", cause=str(error))
        if error.trouble in (Trouble.FORBIDDEN, Trouble.REFUSED, Trouble.UNAUTHORIZED):
            events.note("AddressBookForbidden", str(error))
            await _flush(events, seconds)
        return False
    return True


async def write_static_nodes(
    api: Api,
    own: Own,
    identity: Identity,
    options: BookOptions,
    path: Path,
    *,
    seconds: float,
    say: Callable[[str], None],
) -> int:
    """Write the file from the entries that are there now; return how many peers it has.

    An API server that can not be asked leaves the peers of before; an empty list is fine, too.

    Args:
        api: of our namespace.
        own: who we are.
        identity: our keys.
        options: the book's.
        path: of static-nodes.json.
        seconds: for the API server.
        say: told each line for the log.

    Raises:
        StorageError: the file can not be written.
    """
    book = AddressBook(
        own.place, identity.node.public_key, own.cluster_key, stale_after=options.stale_after,
        on_rejected=lambda pod, why: say(f"Ignoring entry of {pod[:80]}: {why}"),
        on_conflict=lambda conflict: say(f"Warning: {conflict.words}"),
    )  # fmt: skip
    file = PeersFile(path, identity.node.public_key)
    before = file.read()
    try:
        async with asyncio.timeout(seconds):
            await _read(api, options, book)
    except (ApiFailed, TimeoutError) as error:
        words = str(error) or f"no answer within {seconds:g} s"
        log.warning("address book not read; the sidecar goes on trying", cause=words, kept=len(before))
    entries = book.peers(0.0)
    for entry in entries:
        say(f"Adding peer: {entry.place.pod} -> {short_onion(entry.onion)}")
    urls = merged(entries, before)
    if len(urls) > len(entries):
        say(f"Keeping {len(urls) - len(entries)} peers of before that the address book does not have")
    file.write(urls)
    say(f"Built static-nodes.json with {len(urls)} peers")
    return len(urls)


async def _read(api: Api, options: BookOptions, book: AddressBook) -> None:
    stored = await api.read_map(options.name)
    book.replace(MAP, {} if stored is None else stored.data, 0.0)
    if options.mode is BookMode.CONFIGMAP:
        return
    try:
        listed = await api.list_leases(options.name)
    except ApiFailed as error:
        if error.trouble is not Trouble.FORBIDDEN or options.mode is BookMode.OBJECTS:
            raise
        return
    found: dict[str, str] = {}
    for item in listed.items:
        found.update(item.data)
    book.replace(OBJECTS, found, 0.0)


async def _flush(events: EventWriter, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await events.flush()
    except TimeoutError:
        return
