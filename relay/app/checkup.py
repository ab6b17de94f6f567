"""The steps of ``pyrelay doctor``: in a fixed order, each with a deadline, each failure with a remedy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

from relay.primitives.address import Address
from relay.primitives.errors import RelayError
from relay.settings import Settings
from relay.tor.version import TorVersion
from relay.transports.sockets import SocketFactory

__all__ = [
    "Case",
    "Check",
    "Finding",
    "Findings",
    "State",
    "TorFacts",
    "broken",
    "examine",
    "fine",
    "idle",
    "told",
    "worth_a_look",
]


# Errors read "what is wrong; what to do" or "what is wrong: what to do".
_WAY_OUT: Final = re.compile(
    r"[;:] (?=(?:add|another|choose|did you|give|install|is Tor|leave|make|mend|move|set|stop"
    r"|the user|use)\b)"
)


class State(StrEnum):
    """How a step came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "-"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step found.

    Attributes:
        state: only FAIL makes the checkup fail.
        detail: what is so.
        remedy: what to do, for all but OK.
        check: the step's name.
    """

    state: State
    detail: str
    remedy: str = ""
    check: str = ""


Findings: TypeAlias = Sequence[Finding]


@dataclass(frozen=True, slots=True)
class TorFacts:
    """What the control port told.

    Attributes:
        version: None where it names none.
        bootstrap: the answer to GETINFO status/bootstrap-phase.
        live: Tor's own opinion of its network.
        valid_after, valid_until: of the consensus, in seconds of Unix time; None without a consensus.
    """

    version: TorVersion | None
    bootstrap: str
    live: bool
    valid_after: float | None
    valid_until: float | None


@dataclass(slots=True)
class Case:
    """What the steps know so far.

    Attributes:
        given: flags by option name, as text.
        environment: variables; None for the process's own.
        settings: once they are read.
        daemon: the process that runs with this data folder; 0 if it is not known which; None for none.
        onion: our own onion address, once the key is read.
        proxy: where Tor's SOCKS port is, once known.
        control: where the control port is looked for.
        sockets: within the rules of the mode: in only-onion nothing but Tor can be reached.
        tor: once the control port has answered.
        now: Unix time of this host.
    """

    given: Mapping[str, str]
    now: Callable[[], float]
    environment: Mapping[str, str] | None = None
    daemon: int | None = None
    onion: str = ""
    proxy: Address | None = None
    control: tuple[Address, ...] = ()
    tor: TorFacts | None = None
    _settings: Settings | None = None
    _sockets: SocketFactory | None = None

    @property
    def settings(self) -> Settings:
        """The settings; steps that ask for them need the step that reads them."""
        assert self._settings is not None
        return self._settings

    @property
    def sockets(self) -> SocketFactory:
        """The only maker of sockets."""
        assert self._sockets is not None
        return self._sockets

    def found_settings(self, settings: Settings, sockets: SocketFactory) -> None:
        """Take the settings and the sockets that they allow."""
        self._settings, self._sockets = settings, sockets


@dataclass(frozen=True, slots=True)
class Check:
    """One step.

    Attributes:
        name: two words at most.
        run: what it does; a RelayError that it raises is a failure.
        needs: steps that must not have failed.
        seconds: deadline.
    """

    name: str
    run: Callable[[Case], Awaitable[Findings]]
    needs: tuple[str, ...] = ()
    seconds: float = 5.0


async def examine(case: Case, checks: Iterable[Check]) -> AsyncIterator[Finding]:
    """Take the steps in their order and tell what each found, as soon as it is known."""
    causes: dict[str, str] = {}  # of steps that failed or were left out: the step that is to blame
    for check in checks:
        blamed = next((causes[name] for name in check.needs if name in causes), None)
        if blamed is not None:
            causes[check.name] = blamed
            yield replace(idle(f"not looked at, since {blamed!r} failed"), check=check.name)
            continue
        for finding in await _within_deadline(case, check):
            if finding.state is State.FAIL:
                causes[check.name] = check.name
            yield replace(finding, check=check.name)


async def _within_deadline(case: Case, check: Check) -> Findings:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.run(case)
    except TimeoutError:
        return [broken(f"no result in {check.seconds:g} s", "try again; if it stays so, see the log of Tor")]
    except RelayError as error:
        return [told(error)]


def fine(detail: str) -> Finding:
    """All is well."""
    return Finding(State.OK, detail)


def idle(detail: str) -> Finding:
    """There was nothing to look at."""
    return Finding(State.SKIPPED, detail)


def worth_a_look(detail: str, remedy: str) -> Finding:
    """It works, though not as it might."""
    return Finding(State.WARN, detail, remedy)


def broken(detail: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(State.FAIL, detail, remedy)


def told(error: RelayError, remedy: str = "") -> Finding:
    """A failure from an error, whose text mostly ends with the way out. remedy: for one that does not."""
    text = str(error)
    way_out = _WAY_OUT.search(text)
    if way_out is None:
        return broken(text, remedy or "mend what the message names")
    return broken(text[: way_out.start()], text[way_out.end() :])
