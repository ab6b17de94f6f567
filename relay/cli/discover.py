"""``pyrelay discover``: crawls a network and shows who is there."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from relay.app.standalone import StandaloneNode, known_forks, standalone_discovery
from relay.cli.arguments import add_options, command_parser, given_options, seconds
from relay.cli.crawl_screen import Screen, print_view, screen
from relay.cli.nodes_table import View, describe_node, node_totals
from relay.discovery.crawled import CrawledNode, NodeSet
from relay.discovery.crawler import Crawler
from relay.discovery.hello import HelloScan
from relay.observe.logs import LogOptions, configure
from relay.primitives.errors import StorageError
from relay.settings import Settings, load_settings

OPTIONS: Final = (
    "datadir", "config", "network", "listen-address", "tor-proxy", "tor-proxy-remote-ok", "prefer-tor",
    "only-onion", "clearnet", "tor-launch",
    "tor-bridge", "tor-transport", "tor-vanguards", "discovery", "bootnodes", "dns-lists", "dns-resolver",
    "log-format", "verbosity", "log-addresses",
)  # fmt: skip
TIMEOUT: Final = 300.0  # seconds
WARNINGS: Final = 2  # the screen is for the table: logs below a warning must be asked for
FINAL_ROWS: Final = 1000


def run(argv: Sequence[str]) -> int:
    """Crawl; exit code 1 when nobody answered."""
    arguments = _parser().parse_args(argv)
    given = given_options(arguments)
    settings = load_settings(given)
    _set_up_logging(settings, settings.verbosity if "verbosity" in given else WARNINGS)
    if arguments.out is not None:
        _write(arguments.out, {})  # better now than after an hour
    return asyncio.run(_Discover(settings, arguments).run())


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "discover", "Crawl a network and show its nodes; Ctrl-C ends it with what was found until then."
    )
    own = parser.add_argument_group("the crawl")
    own.add_argument(
        "--timeout", type=seconds(), default=TIMEOUT, metavar="S",
        help=f"seconds at most; 0: until Ctrl-C, visiting everybody again (default: {TIMEOUT:g})",
    )  # fmt: skip
    own.add_argument("--hello", action="store_true", help="dial each node and ask for its client's name")
    own.add_argument("--json", action="store_true", help="print one JSON object at the end")
    own.add_argument("--json-lines", action="store_true", help="print a JSON object for each node, at once")
    own.add_argument("--out", type=Path, metavar="FILE", help="write the nodes as geth's devp2p keeps them")
    add_options(parser, OPTIONS)
    return parser


def _set_up_logging(settings: Settings, verbosity: int) -> None:
    configure(
        LogOptions(
            json=settings.log_format == "json",
            verbosity=verbosity,
            hide_addresses=settings.mode.hides_peers and not settings.log_addresses,
            colors=sys.stderr.isatty(),
        )
    )


class _Discover:
    """One run of the command."""

    def __init__(self, settings: Settings, arguments: argparse.Namespace) -> None:
        self._settings, self._arguments = settings, arguments
        self._names = known_forks(settings)
        self._nodes = NodeSet(time.time)
        self._crawler: Crawler | None = None
        self._begun = time.monotonic()
        self._ended = False

    async def run(self) -> int:
        """Crawl until all are visited, time is over, or somebody presses Ctrl-C; then tell what was found.

        Raises:
            BrokenPipeError: nobody reads any more what it tells.
        """
        try:
            return await self._run()
        except* BrokenPipeError:
            raise BrokenPipeError from None

    async def _run(self) -> int:
        loop, arguments = asyncio.get_running_loop(), self._arguments
        silent = arguments.json or arguments.json_lines
        with suppress(TimeoutError), screen(self._names, self._view, silent=silent) as shown:
            async with asyncio.timeout(arguments.timeout or None) as limit:
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, lambda: limit.reschedule(loop.time()))
                async with standalone_discovery(self._settings, say=shown.say) as node:
                    await self._crawl(node, shown)
        self._ended = True
        self._tell()
        if not self._nodes.alive:
            print(
                "pyrelay: nobody answered; pyrelay doctor, with the same flags, looks for the cause",
                file=sys.stderr,
            )
        return 0 if self._nodes.alive else 1

    async def _crawl(self, node: StandaloneNode, shown: Screen) -> None:
        arguments = self._arguments
        scan = None
        if arguments.hello:
            scan = HelloScan(self._nodes, node.ask_hello, options=node.hello_options)
        if arguments.json_lines:
            self._print_lines(scan)
        self._crawler = crawler = Crawler(
            node.crawl_sources(),
            self._nodes,
            clock=asyncio.get_running_loop(),
            forever=not arguments.timeout,
            busy=lambda: scan is not None and not scan.idle,
        )
        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(shown.run())]
            if scan is not None:
                jobs.append(tasks.create_task(scan.run()))
            await crawler.run()
            for job in jobs:
                job.cancel()

    def _print_lines(self, scan: HelloScan | None) -> None:
        """Print a node as soon as all is known that was asked for."""
        if scan is None:
            self._nodes.on_first_answer = self._print_line
        else:
            scan.on_asked = self._print_line

    def _print_line(self, node: CrawledNode) -> None:
        print(json.dumps(describe_node(node, self._names)), flush=True)

    def _view(self) -> View:
        return View(
            tuple(self._nodes.answered()),
            len(self._nodes),
            0 if self._crawler is None else self._crawler.visits,
            time.monotonic() - self._begun,
            time.time(),
            running=not self._ended,
        )

    def _tell(self) -> None:
        if self._arguments.out is not None:
            _write(self._arguments.out, self._nodes.to_geth())
        if self._arguments.json:
            print(json.dumps(self._summary()))
        elif not self._arguments.json_lines:
            print_view(self._names, self._view(), FINAL_ROWS)

    def _summary(self) -> dict[str, object]:
        view = self._view()
        return {
            "answered": len(view.nodes),
            "heard": view.heard,
            "visits": view.visits,
            "not_kept": self._nodes.overflow,
            "seconds": round(view.elapsed, 3),
            "totals": {name: dict(counts) for name, counts in node_totals(view.nodes, self._names).items()},
            "nodes": [describe_node(node, self._names) for node in view.nodes],
        }


def _write(path: Path, nodes: dict[str, dict[str, object]]) -> None:
    try:
        path.write_text(json.dumps(nodes, indent=4) + "\n")
    except OSError as error:
        raise StorageError(f"--out {path}: {error.strerror}") from None
