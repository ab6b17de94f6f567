"""Our onion service: published, watched, brought back, withdrawn.

Spec: control-spec, "ADD_ONION", "HS_DESC". The service is bound to the control connection (no Detach),
so that Tor drops it when this program dies; at a Tor of our own it ends with that Tor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from relay.primitives.address import parse_address
from relay.primitives.errors import TorControlError, UsageError
from relay.primitives.onion import OnionAddress, OnionKey
from relay.tor.address import OpenStream
from relay.tor.backoff import Backoff
from relay.tor.client_auth import AccessKeys, AuthorizedClient
from relay.tor.control import CommandRefused, ControlOptions, TorControl
from relay.tor.control_protocol import Reply
from relay.tor.health import DESCRIPTOR_LIFETIME, IntroductionWatch
from relay.tor.publishing import MAX_STREAMS, Published, ServiceFolder, publisher_of
from relay.tor.single_hop import refuse_single_hop
from relay.tor.status import StatusBoard

HEALTH_INTERVAL: Final = 30.0  # seconds
WITHDRAW_DEADLINE: Final = 2.0  # seconds, of the five that a clean stop has
_COLLISION: Final = "collision"

log = structlog.get_logger("relay.tor")

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class OnionServiceOptions:
    """What to publish and how to watch over it."""

    key: OnionKey
    virtual_port: int
    """The port that peers see."""
    target: str
    """Where Tor delivers to: ``IP:PORT`` or ``unix:/PATH``; Tor would resolve a name."""
    pow_defenses: bool = True
    """Ask for proof of work under load, where Tor can (0.4.9.2)."""
    max_streams: int = MAX_STREAMS
    """Streams a circuit may have; one more closes the circuit. 0 for no limit."""
    clients: tuple[AuthorizedClient, ...] = ()
    """Who may find the service; none given: everybody."""
    folder: ServiceFolder | None = None
    """Serve it from a folder of our own Tor, which can do more than ADD_ONION."""
    health_interval: float = HEALTH_INTERVAL
    withdraw_deadline: float = WITHDRAW_DEADLINE

    def __post_init__(self) -> None:
        if not 0 < self.virtual_port < 65536:
            raise UsageError(f"onion port {self.virtual_port} is not between 1 and 65535")
        if len(str(parse_address(self.target)).split()) != 1:
            raise UsageError(f"tor cannot be told a socket path with a blank in it: {self.target!r}")

    @property
    def published(self) -> Published:
        """What Tor is told."""
        return Published(
            self.key, self.virtual_port, self.target, self.pow_defenses, self.max_streams, self.clients
        )


class OnionService:
    """Keeps a Tor's state in sight and, when `options` are given, our service published there.

    Args:
        options: None only watches Tor (no onion service of ours).
        open_stream: connects to the control port; called anew after each loss.
        board: where the state is shown.
        on_up: told the address each time peers can reach it.
        on_down: told why each time they no longer can.
        watched: the address of a service that torrc serves: its uploads and introduction points are counted.
        access: our keys to onions that are not for everybody; shared with who gave them first.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        options: OnionServiceOptions | None,
        open_stream: OpenStream,
        board: StatusBoard,
        *,
        on_up: Callable[[OnionAddress], None] = lambda _: None,
        on_down: Callable[[str], None] = lambda _: None,
        control: ControlOptions | None = None,
        watched: OnionAddress | None = None,
        access: AccessKeys | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._options = options
        self._publisher = None if options is None else publisher_of(options.published, options.folder)
        self._access = access or AccessKeys()
        self._forgotten = False
        self._control_options = control or ControlOptions()
        self._open_stream = open_stream
        self._board = board
        self._on_up, self._on_down = on_up, on_down
        self._sleep = sleep
        self._health_interval = options.health_interval if options else HEALTH_INTERVAL
        self._backoff = Backoff()
        address = options.key.address if options else watched
        self._service_id = "" if address is None else str(address).removesuffix(".onion")
        self._introductions = IntroductionWatch(self._service_id, board)
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let `run` withdraw the service and return; cancelling its task does the same."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`; no fault of Tor ends it."""
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(self._serve_forever())
            await self._stopping.wait()
            serving.cancel()

    async def _serve_forever(self) -> None:
        while True:
            try:
                async with TorControl.connect(self._open_stream, self._control_options) as control:
                    await self._serve(control)
            except TorControlError as error:
                told = log.debug if self._board.status.problem == str(error) else log.warning
                self._take_down(str(error))
                self._board.update(
                    control_connected=False, network_live=False, introductions=0, problem=str(error)
                )
                pause = self._backoff.next_pause()
                told("tor control lost", cause=str(error), retry_in=pause)
                await self._sleep(pause)

    # -- one control connection

    async def _serve(self, control: TorControl) -> None:
        try:
            await self._watch(control)
            log.info("tor control connected", version=control.info.tor_version)
            await self._until_bootstrapped(control)
            if self._options is not None:
                await self._publish(control)
            self._backoff.reset()
            while True:
                await self._wait(control)
                await self._check_health(control)
        finally:
            await self._withdraw(control)

    async def _watch(self, control: TorControl) -> None:
        board = self._board
        self._wake.clear()
        control.on_closed(self._wake.set)
        board.update(
            control_connected=True,
            version=control.info.tor_version,
            bootstrap_percent=0,
            problem="",
        )
        for event in ("STATUS_CLIENT", "STATUS_GENERAL"):
            control.listen(event, self._take_status)
        control.listen("NETWORK_LIVENESS", lambda reply: board.take_liveness(reply.text))
        if self._service_id:
            control.listen("HS_DESC", self._take_descriptor_event)
            self._introductions.listen(control)
        if self._access:
            control.listen("SIGNAL", self._take_signal)
        await refuse_single_hop(control)
        await control.set_events()
        board.take_bootstrap(await control.get_info("status/bootstrap-phase"))
        board.take_liveness(await control.get_info("network-liveness"))
        await self._access.give(control)

    def _take_status(self, reply: Reply) -> None:
        before = self._board.status.bootstrap_percent
        self._board.take_status_event(reply)
        if before < 100 <= self._board.status.bootstrap_percent:
            self._wake.set()

    def _take_signal(self, reply: Reply) -> None:
        """NEWNYM, of whoever shares this Tor, makes it forget keys that are in memory only."""
        if reply.text.endswith(" NEWNYM"):
            self._forgotten = True
            self._wake.set()

    async def _until_bootstrapped(self, control: TorControl) -> None:
        while self._board.status.bootstrap_percent < 100:
            await self._wait(control)
            self._board.take_bootstrap(await control.get_info("status/bootstrap-phase"))

    async def _wait(self, control: TorControl) -> None:
        """Wait for news or the health interval; a lost connection is raised."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._health_interval):
                await self._wake.wait()
        self._wake.clear()
        if control.closed:
            raise control.failure
        if self._forgotten:
            self._forgotten = False
            await self._access.give(control)

    # -- the service

    async def _publish(self, control: TorControl) -> None:
        """Add the service; a leftover of our own earlier connection is waited for."""
        backoff = Backoff()
        assert self._publisher is not None
        while True:
            try:
                await self._publisher.add(control)
            except CommandRefused as refusal:
                if _COLLISION not in refusal.text.lower():
                    raise
                pause = backoff.next_pause()
                problem = "tor still holds this onion address for an earlier connection or another program"
                self._board.update(problem=problem)
                log.warning("onion address taken", retry_in=pause)
                await self._sleep(pause)
                if control.closed:
                    raise control.failure from None
                continue
            self._board.update(problem="")
            return

    def _take_descriptor_event(self, reply: Reply) -> None:
        """``HS_DESC UPLOADED|FAILED <address> ...``: a directory holds our descriptor, or did not take it."""
        words = reply.text.split(" ", 3)
        if words[2:3] != [self._service_id]:
            return
        if words[1] == "FAILED":
            self._board.take_upload_failure()
        elif words[1] == "UPLOADED":
            was_up = self._board.status.service_up
            self._board.take_upload()
            if self._options is not None and not was_up:
                log.info("onion service published")
                self._on_up(self._options.key.address)

    async def _check_health(self, control: TorControl) -> None:
        """Ask whether Tor still has the service, which also proves that the control port answers."""
        if self._options is None or self._publisher is None:
            await control.get_info("network-liveness")
            return
        reason = await self._why_lost(control)
        if reason:
            self._take_down(reason)
            with suppress(CommandRefused):  # it is gone already, most often
                await self._publisher.remove(control)
            await self._publish(control)

    async def _why_lost(self, control: TorControl) -> str:
        assert self._publisher is not None
        if not await self._publisher.is_held(control):
            return "tor no longer holds the onion service"
        age = self._board.upload_age
        if self._board.status.service_up and age is not None and age > DESCRIPTOR_LIFETIME:
            return "no directory took the descriptor for so long that they have none"
        return ""

    def _take_down(self, reason: str) -> None:
        if self._options is None:
            return  # a service that torrc serves is not ours to call gone
        was_up = self._board.status.service_up
        self._board.update(service_up=False)
        if was_up:
            log.warning("onion service down", cause=reason)
            self._on_down(reason)

    async def _withdraw(self, control: TorControl) -> None:
        """Delete the service, within the deadline; Tor would also drop it with the connection."""
        if not control.closed:
            deadline = self._options.withdraw_deadline if self._options else WITHDRAW_DEADLINE
            with suppress(TimeoutError, TorControlError):
                async with asyncio.timeout(deadline):
                    if self._publisher is not None:
                        with suppress(CommandRefused):  # it was not there yet
                            await self._publisher.remove(control)
                    await self._access.forget(control)
        self._take_down(str(control.failure) if control.closed else "withdrawn")


class ExternalOnion:
    """An onion service that torrc serves (HiddenServiceDir): assumed up, as there is nobody to ask."""

    def __init__(
        self, address: OnionAddress, board: StatusBoard, on_up: Callable[[OnionAddress], None]
    ) -> None:
        self._address, self._board, self._on_up = address, board, on_up

    def announce(self) -> None:
        """Say that it is up."""
        self._board.update(service_up=True)
        self._on_up(self._address)
