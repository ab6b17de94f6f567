import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from relay.observe.logs import LogOptions, configure

ONION = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion"
NOON = datetime(2026, 1, 31, 12, 0, 0, 5000, tzinfo=UTC)
LEVELS = ("debug", "info", "warning", "error", "critical")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


class Log:
    """Logging that is set up, and what it wrote."""

    def __init__(self, **options: Any) -> None:
        self.stream = io.StringIO()
        self.redactor = configure(LogOptions(**options), stream=self.stream, now=lambda: NOON)
        self.logger = structlog.get_logger("relay.test")

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def test_text_is_one_aligned_line_in_utc() -> None:
    log = Log()
    log.logger.info("peer joined", peer="ab12", name="Geth v1", count=3, up=True)

    assert log.lines == [
        "2026-01-31T12:00:00.005Z INFO  peer joined                              "
        'peer=ab12 name="Geth v1" count=3 up=true'
    ]


def test_json_is_one_object_a_line() -> None:
    log = Log(json=True)
    log.logger.warning("disk full", free=0, names=("a", "b"))

    assert log.events == [
        {
            "time": "2026-01-31T12:00:00.005Z",
            "level": "WARN",
            "logger": "relay.test",
            "event": "disk full",
            "free": 0,
            "names": ["a", "b"],
        }
    ]


def test_colours_are_for_terminals_only() -> None:
    plain, coloured = Log(), Log(colors=True)
    coloured.logger.error("x")

    assert "\x1b[31mERROR\x1b[0m" in coloured.lines[0]
    plain = Log()
    plain.logger.error("x")
    assert "\x1b" not in plain.lines[0]


def test_text_of_a_peer_can_not_drive_the_terminal() -> None:
    log = Log()
    log.logger.info("hello \x1b[2J", name="a\x1b]0;title\x07\nINFO forged", key2="x=y")

    assert len(log.lines) == 1
    assert "\x1b" not in log.lines[0]
    assert "\\u001b]0;title\\u0007\\nINFO forged" in log.lines[0]


@pytest.mark.parametrize(
    ("verbosity", "shown"), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 5), (-1, 1), (99, 5)]
)
def test_verbosity_is_geths(verbosity: int, shown: int) -> None:
    log = Log(verbosity=verbosity)
    for level in LEVELS:
        getattr(log.logger, level)("x")
    assert len(log.lines) == shown


def nested_failure() -> Exception:
    try:
        try:
            raise OSError(f"connect to {ONION} by 198.51.100.7:9050")
        except OSError as error:
            raise ValueError("peer [2001:db8::7]:30303 is gone") from error
    except ValueError as error:
        return error


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_no_address_of_a_peer_gets_out_at_any_level_in_any_field(level: str, as_json: bool) -> None:
    log = Log(json=as_json, hide_addresses=True, verbosity=5)
    getattr(log.logger, level)(
        f"lost 198.51.100.7 and {ONION}",
        peer=ONION.upper(),
        nested={"198.51.100.7": [("2001:db8::7", 1)]},
        error=nested_failure(),
        exc_info=nested_failure(),
    )
    written = log.stream.getvalue().lower()

    assert "lost <ip> and <onion>" in written
    assert "traceback" in written
    for secret in ("198.51", "2001:db8", ONION[:56]):
        assert secret not in written


def test_own_onion_is_shown_once_it_is_known() -> None:
    log = Log(json=True, hide_addresses=True)
    log.redactor.allow_own(ONION)
    log.logger.info("service published", onion=ONION, text=ONION)

    assert (log.events[0]["onion"], log.events[0]["text"]) == (ONION, "<onion>")


def test_secrets_never_get_out() -> None:
    log = Log(json=True, verbosity=5)
    log.logger.debug("x", cookie=b"hush", node_key="hush", settings={"tor_password": "hush"})
    assert "hush" not in log.stream.getvalue()


def test_exception_is_written_below_its_line() -> None:
    log = Log()
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log.logger.exception("task failed")

    assert "ERROR task failed" in log.lines[0]
    assert log.lines[1] == "Traceback (most recent call last):"
    assert log.lines[-1] == "RuntimeError: boom"


def test_exc_info_without_an_exception_is_nothing() -> None:
    log = Log(json=True)
    log.logger.info("x", exc_info=True)
    log.logger.info("y", exc_info=(None, None, None))
    assert all("exception" not in event for event in log.events)


def test_standard_library_goes_the_same_way() -> None:
    log = Log(json=True, hide_addresses=True)
    logging.getLogger("aiohttp.server").warning("from %s", "198.51.100.7")
    logging.getLogger("asyncio").info("left out")
    try:
        raise OSError("198.51.100.7")
    except OSError:
        logging.getLogger("asyncio").exception("failed")

    assert [event["logger"] for event in log.events] == ["aiohttp.server", "asyncio"]
    assert log.events[0]["event"] == "from <ip>"
    assert log.events[1]["exception"].endswith("OSError: <ip>")


def test_all_is_shown_of_the_standard_library_at_verbosity_five() -> None:
    log = Log(verbosity=5)
    logging.getLogger("asyncio").debug("using selector")
    assert "logger=asyncio" in log.lines[0]


def test_warnings_are_logged() -> None:
    log = Log(json=True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", stacklevel=1)
    assert log.events[0]["logger"] == "py.warnings"


def test_text_without_end_is_cut() -> None:
    log = Log(json=True)
    log.logger.info("x", name="a" * 100_000)
    assert len(log.events[0]["name"]) < 17_000


def test_reader_that_went_away_does_no_harm() -> None:
    log = Log()
    log.stream.close()
    log.logger.info("x")


def test_logger_without_a_name_works() -> None:
    log = Log(json=True)
    structlog.get_logger().info("x")
    assert log.events[0]["logger"] == ""


def test_stderr_and_the_present_time_are_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogOptions(json=True))
    structlog.get_logger("relay.test").info("x")
    event = json.loads(capsys.readouterr().err)
    assert event["time"].endswith("Z")


def test_logging_in_json_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.modules['rich'] = None\n"
        "from relay.observe.logs import LogOptions, configure\n"
        "configure(LogOptions(json=True))\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(loaded & {'aiohttp', 'pygments', 'prometheus_client'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
