"""`dht_*` of JSON-RPC: searches and keys as jobs that a client looks at, since its methods never wait.

Jobs are tasks of the daemon. An ended one is told of for some minutes; there are only so many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

import structlog

from relay.app.datadir import DataDir
from relay.app.onions import OnionDiscovery
from relay.discovery.peer_text import KnownKey, describe_provider, parse_peers
from relay.discovery.providers import Provided, ProviderClient
from relay.primitives.errors import DecodeError, LocalError, StorageError
from relay.primitives.node import Node
from relay.protocols.dht import Ended, Key, Waiting, parse_key, to_key
from relay.rpc.errors import invalid_params
from relay.settings import Settings

__all__ = ["DhtJobs", "State", "why_no_dht"]

MAX_JOBS: Final = 64  # ended ones included; the oldest ended ones go first, and while none has, no more begin
KEPT: Final = 600.0  # seconds that an ended job is told of
PATIENCE: Final = 120.0  # seconds that a search waits for a first node to ask
LOOK: Final = 0.5  # seconds between two looks whether there is one
AGAIN: Final = 15.0  # seconds from a write that nobody stored to the next
KEYS: Final = "dht_keys.json"  # what was provided before a restart; hashes, as everybody on the DHT sees them

log = structlog.get_logger("relay.app")


class State(StrEnum):
    """How far a job is."""

    WAITING = "waiting"
    """For what its reason says."""
    RUNNING = "running"
    DONE = "done"
    """A search: all that could be were asked, whether or not anybody was found. A key: it was written."""
    FAILED = "failed"
    """For its reason; cancelled ones too."""


@dataclass(slots=True)
class Job:
    """A search, or a key on its way to the nodes that keep it.

    Attributes:
        id: its name for the client.
        kind: "find" or "provide".
        key: of it.
        state: see there.
        reason: what it waits for, or why it ended so; empty if there is nothing to say.
        found: providers, as JSON.
        stored: nodes that keep our record of the key.
        asked: nodes that were asked.
        ended_at: seconds of the clock.
        task: while it runs.
        began: the key was not provided before.
    """

    id: str
    kind: str
    key: Key
    state: State = State.RUNNING
    reason: str = ""
    found: list[dict[str, object]] = field(default_factory=list)
    stored: int = 0
    asked: int = 0
    ended_at: float | None = None
    task: asyncio.Task[None] | None = None
    began: bool = False

    def to_json(self) -> dict[str, object]:
        """Return what dht_job tells."""
        return {
            "id": self.id,
            "kind": self.kind,
            "key": "0x" + self.key.hex(),
            "state": self.state.value,
            "reason": self.reason,
            "providers": list(self.found),
            "stored": self.stored,
            "asked": self.asked,
        }

    def waits(self, reason: str) -> None:
        """Note what it waits for."""
        self.state, self.reason = State.WAITING, reason


Work: TypeAlias = Callable[[Job, tuple[Node, ...]], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Kept:
    """A key that somebody had us provide, and how its last writing went."""

    stored: int = 0
    asked: int = 0


class DhtJobs:
    """`relay.rpc.views.DhtView` of a daemon.

    Args:
        tasks: where jobs live.
        refusal: why there is no DHT; None if there is one.
        known: keys of node ids that are known here.
        clock: monotonic seconds.
        data: where keys outlive a restart.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        *,
        refusal: str | None,
        known: KnownKey,
        clock: Callable[[], float],
        data: DataDir | None = None,
    ) -> None:
        self._data = data
        self._tasks, self._refusal, self._known, self._clock = tasks, refusal, known, clock
        self._jobs: dict[str, Job] = {}
        before = None if data is None else data.load_state(KEYS)
        self._keys = {key: _Kept() for key in _keys_in(before)}
        self._count = 0
        self._onion: OnionDiscovery | None = None
        self._begun = asyncio.Event()

    def begin(self, onion: OnionDiscovery | None) -> None:
        """Let jobs begin: discovery runs. Keys of before a restart are provided again."""
        if onion is None or onion.providers is None:
            return
        self._onion = onion
        onion.providers.on_waiting(self._waiting)
        onion.providers.on_provided(self._provided)
        self._resume(onion.providers)
        self._begun.set()

    # -- the view --------------------------------------------------------------------------------------

    def provide(self, key: str, peers: Sequence[str]) -> str:
        """Provide a key from now on; returns the id of the job that ends when it was written."""
        return self._add("provide", key, peers, self._provide)

    def find(self, key: str, peers: Sequence[str]) -> str:
        """Search for the providers of a key; returns the id of the job."""
        return self._add("find", key, peers, self._find)

    def job(self, job: str) -> Mapping[str, object]:
        """Tell of a job."""
        return self._get(job).to_json()

    def cancel(self, job: str) -> bool:
        """End a job; a key whose providing it began is provided no more."""
        found = self._get(job)
        if found.ended_at is not None:
            return False
        if found.began:
            self._forget(found.key)
        self._end(found, State.FAILED, "cancelled")
        return True

    def providing(self) -> Sequence[Mapping[str, object]]:
        """Tell of each key that somebody had us provide, and not of those by which relays meet."""
        self._check()
        return [
            {"key": "0x" + key.hex(), "stored": kept.stored, "asked": kept.asked}
            for key, kept in self._keys.items()
        ]

    def stop_providing(self, key: str) -> bool:
        """Provide a key no longer, nor try to."""
        self._check()
        parsed = parse_key(key)
        for job in self._jobs.values():
            if job.kind == "provide" and job.key == parsed and job.ended_at is None:
                self._end(job, State.FAILED, "providing was stopped")
        return self._forget(parsed)

    # -- jobs ------------------------------------------------------------------------------------------

    def _add(
        self,
        kind: str,
        key: str,
        peers: Sequence[str],
        work: Work,
    ) -> str:
        self._check()
        try:
            parsed, nodes = parse_key(key), parse_peers(peers, self._known)
        except DecodeError as error:
            raise invalid_params(str(error)) from None
        self._make_room()
        self._count += 1
        job = Job(str(self._count), kind, parsed)
        if kind == "provide" and parsed not in self._keys:
            self._keys[parsed] = _Kept()
            self._save()
            job.began = True
        self._jobs[job.id] = job
        job.task = self._tasks.create_task(self._run(job, work, nodes), name=f"dht {kind}")
        return job.id

    async def _run(self, job: Job, work: Work, nodes: tuple[Node, ...]) -> None:
        await work(job, nodes)
        log.debug("dht job ended", kind=job.kind, target=job.key.hex()[:16], state=job.state.value)

    async def _find(self, job: Job, peers: tuple[Node, ...]) -> None:
        onion, client = await self._discovery(job)
        if not peers and not await self._met_somebody(job, onion):
            self._end(job, State.FAILED, "no node of the onion network is known: name one as a peer")
            return
        job.state, job.reason = State.RUNNING, ""
        answers = onion.talk_answers
        async with client.find(job.key, onion.chosen(peers)) as finding:
            async for found in finding.with_hops():
                job.found.append(describe_provider(found.record, found.hops))
        done = finding.done
        assert done is not None
        job.asked = done.asked
        if done.ended in (Ended.BUSY, Ended.NO_PEERS):
            self._end(job, State.FAILED, done.ended.value)
        elif not job.found and onion.talk_answers == answers:
            self._end(job, State.FAILED, "none of the nodes that were asked answers")
        else:
            self._end(job, State.DONE, done.ended.value)

    async def _met_somebody(self, job: Job, onion: OnionDiscovery) -> bool:
        until = self._clock() + PATIENCE
        while not len(onion.driver.core.table):
            if self._clock() >= until:
                return False
            job.waits(Waiting.PEERS.value)
            await asyncio.sleep(LOOK)
        return True

    async def _provide(self, job: Job, peers: tuple[Node, ...]) -> None:
        onion, client = await self._discovery(job)
        for node in peers:
            onion.enter_by(node)
        while True:
            try:
                provided = await client.provide(job.key)
            except ValueError as error:
                self._keys.pop(job.key, None)
                self._save()
                self._end(job, State.FAILED, str(error))
                return
            job.stored, job.asked = provided.stored, provided.asked
            if provided.stored:
                self._end(job, State.DONE, "")
                return
            reasons = ", ".join(f"{why} ({count})" for why, count in provided.refused)
            job.waits(f"none of {provided.asked} nodes stored it: {reasons}; trying again")
            await asyncio.sleep(AGAIN)

    async def _discovery(self, job: Job) -> tuple[OnionDiscovery, ProviderClient]:
        if not self._begun.is_set():
            job.waits("the daemon is starting")
            await self._begun.wait()
            job.state, job.reason = State.RUNNING, ""
        assert self._onion is not None
        assert self._onion.providers is not None
        return self._onion, self._onion.providers

    def _end(self, job: Job, state: State, reason: str) -> None:
        job.state, job.reason, job.ended_at = state, reason, self._clock()
        task, job.task = job.task, None
        if state is State.FAILED and task is not None and task is not asyncio.current_task():
            task.cancel()

    # -- keys ------------------------------------------------------------------------------------------

    def _forget(self, key: Key) -> bool:
        known = self._keys.pop(key, None) is not None
        if known:
            self._save()
        if known and self._onion is not None and self._onion.providers is not None:
            self._onion.providers.stop_providing(key)
        return known

    def _resume(self, client: ProviderClient) -> None:
        for key in tuple(self._keys):
            try:
                client.begin(key)
            except ValueError as error:
                del self._keys[key]
                log.warning("key of before not provided", target=key.hex()[:16], cause=str(error))

    def _save(self) -> None:
        if self._data is None:
            return
        try:
            self._data.save_state(KEYS, ["0x" + key.hex() for key in self._keys])
        except StorageError as error:
            log.warning("provided keys not saved", cause=str(error))

    def _waiting(self, key: Key, reason: Waiting) -> None:
        for job in self._jobs.values():
            if job.kind == "provide" and job.key == key and job.ended_at is None:
                job.waits(reason.value)

    def _provided(self, provided: Provided) -> None:
        kept = self._keys.get(provided.key)
        if kept is not None:
            kept.stored, kept.asked = provided.stored, provided.asked

    # -- bounds ----------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._refusal is not None:
            raise LocalError(self._refusal)

    def _get(self, job: str) -> Job:
        self._check()
        self._expire()
        found = self._jobs.get(job)
        if found is None:
            raise LocalError(f"there is no job {job[:16]!r}, or it ended over {KEPT:g} s ago")
        return found

    def _expire(self) -> None:
        oldest = self._clock() - KEPT
        for job in [each for each in self._jobs.values() if each.ended_at is not None]:
            if job.ended_at is not None and job.ended_at <= oldest:
                del self._jobs[job.id]

    def _make_room(self) -> None:
        self._expire()
        if len(self._jobs) < MAX_JOBS:
            return
        ended = next((each for each in self._jobs.values() if each.ended_at is not None), None)
        if ended is None:
            raise LocalError(f"{MAX_JOBS} jobs are under way: wait until one ends, or dht_cancel one")
        del self._jobs[ended.id]


def _keys_in(state: object) -> list[Key]:
    """Keys of an earlier run; what else a file holds counts as none."""
    found = []
    for text in state if isinstance(state, list) else ():
        with suppress(ValueError):
            found.append(to_key(bytes.fromhex(str(text).removeprefix("0x"))))
    return found


def why_no_dht(settings: Settings) -> str | None:
    """Say why a daemon of these settings has no provider DHT; None if it has one."""
    if "dht" not in settings.sources:
        chosen = ",".join(sorted(settings.sources)) or "off"
        tor = "" if settings.has_tor else ", and with Tor: --tor-proxy 127.0.0.1:9050 or --tor-launch"
        return (
            f"this daemon has no provider DHT, its --discovery is {chosen}: start it with --discovery"
            f" onion,dht{tor}"
        )
    return None
