"""Logging set-up: one line per event to one stream, as text for people or JSON for machines.

structlog's own renderers are left out: ConsoleRenderer brings rich and pygments, prints what a peer chose
without quoting it, and shows local variables in tracebacks.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import structlog

from relay.observe.redaction import Redactor

__all__ = ["LogOptions", "configure"]

EventDict = MutableMapping[str, Any]

LEVELS: Final = (
    logging.CRITICAL,
    logging.ERROR,
    logging.WARNING,
    logging.INFO,
    logging.DEBUG,
    logging.NOTSET,
)
"""By geth's verbosity: 0 crit, 1 error, 2 warn, 3 info, 4 debug, 5 all, with asyncio's and aiohttp's."""

SHORT: Final = {"critical": "CRIT", "warning": "WARN", "exception": "ERROR", "notset": "TRACE"}
COLORS: Final = {"CRIT": 35, "ERROR": 31, "WARN": 33, "INFO": 32, "DEBUG": 36, "TRACE": 34}
OURS: Final = "relay."
EVENT_WIDTH: Final = 40
MAX_TEXT: Final = 16_384  # characters of one value


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How to log.

    Attributes:
        json: one JSON object a line, else text.
        verbosity: 0 to 5 as geth's --verbosity.
        hide_addresses: in only-onion without --log-addresses.
        colors: for text on a terminal.
    """

    json: bool = False
    verbosity: int = 3
    hide_addresses: bool = False
    colors: bool = False


def configure(
    options: LogOptions, *, stream: TextIO | None = None, now: Callable[[], datetime] | None = None
) -> Redactor:
    """Set up structlog and the standard library's logging, for the whole process.

    Args:
        options: see there.
        stream: stderr unless given.
        now: the time in UTC; for tests.

    Returns:
        The redactor, which has to be told our own onion address.
    """
    redactor = Redactor(hide_addresses=options.hide_addresses)
    render = _as_json if options.json else _TextRenderer(colors=options.colors)
    pipeline = _Pipeline(redactor, render, stream or sys.stderr, now or _utc_now)
    level = LEVELS[max(0, min(options.verbosity, len(LEVELS) - 1))]
    structlog.configure(
        processors=[pipeline],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: _Sink(names[0] if names else "", pipeline.write),
        cache_logger_on_first_use=True,
    )
    _route_standard_library(pipeline, level)
    return redactor


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _Sink:
    """The end of a bound logger: whatever the method, the rendered line is written."""

    def __init__(self, name: str, write: Callable[[str], None]) -> None:
        self.name = name
        self._write = write

    def msg(self, line: str) -> None:
        self._write(line)

    debug = info = warning = error = critical = exception = warn = fatal = failure = err = log = msg


class _Pipeline:
    """From an event's fields to the line: time, level, exception, redaction, rendering."""

    def __init__(
        self,
        redactor: Redactor,
        render: Callable[[Mapping[str, object]], str],
        stream: TextIO,
        now: Callable[[], datetime],
    ) -> None:
        self._redactor = redactor
        self._render = render
        self._stream = stream
        self._now = now

    def __call__(self, sink: _Sink, method: str, event: EventDict) -> str:
        return self.line(sink.name, method, event)

    def line(self, logger: str, method: str, event: EventDict) -> str:
        """Render one event."""
        level = SHORT.get(method, method.upper())
        time = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        trace = _trace(event)
        fields: dict[str, object] = {"time": time, "level": level, "logger": logger, **event, **trace}
        return self._render({name: self._safe(name, value) for name, value in fields.items()})

    def write(self, line: str) -> None:
        """Write one line; a reader that has gone away must not end the daemon."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: closed
            return

    def _safe(self, name: str, value: object) -> object:
        cleaned = self._redactor.field(name, value)
        if isinstance(cleaned, str) and len(cleaned) > MAX_TEXT:
            return cleaned[:MAX_TEXT] + "..."
        return cleaned


def _trace(event: EventDict) -> dict[str, object]:
    """Take exc_info out of the event and return it as text."""
    found = event.pop("exc_info", None)
    if not found:
        return {}
    if isinstance(found, BaseException):
        error: BaseException | None = found
    else:
        error = found[1] if isinstance(found, tuple) else sys.exc_info()[1]
    if error is None:
        return {}
    return {"exception": "".join(traceback.format_exception(error)).rstrip()}


def _as_json(fields: Mapping[str, object]) -> str:
    return json.dumps(fields)


class _TextRenderer:
    """`2026-01-31T12:00:00.000Z INFO  what happened      key=value`, a traceback on lines of its own."""

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors

    def __call__(self, fields: Mapping[str, object]) -> str:
        rest = dict(fields)
        time, level = rest.pop("time"), str(rest.pop("level"))
        event, trace = str(rest.pop("event", "")), rest.pop("exception", None)
        if str(rest["logger"]).startswith(OURS):
            del rest["logger"]
        pairs = " ".join(f"{_printable(name)}={_quoted(value)}" for name, value in rest.items())
        head = f"{time} {self._painted(level)} {_printable(event):<{EVENT_WIDTH}} {pairs}".rstrip()
        return head if trace is None else head + "\n" + _printable(str(trace), keep="\n")

    def _painted(self, level: str) -> str:
        if not self._colors:
            return f"{level:<5}"
        return f"\x1b[{COLORS.get(level, 0)}m{level:<5}\x1b[0m"


def _printable(text: str, keep: str = "") -> str:
    """Escape what a terminal would act on: names of peers are theirs to choose."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def _quoted(value: object) -> str:
    if not isinstance(value, str):
        return _printable(json.dumps(value, ensure_ascii=False))
    if value and value.isprintable() and not any(c in value for c in ' "='):
        return value
    return _printable(json.dumps(value, ensure_ascii=False))


class _Router(logging.Handler):
    """Takes records of the standard library (asyncio, aiohttp, warnings) into the pipeline."""

    def __init__(self, pipeline: _Pipeline) -> None:
        super().__init__()
        self._pipeline = pipeline

    def emit(self, record: logging.LogRecord) -> None:
        """Render and write."""
        event: EventDict = {"event": record.getMessage(), "exc_info": record.exc_info}
        self._pipeline.write(self._pipeline.line(record.name, record.levelname.lower(), event))


def _route_standard_library(pipeline: _Pipeline, level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Router(pipeline)]
    # Their debug and info texts are about single requests and tasks.
    root.setLevel(logging.DEBUG if level == logging.NOTSET else max(level, logging.WARNING))
    logging.captureWarnings(True)
