"""``pyrelay localnet --dht N``: the session of go-tor-dht-poc on a private Tor network.

N peers with onion services are created, each given those before it; the first and the last provide a key;
a node without onion service, which knows the third alone, finds both.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

from relay.discovery.peer_text import peer_text
from relay.localnet.accounts import make_accounts
from relay.localnet.client import ClientHandle
from relay.localnet.genesis import throwaway_genesis
from relay.localnet.link import DaemonLink
from relay.localnet.network import PrivateTor
from relay.localnet.ports import free_ports
from relay.localnet.relays import MODULE, ONION_PORT, RelayDaemon, RelayFiles, make_relays, write_relays
from relay.localnet.run import Interrupted, first_error, make_directory
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import LocalError
from relay.protocols.dht import parse_key
from relay.transports.sockets import SocketFactory, SocketRules

__all__ = ["DEFAULT_KEY", "FEWEST_PEERS", "DhtLocalnet", "DhtOptions", "DhtOutcome", "Lines"]

DEFAULT_KEY: Final = "pyrelay-example"
FEWEST_PEERS: Final = 3  # the first, the last, and the one that is asked
START_SECONDS: Final = 180.0
MEET_SECONDS: Final = 30.0  # that is waited until every peer knows all others; fewer do as well
PROVIDE_SECONDS: Final = 90.0
FIND_SECONDS: Final = 90.0
LOOK: Final = 0.2  # seconds
SHOWN: Final = 60  # characters of a key's text


@dataclass(frozen=True, slots=True)
class DhtOptions:
    """How a run goes.

    Attributes:
        peers: 3 to 20.
        key: what is provided and found; see `pyrelay dht`.
        once: end when the search has ended.
        keep: a new or empty folder for everything; None for a temporary one.
    """

    peers: int = 5
    key: str = DEFAULT_KEY
    once: bool = False
    keep: Path | None = None


@dataclass(frozen=True, slots=True)
class DhtOutcome:
    """What a run came to.

    Attributes:
        peers: that were created.
        found: providers, as ONION:PORT/NODEID.
        seconds: from the start of the search to its end.
        good: the first and the last were found, and nobody else.
    """

    peers: int
    found: tuple[str, ...]
    seconds: float
    good: bool

    def to_json(self) -> str:
        """Return one JSON object, on one line."""
        told = {
            "peers": self.peers,
            "providers_found": list(self.found),
            "find_seconds": round(self.seconds, 2),
        }
        return json.dumps(told)


class Lines:
    """Progress, a line each; on a terminal what passes is shown in place.

    Args:
        file: gets them.
        began: monotonic seconds at which the command started.
    """

    def __init__(self, file: TextIO, began: float) -> None:
        self._file, self._began = file, began
        self._in_place = file.isatty()
        self._passing = ""

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self._wipe()
        print(f"{self._elapsed:6.1f} s  {text}", file=self._file, flush=True)

    def add(self, text: str) -> None:
        """Write a line that belongs to the one before."""
        self._wipe()
        print(f"          {text}", file=self._file, flush=True)

    def passing(self, text: str) -> None:
        """Show what is being done; off a terminal each text is a line, once."""
        if self._in_place:
            print(f"\r\x1b[K{self._elapsed:6.1f} s  {text}", end="", file=self._file, flush=True)
        elif text != self._passing:
            print(f"{self._elapsed:6.1f} s  {text}", file=self._file, flush=True)
        self._passing = text

    def _wipe(self) -> None:
        if self._in_place and self._passing:
            print("\r\x1b[K", end="", file=self._file)
        self._passing = ""

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began


class _Ended(Exception):
    """Leaves the run's task group."""


class DhtLocalnet:
    """One run.

    Args:
        options: checked by the command line.
        lines: shows it.
        network: makes the Tor network in a folder.
        daemon: makes a peer's process.
    """

    def __init__(
        self,
        options: DhtOptions,
        lines: Lines,
        *,
        network: Callable[[Path], PrivateTor] = PrivateTor,
        daemon: Callable[[RelayFiles], RelayDaemon] = RelayDaemon,
    ) -> None:
        self._options, self._lines = options, lines
        self._make_network, self._make_daemon = network, daemon
        self._stop = asyncio.Event()
        self._tor: PrivateTor | None = None
        self._daemons: list[RelayDaemon] = []
        self._links: list[DaemonLink] = []
        self._outcome: DhtOutcome | None = None

    async def run(self) -> DhtOutcome:
        """Run to the end, which leaves no process and, without `keep`, no file.

        Raises:
            Interrupted: by a signal, before the search had ended.
            LocalError: something could not be started, or ended before its time.
        """
        directory = make_directory(self._options.keep)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled)
        try:
            await self._work(directory)
        finally:
            await self._end()
            if self._options.keep is None:
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        if self._outcome is None:
            raise Interrupted("ended before anything was found")
        return self._outcome

    async def _work(self, directory: Path) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._until_stopped())
                await self._session(directory, tasks)
                if not self._options.once:
                    await self._stop.wait()
                raise _Ended
        except* _Ended:
            pass
        except* LocalError as group:
            raise first_error(group) from None

    async def _session(self, directory: Path, tasks: asyncio.TaskGroup) -> None:
        lines, count = self._lines, self._options.peers
        relays = _peers(directory, count)
        lines.say(f"creating {count} peers on a private Tor network")
        tor = self._tor = self._make_network(directory / "tor")
        await tor.start(lambda percent, words: lines.passing(f"Tor: {words}"))
        lines.passing("Tor: clients of the peers")
        finder = await tor.add_client("finder", wait=False)
        for files in relays:
            self._start_peer(files, tor, tasks)
        await _in_time(START_SECONDS, "the peers did not come up", lambda: self._created(relays))
        await self._met()
        lines.say(f"the key is {_named(self._options.key)}")
        for number, which in ((0, "first"), (count - 1, "last")):
            lines.say(f"providing the key on the {which} one, {_short(relays[number])}")
        key = self._options.key
        async with asyncio.TaskGroup() as provides:
            jobs = [provides.create_task(self._provide(number, key)) for number in (0, count - 1)]
        lines.say(f"provided; kept by {' and '.join(str(job.result()) for job in jobs)} nodes")
        await finder.wait_bootstrapped()
        await self._find(finder, relays, directory)

    # -- peers

    def _start_peer(self, files: RelayFiles, tor: PrivateTor, tasks: asyncio.TaskGroup) -> None:
        daemon, link = self._make_daemon(files), DaemonLink(files.ipc_path, f"peer #{files.number}")
        self._daemons.append(daemon)
        self._links.append(link)
        tasks.create_task(link.run())
        tasks.create_task(_tend(daemon, tor))

    async def _created(self, relays: Sequence[RelayFiles]) -> None:
        for files, link in zip(relays, self._links, strict=True):
            await link.opened.wait()
            await _until(partial(link.call, "net_listening"))
            self._lines.say(f"created peer #{files.number}: {_text(files)}")

    async def _met(self) -> None:
        """Wait a while until each peer has answered each other."""
        others = self._options.peers - 1
        until = asyncio.get_running_loop().time() + MEET_SECONDS
        while True:
            live = [await self._live(link) for link in self._links]
            if min(live) >= others or asyncio.get_running_loop().time() > until:
                break
            self._lines.passing("the peers look for each other")
            await asyncio.sleep(LOOK)
        known = f"{others} others" if min(live) == others else f"{min(live)} to {max(live)} others"
        self._lines.say(f"each peer knows {known}")

    async def _live(self, link: DaemonLink) -> int:
        told = (await link.call("admin_nodeInfo"))["discovery"].get("onion", {})
        return int(told.get("live", 0))

    # -- the key

    async def _provide(self, number: int, key: str) -> int:
        """Provide on one peer; returns how many nodes keep the record."""
        link = self._links[number]
        job = await link.call("dht_provide", key, [])
        state: dict[str, Any] = {}

        async def provided() -> None:
            while not state or state["state"] in ("waiting", "running"):
                state.update(await link.call("dht_job", job))
                await asyncio.sleep(LOOK)

        await _in_time(PROVIDE_SECONDS, f"peer #{number + 1} did not provide the key", provided)
        if state["state"] == "failed":
            raise LocalError(f"peer #{number + 1} does not provide the key: {state['reason']}")
        return int(state["stored"])

    async def _find(self, client: ClientHandle, relays: Sequence[RelayFiles], directory: Path) -> None:
        asked = relays[min(2, len(relays) - 1)]
        words = [
            "dht", "find", self._options.key, "--only-onion", "--tor-proxy", str(client.socks),
            "--datadir", str(directory / "finder"), "--peer", _text(asked),
        ]  # fmt: skip
        lines = self._lines
        lines.say(f"looking for the key by a node without onion service, entering by peer #{asked.number}")
        found = await _run([*words, "--json", "--timeout", f"{FIND_SECONDS:g}"])
        for provider in found["providers"]:
            lines.say(f"found provider {provider['peer']}")
        wanted = {relays[0].node_key.node_id.hex(), relays[-1].node_key.node_id.hex()}
        good = {provider["id"] for provider in found["providers"]} == wanted
        texts = tuple(str(provider["peer"]) for provider in found["providers"])
        self._outcome = DhtOutcome(len(relays), texts, float(found["seconds"]), good)
        lines.say(f"the search took {found['seconds']:.1f} s" + ("" if good else ": NOT both were found"))
        if not self._options.once:
            self._invite(words, asked)

    def _invite(self, words: list[str], asked: RelayFiles) -> None:
        lines = self._lines
        lines.say("try it from another terminal; Ctrl-C here ends everything")
        lines.add(shlex.join(["pyrelay", *words]))
        lines.add(shlex.join(["pyrelay", "dht", "find", self._options.key, "--ipcpath", str(asked.ipc_path)]))

    # -- end

    def _signalled(self) -> None:
        """The first asks for an orderly end; a second one means that it takes too long."""
        if self._stop.is_set():
            for daemon in self._daemons:
                daemon.kill()
        self._stop.set()

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        raise _Ended

    async def _end(self) -> None:
        self._lines.passing("ending")
        async with asyncio.TaskGroup() as stops:
            for daemon in self._daemons:
                stops.create_task(daemon.stop())
        if self._tor is not None:
            await self._tor.stop()
        kept = self._options.keep
        self._lines.say("ended" if kept is None else f"ended; keys, logs and configuration are in {kept}")


def _peers(directory: Path, count: int) -> list[RelayFiles]:
    """Write what the daemons find: each is told of those before it, and of nobody else."""
    sockets = SocketFactory(SocketRules.anywhere())
    made = make_relays(directory, count, free_ports(count, sockets, secrets.token_bytes), secrets.token_bytes)
    relays = [
        replace(each, flags=("--discovery", "onion,dht", "--bootnodes", _urls(made[: each.number - 1])))
        for each in made
    ]
    accounts = make_accounts(1, secrets.token_bytes)
    chain_id = 10**6 + secrets.randbelow(10**9)
    genesis = throwaway_genesis(chain_id, (each.address for each in accounts), int(time.time()))
    write_relays(relays, genesis, acquainted=False)
    return relays


def _urls(relays: Sequence[RelayFiles]) -> str:
    return ",".join(each.enode.url for each in relays)


def _text(files: RelayFiles) -> str:
    onion = Endpoint(Network.ONION, files.onion_key.address, ONION_PORT)
    return peer_text(files.node_key.public_key, onion)


def _named(key: str) -> str:
    raw = f"0x{parse_key(key).hex()}"
    return raw if key.lower() == raw else f"{raw}, the hash of {key[:SHOWN]!r}"


def _short(files: RelayFiles) -> str:
    return f"{files.onion_key.address}:{ONION_PORT}"


async def _tend(daemon: RelayDaemon, tor: PrivateTor) -> None:
    """Start a peer's Tor client and the peer, and watch it to the end."""
    client = await tor.add_client(f"client{daemon.files.number}", wait=False)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client.wait_bootstrapped())
        await daemon.start(client)
        await daemon.watch()


async def _run(words: Sequence[str]) -> dict[str, Any]:
    """Run the command line as a person would, and return the JSON that it prints.

    Raises:
        LocalError: it printed none; with what it said.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.localnet.leash", MODULE, *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stderr is not None
        out, err = await asyncio.gather(child.stdout.read(), child.stderr.read())
        await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        said = err.decode("utf-8", "replace").strip().splitlines()
        raise LocalError(f"dht find failed: {said[-1] if said else 'it said nothing'}") from None
    return found


async def _until(condition: Callable[[], Awaitable[object]]) -> None:
    while True:
        if await condition():
            return
        await asyncio.sleep(LOOK)


async def _in_time(seconds: float, otherwise: str, wait: Callable[[], Awaitable[None]]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wait()
    except TimeoutError:
        raise LocalError(f"{otherwise} in {seconds:g} s") from None
