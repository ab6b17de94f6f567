"""A connection to Tor's control port: authentication, commands with a deadline, events.

Why our own and not stem: docs/adr/0004-own-tor-control-client.md. Spec: control-spec.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from relay.primitives.errors import RelayError, TorControlError, TransportError
from relay.tor.address import GROUP_REMEDY, OpenStream, describe_failure
from relay.tor.authentication import COOKIE_SIZE, NONCE_SIZE, ProtocolInfo, answer_challenge, open_door
from relay.tor.control_protocol import Reply, ReplyParser, encode_command, quote, shown

READ_SIZE: Final = 65_536  # bytes
MAX_PENDING: Final = 64  # commands without an answer; a further one is refused

EventListener = Callable[[Reply], None]


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """How to talk to a control port."""

    command_deadline: float = 10.0
    """Seconds for one command, its connection and the answer; a silent port is given up after it."""
    password: str | None = None
    """For HashedControlPassword, used where no cookie is offered or readable."""


class CommandRefused(TorControlError):
    """Tor answered a command with an error; `code` is its status (control-spec, "Replies")."""

    def __init__(self, command: str, reply: Reply) -> None:
        super().__init__(f"tor refused {command}: {reply.code} {shown(reply.text)}")
        self.code = reply.code
        self.text = reply.text


class TorControl:
    """An authenticated control connection; made by `connect`.

    Every failure is a TorControlError. A cancelled command leaves the connection usable: its answer is
    read and dropped when it comes. After a deadline that passed the connection is closed.
    """

    def __init__(
        self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], options: ControlOptions
    ) -> None:
        self._reader, self._writer = streams
        self._options = options
        self._pending: deque[asyncio.Future[Reply]] = deque()
        self._listeners: dict[str, list[EventListener]] = {}
        self._closed = asyncio.Event()
        self._on_closed: list[Callable[[], None]] = []
        self._failure = TorControlError("the control connection is closed")
        self.info = ProtocolInfo(frozenset(), "", "")

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, open_stream: OpenStream, options: ControlOptions | None = None
    ) -> AsyncIterator[TorControl]:
        """Connect, authenticate, and close at the end of the block.

        Args:
            open_stream: makes the connection; it comes from the app's socket factory.
            options: deadlines and password.

        Raises:
            TorControlError: refused, silent, not Tor, or the authentication failed; also whatever
                control fault the block meets.
        """
        options = options or ControlOptions()
        control = cls(await _open(open_stream, options.command_deadline), options)
        fault: RelayError | None = None
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(control._read())
            try:
                await control._authenticate()
                yield control
            except RelayError as error:  # carried around the group, which would wrap it
                fault = error
            finally:
                control._close(TorControlError("the control connection is closed"))
                reading.cancel()
        if fault is not None:
            raise fault

    # -- commands

    async def command(self, keyword: str, *arguments: str) -> Reply:
        """Send one command and return Tor's answer.

        Raises:
            CommandRefused: Tor answered with an error.
            TorControlError: the connection is gone, or the answer did not come in time.
        """
        line = encode_command(keyword, *arguments)
        if self._closed.is_set():
            raise self._failure
        if len(self._pending) >= MAX_PENDING:
            raise TorControlError(f"{MAX_PENDING} commands wait for tor's answer already")
        reply = await self._exchange(keyword, line)
        if not 200 <= reply.code < 300:
            raise CommandRefused(keyword, reply)
        return reply

    async def _exchange(self, keyword: str, line: bytes) -> Reply:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending.append(answer)
        try:
            async with asyncio.timeout(self._options.command_deadline):
                self._writer.write(line)
                await self._writer.drain()
                return await answer
        except TimeoutError:
            # an answer that comes late would be taken for that of the next command
            self._close(
                TorControlError(f"tor did not answer {keyword} in {self._options.command_deadline:g} s")
            )
            raise self._failure from None
        except OSError as error:
            self._close(TorControlError(f"the control connection broke: {error}"))
            raise self._failure from error

    async def get_info(self, key: str) -> str:
        """The value of one GETINFO key, lines joined by a line feed."""
        values = (await self.command("GETINFO", key)).keyword_lines()
        if key not in values:
            raise TorControlError(f"tor answered GETINFO {key} without a value")
        return values[key].strip("\n")

    @property
    def open_door(self) -> str | None:
        """Words of warning where this port takes commands of anybody who reaches it."""
        return open_door(self.info, self._writer.get_extra_info("peername"))

    # -- events

    def listen(self, event: str, listener: EventListener) -> None:
        """Call `listener` for each event of that name, in the reading task; enable it by `set_events`."""
        self._listeners.setdefault(event, []).append(listener)

    async def set_events(self) -> None:
        """Ask Tor for the events that have listeners."""
        await self.command("SETEVENTS", *self._listeners)

    def _dispatch(self, reply: Reply) -> None:
        event = reply.lines[0].text.partition(" ")[0]
        for listener in self._listeners.get(event, ()):
            listener(reply)

    # -- life

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._closed.is_set()

    @property
    def failure(self) -> TorControlError:
        """Why it is gone."""
        return self._failure

    def on_closed(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the connection is gone."""
        self._on_closed.append(listener)

    async def wait_closed(self) -> TorControlError:
        """Wait until the connection is gone, and say why."""
        await self._closed.wait()
        return self._failure

    def _close(self, reason: TorControlError) -> None:
        if self._closed.is_set():
            return
        self._failure = reason
        self._closed.set()
        self._writer.transport.abort()  # a closing that waits for a silent Tor would hang
        while self._pending:
            answer = self._pending.popleft()
            if not answer.done():
                answer.set_exception(reason)
                answer.exception()  # whoever gave up on it must not be told by a warning
        for listener in self._on_closed:
            listener()

    async def _read(self) -> None:
        parser = ReplyParser()
        try:
            while data := await self._reader.read(READ_SIZE):
                for reply in parser.feed(data):
                    self._take(reply)
            self._close(TorControlError("tor closed the control connection"))
        except OSError as error:
            self._close(TorControlError(f"the control connection broke: {error}"))
        except TorControlError as error:
            self._close(error)

    def _take(self, reply: Reply) -> None:
        if reply.is_event:
            self._dispatch(reply)
            return
        if not self._pending:
            raise TorControlError("control port sent an answer that nobody asked for")
        answer = self._pending.popleft()
        if not answer.done():
            answer.set_result(reply)

    # -- authentication

    async def _authenticate(self) -> None:
        self.info = ProtocolInfo.from_reply(await self.command("PROTOCOLINFO", "1"))
        unreadable: TorControlError | None = None
        if "SAFECOOKIE" in self.info.methods:
            try:
                cookie = await asyncio.to_thread(_read_cookie, self.info.cookie_path)
            except TorControlError as error:
                unreadable = error
            else:
                await self._prove_cookie(cookie)
                return
        if self._options.password is not None and "HASHEDPASSWORD" in self.info.methods:
            await self.command("AUTHENTICATE", quote(self._options.password))
        elif "NULL" in self.info.methods:
            await self.command("AUTHENTICATE")
        else:
            raise unreadable or self._no_method()

    async def _prove_cookie(self, cookie: bytes) -> None:
        nonce = secrets.token_bytes(NONCE_SIZE)
        reply = await self.command("AUTHCHALLENGE", "SAFECOOKIE", nonce.hex())
        await self.command("AUTHENTICATE", answer_challenge(cookie, nonce, reply).hex())

    def _no_method(self) -> TorControlError:
        if "HASHEDPASSWORD" in self.info.methods:
            return TorControlError("the control port wants a password: give --tor-password-file")
        offered = shown(", ".join(sorted(self.info.methods))) or "nothing"
        return TorControlError(
            f"control port offers no known authentication ({offered}); set CookieAuthentication 1 in torrc"
        )


async def _open(
    open_stream: OpenStream, deadline: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(deadline):
            return await open_stream()
    except TimeoutError:
        raise TorControlError(f"the control port accepted no connection in {deadline:g} s") from None
    except (OSError, TransportError) as error:
        raise TorControlError(f"no connection to the control port: {describe_failure(error)}") from error


def _read_cookie(path: str) -> bytes:
    """The cookie file that PROTOCOLINFO named, its bytes carried as latin-1."""
    if not path:
        raise TorControlError("the control port offers a cookie but names no file")
    name = os.fsdecode(path.encode("latin-1"))
    label = shown(name)
    try:
        # whoever answers there chose the path: a pipe that nobody writes to would hold this thread for ever
        with open(name, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise TorControlError(f"the cookie file {label} is no regular file")
            cookie = file.read(COOKIE_SIZE + 1)
    except PermissionError:
        raise TorControlError(f"the cookie file {label} is not readable for you; {GROUP_REMEDY}") from None
    except (OSError, ValueError) as error:
        raise TorControlError(f"the cookie file {label} cannot be read: {shown(str(error))}") from None
    if len(cookie) != COOKIE_SIZE:
        raise TorControlError(f"the cookie file {label} does not hold {COOKIE_SIZE} bytes")
    return cookie


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
