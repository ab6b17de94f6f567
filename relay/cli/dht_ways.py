"""The two ways to the provider DHT: the daemon that runs, by its unix socket, or a node for this command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from relay.app.datadir import holder_of
from relay.app.entry import entry_nodes, onion_entries
from relay.app.networks import load_network
from relay.app.onions import OnionDiscovery
from relay.app.provider_node import known_nodes, provider_node
from relay.app.standalone import standalone_discovery
from relay.discovery.peer_text import describe_provider, parse_peers
from relay.discovery.providers import Provided, ProviderClient
from relay.primitives.errors import DecodeError, LocalError, UsageError
from relay.primitives.node import Node
from relay.protocols.dht import Key, Waiting
from relay.rpc.client import CallFailed, call
from relay.rpc.errors import INVALID_PARAMS
from relay.settings import Settings

__all__ = ["DaemonWay", "Ended", "NodeWay", "Tell", "daemon_answers"]

LOOK: Final = 0.25  # seconds between two looks at a job
AGAIN: Final = 5.0  # seconds from a search that nobody answered to the next
ENTERING: Final = 15.0  # seconds from the answer of a node to its place in our table

Say = Callable[[str], None]
Found = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a search ended.

    Attributes:
        asked: nodes that were asked.
        failure: why it came to nothing; empty where it could be done.
    """

    asked: int
    failure: str = ""


class Tell(Protocol):
    """Is told how providing goes."""

    def waits(self, reason: str) -> None:
        """It can not be written yet."""

    def provided(self, key: Key, stored: int, asked: int, refused: str) -> None:
        """It was written to so many nodes of those that were asked."""


async def daemon_answers(settings: Settings, *, insist: bool) -> bool:
    """Tell whether a daemon is there to be asked.

    Args:
        settings: name its socket.
        insist: the user has named the socket, so that there must be one.

    Raises:
        LocalError: there is a daemon, but it does not answer, or its version knows no DHT.
    """
    path = settings.ipc_path.absolute()
    if not path.is_socket():
        if insist:
            raise LocalError(f"{path}: there is no socket: is the daemon running?")
        if (holder := holder_of(settings.datadir)) is not None:
            raise LocalError(
                f"a pyrelay holds {settings.datadir}" + (f" (process {holder})" if holder else "")
                + f", but has no socket at {path}: name it by --ipcpath"
            )  # fmt: skip
        return False
    try:
        modules = await call(str(path), "rpc_modules")
    except CallFailed:
        return True
    except LocalError:
        if insist or holder_of(settings.datadir) is not None:
            raise
        return False  # left behind by one that was killed
    if "dht" not in modules:
        raise LocalError(f"the daemon at {path} is of a version without dht_*: start it anew")
    return True


class DaemonWay:
    """Asks the daemon.

    Args:
        settings: name its socket.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = str(settings.ipc_path.absolute())

    async def find(self, key: str, peers: Sequence[str], found: Found, say: Say) -> Ended:
        """Search; a cancelled call ends the job."""
        job = await self._call("dht_find", key, list(peers))
        told, waited = 0, ""
        async for state in self._watched(job):
            for provider in state["providers"][told:]:
                found(provider)
            told = len(state["providers"])
            if state["state"] == "waiting" and state["reason"] != waited:
                waited = state["reason"]
                say(f"waiting: {waited}")
        return Ended(state["asked"], state["reason"] if state["state"] == "failed" else "")

    async def provide(self, keys: Iterable[tuple[str, Key]], peers: Sequence[str], tell: Tell) -> None:
        """Have keys provided from now on; returns when each was written."""
        async with asyncio.TaskGroup() as tasks:
            for text, key in keys:
                tasks.create_task(self._provide(text, key, peers, tell))

    async def stop(self, key: str) -> bool:
        """Have a key provided no longer."""
        return bool(await self._call("dht_stopProviding", key))

    async def _provide(self, text: str, key: Key, peers: Sequence[str], tell: Tell) -> None:
        job = await self._call("dht_provide", text, list(peers))
        async for state in self._watched(job):
            if state["state"] == "waiting":
                tell.waits(state["reason"])
        if state["state"] == "failed":
            raise LocalError(f"0x{key.hex()} is not provided: {state['reason']}")
        tell.provided(key, state["stored"], state["asked"], "")

    async def _watched(self, job: str) -> AsyncIterator[dict[str, Any]]:
        """Give a job's state again and again, the last one included; it is ended with the iteration."""
        try:
            while True:
                state = await self._call("dht_job", job)
                yield state
                if state["state"] in ("done", "failed"):
                    return
                await asyncio.sleep(LOOK)
        except asyncio.CancelledError:
            with suppress(LocalError):  # the daemon may be gone by now
                await self._call("dht_cancel", job)
            raise

    async def _call(self, method: str, *params: object) -> Any:  # noqa: ANN401 - the method's own shape
        try:
            return await call(self._path, method, params)
        except CallFailed as error:
            if error.code == INVALID_PARAMS:  # only the daemon can tell: whom it knows by a mere node id
                raise UsageError(f"--{error}") from None
            raise


class NodeWay:
    """Is a node of the onion network while it is needed.

    Args:
        settings: the daemon's flags.
        peers: to enter by, besides bootnodes and what a daemon in the data folder has met.
        alone: there need be nobody to enter by: others may enter by us.

    Raises:
        UsageError: there is no Tor, a peer is none, or nobody to begin with.
    """

    def __init__(self, settings: Settings, peers: Sequence[str], *, alone: bool) -> None:
        if not settings.has_tor:
            raise UsageError(
                "no daemon is running here, and a node of this command's own needs Tor: add --tor-proxy"
                " 127.0.0.1:9050, or --tor-launch"
            )
        self._settings = replace(settings, discovery=("onion", "dht"))
        met, known = known_nodes(settings)
        try:
            given = parse_peers(peers, known)
        except DecodeError as error:
            raise UsageError(f"--{error}") from None
        boot = onion_entries(entry_nodes(settings, load_network(settings.network)))
        self._entry = (*given, *boot) or tuple(met)
        if not self._entry and not alone:
            raise UsageError("nobody to begin with: give --peer, or --bootnodes, or start a daemon first")

    async def find(self, key: Key, found: Found, say: Say) -> Ended:
        """Search by a node without onion service, whose key is made for this."""
        texts = tuple(_text(node) for node in self._entry)
        async with standalone_discovery(replace(self._settings, bootnodes=texts), say=say, dht=True) as node:
            onion = node.onion
            assert onion is not None
            return await self._search(onion, key, found, say)

    async def _search(self, onion: OnionDiscovery, key: Key, found: Found, say: Say) -> Ended:
        """Search until somebody answered: a first dial over Tor may fail, and the next one not."""
        client, count, said = _client(onion), 0, False
        while True:
            answers = onion.talk_answers
            async with client.find(key, onion.chosen(self._entry)) as finding:
                async for each in finding.with_hops():
                    count += 1
                    found(describe_provider(each.record, each.hops))
            asked = 0 if finding.done is None else finding.done.asked
            answered = onion.talk_answers > answers
            if count or answered:
                return Ended(asked)
            if not said:
                said = True
                say("no peer answers yet; trying again")
            await asyncio.sleep(AGAIN)

    async def provide(self, keys: Iterable[tuple[str, Key]], tell: Tell, begun: Say, say: Say) -> None:
        """Provide until cancelled, by a node with an onion service of its own.

        Args:
            keys: texts and keys.
            tell: how it goes.
            begun: told the node's ONION:PORT/NODEID.
            say: told what takes long.
        """
        async with provider_node(self._settings, self._entry, say=say) as node:
            begun(node.text)
            client = _client(node.onion)
            client.on_waiting(lambda _key, reason: tell.waits(_in_words(reason)))
            client.on_provided(lambda provided: _tell_provided(tell, provided))
            async with asyncio.TaskGroup() as tasks:
                for _, key in keys:
                    tasks.create_task(_provide(client, key))
                await asyncio.Event().wait()


async def _provide(client: ProviderClient, key: Key) -> None:
    await client.provide(key)


def _client(onion: OnionDiscovery) -> ProviderClient:
    assert onion.providers is not None
    return onion.providers


def _tell_provided(tell: Tell, provided: Provided) -> None:
    refused = ", ".join(f"{why} ({count})" for why, count in provided.refused)
    tell.provided(provided.key, provided.stored, provided.asked, refused)


def _in_words(reason: Waiting) -> str:
    if reason is Waiting.ADDRESS:
        return "the onion service is not published yet"
    return "no peer yet: nobody answers, or nobody to call is known (--peer names one)"


def _text(node: Node) -> str:
    return node.enode.url if node.record is None else node.record.to_text()
