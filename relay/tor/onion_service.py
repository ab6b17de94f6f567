"""Our onion service at a Tor that someone else runs: published, watched, brought back, withdrawn.

Spec: control-spec, "ADD_ONION", "HS_DESC". The service is bound to the control connection (no Detach),
so that Tor drops it when this program dies.
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
from relay.tor.control import CommandRefused, ControlOptions, TorControl
from relay.tor.control_protocol import Reply
from relay.tor.status import StatusBoard

HEALTH_INTERVAL: Final = 30.0  # seconds
WITHDRAW_DEADLINE: Final = 2.0  # seconds, of the five that a clean stop has
MAX_STREAMS: Final = 16  # a rendezvous circuit; an honest peer needs one for RLPx and few for discovery
_BAD_ARGUMENT: Final = 512
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
    health_interval: float = HEALTH_INTERVAL
    withdraw_deadline: float = WITHDRAW_DEADLINE

    def __post_init__(self) -> None:
        if not 0 < self.virtual_port < 65536:
            raise UsageError(f"onion port {self.virtual_port} is not between 1 and 65535")
        if len(str(parse_address(self.target)).split()) != 1:
            raise UsageError(f"tor cannot be told a socket path with a blank in it: {self.target!r}")


class OnionService:
    """Keeps a Tor's state in sight and, when `options` are given, our service published there.

    Args:
        options: None only watches Tor (no onion service of ours).
        open_stream: connects to the control port; called anew after each loss.
        board: where the state is shown.
        on_up: told the address each time peers can reach it.
        on_down: told why each time they no longer can.
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
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._options = options
        self._control_options = control or ControlOptions()
        self._open_stream = open_stream
        self._board = board
        self._on_up, self._on_down = on_up, on_down
        self._sleep = sleep
        self._health_interval = options.health_interval if options else HEALTH_INTERVAL
        self._backoff = Backoff()
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
                self._take_down(str(error))
                self._board.update(control_connected=False, network_live=False, problem=str(error))
                pause = self._backoff.next_pause()
                log.warning("tor control lost", cause=str(error), retry_in=pause)
                await self._sleep(pause)

    # -- one control connection

    async def _serve(self, control: TorControl) -> None:
        await self._watch(control)
        log.info("tor control connected", version=control.info.tor_version)
        try:
            await self._until_bootstrapped(control)
            if self._options is not None:
                await self._publish(control, self._options)
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
            uploads=0,
            problem="",
        )
        for event in ("STATUS_CLIENT", "STATUS_GENERAL"):
            control.listen(event, self._take_status)
        control.listen("NETWORK_LIVENESS", lambda reply: board.take_liveness(reply.text))
        control.listen("HS_DESC", self._take_descriptor_event)
        await control.set_events()
        board.take_bootstrap(await control.get_info("status/bootstrap-phase"))
        board.take_liveness(await control.get_info("network-liveness"))

    def _take_status(self, reply: Reply) -> None:
        before = self._board.status.bootstrap_percent
        self._board.take_status_event(reply)
        if before < 100 <= self._board.status.bootstrap_percent:
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

    # -- the service

    async def _publish(self, control: TorControl, options: OnionServiceOptions) -> None:
        """Add the service; a leftover of our own earlier connection is waited for."""
        backoff = Backoff()
        while True:
            try:
                reply = await self._add(control, options)
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
            self._check_address(reply, options)
            return

    async def _add(self, control: TorControl, options: OnionServiceOptions) -> Reply:
        if options.pow_defenses:
            try:
                return await control.command("ADD_ONION", *_add_onion_arguments(options, pow_defenses=True))
            except CommandRefused as refusal:
                if refusal.code != _BAD_ARGUMENT:
                    raise
                log.warning(
                    "tor has no proof of work defence for onion services", version=control.info.tor_version
                )
        return await control.command("ADD_ONION", *_add_onion_arguments(options, pow_defenses=False))

    @staticmethod
    def _check_address(reply: Reply, options: OnionServiceOptions) -> None:
        service = reply.keyword_lines().get("ServiceID", "")
        if service != _service_id(options.key):
            raise TorControlError("tor published another onion address than our key's")

    def _take_descriptor_event(self, reply: Reply) -> None:
        """``HS_DESC UPLOADED <address> ...``: a directory holds our descriptor."""
        options = self._options
        words = reply.text.split(" ", 3)
        if options is None or words[1:3] != ["UPLOADED", _service_id(options.key)]:
            return
        first = not self._board.status.service_up
        self._board.update(uploads=self._board.status.uploads + 1, service_up=True)
        if first:
            log.info("onion service published")
            self._on_up(options.key.address)

    async def _check_health(self, control: TorControl) -> None:
        """Ask whether Tor still has the service, which also proves that the control port answers."""
        try:
            held = (await control.get_info("onions/current")).split()
        except CommandRefused:  # older Tor answers 551 when there is none
            held = []
        if self._options is not None and _service_id(self._options.key) not in held:
            self._take_down("tor no longer holds the onion service")
            await self._publish(control, self._options)

    def _take_down(self, reason: str) -> None:
        if self._options is None:
            return  # a service that torrc serves is not ours to call gone
        was_up = self._board.status.service_up
        self._board.update(service_up=False, uploads=0)
        if was_up:
            log.warning("onion service down", cause=reason)
            self._on_down(reason)

    async def _withdraw(self, control: TorControl) -> None:
        """Delete the service, within the deadline; Tor would also drop it with the connection."""
        if self._options is not None and not control.closed:
            with suppress(TimeoutError, TorControlError):
                async with asyncio.timeout(self._options.withdraw_deadline):
                    await control.command("DEL_ONION", _service_id(self._options.key))
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


def _service_id(key: OnionKey) -> str:
    return str(key.address).removesuffix(".onion")


def _add_onion_arguments(options: OnionServiceOptions, *, pow_defenses: bool) -> list[str]:
    arguments = [options.key.add_onion_blob()]
    if options.max_streams:
        arguments += ["Flags=MaxStreamsCloseCircuit", f"MaxStreams={options.max_streams}"]
    if pow_defenses:
        arguments.append("PoWDefensesEnabled=1")
    # parsed again, because "localhost" is a name to Tor
    arguments.append(f"Port={options.virtual_port},{parse_address(options.target)}")
    return arguments
