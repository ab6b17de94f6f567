"""``pyrelay monitor``: the peers of any node, on a terminal, as JSON, CSV, or for Prometheus."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from relay.app.outward import proxy_address, socket_rules, ways_out
from relay.app.rpc_upstreams import host_dialer
from relay.cli.arguments import add_options, given_options, seconds
from relay.cli.crawl_screen import make_console
from relay.monitor.geography import Geography, Nowhere, open_geography
from relay.monitor.live import watch_live
from relay.monitor.monitor import Monitor
from relay.monitor.node import BeaconNode, ExecutionNode, WatchedNode
from relay.monitor.render import Canvas, draw_once
from relay.monitor.report import Reporter
from relay.monitor.rpc import BeaconApi, JsonRpc
from relay.primitives.address import TcpAddress, parse_address
from relay.primitives.errors import DecodeError, UsageError
from relay.rpc.upstream.urls import Scheme, UpstreamUrl, parse_upstream
from relay.settings import Settings, load_settings
from relay.transports.dialer import Dialer, TcpDialer
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Purpose

if TYPE_CHECKING:
    from relay.rpc.httpd import HttpServer

FLAGS: Final = (
    "datadir", "config", "ipcpath", "tor-proxy", "tor-proxy-remote-ok", "prefer-tor", "only-onion", "clearnet"
)  # fmt: skip
TEXT: Final = """\
Watch the peers of a node: geth, reth, Nethermind, Besu, Erigon or pyrelay by
admin_peers, any beacon node by its API. Without --rpc it is this relay's own
daemon. Addresses, whole ids and names are masked unless --addresses is given.
"""
EPILOG: Final = """\
The module admin can also start listeners: give the node's unix socket (IPC) where
you can, and never serve admin on a public address.

  pyrelay monitor                                  the daemon of this data folder
  pyrelay monitor --rpc /data/geth/geth.ipc --once
  pyrelay monitor --rpc http://127.0.0.1:8545 --json | jq .counts
  pyrelay monitor --beacon http://127.0.0.1:3500 --export 9101
"""
INTERVAL: Final = 1.0
EXPORT_INTERVAL: Final = 5.0
TIMEOUT: Final = 10.0
LONGEST: Final = 86_400.0
PERIOD: Final = seconds(0.05, most=LONGEST, hint=" from 0.05 to a day")
_PORT: Final = re.compile(r"[0-9]{1,5}")


def run(argv: Sequence[str]) -> int:
    """Watch; with --once exit code 1 when the node does not answer."""
    arguments = _parser().parse_args(argv)
    settings = load_settings(given_options(arguments))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a peer chooses the letters of its name
    return asyncio.run(_Command(arguments, settings).run())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrelay monitor", description=TEXT, epilog=EPILOG, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    node = parser.add_argument_group("the node").add_mutually_exclusive_group()
    node.add_argument(
        "--rpc", type=_url, metavar="URL|IPC", help="its JSON-RPC: http, https, ws, wss, or its unix socket"
    )
    node.add_argument("--beacon", type=_url, metavar="URL", help="a beacon node's API, as http://IP:3500")
    how = parser.add_argument_group("what is shown")
    how.add_argument("--once", action="store_true", help="look once; a table, or with --json one line")
    how.add_argument("--json", action="store_true", help="a JSON object a line for each look")
    how.add_argument("--csv", action="store_true", help="look once; a row for each peer")
    how.add_argument(
        "--export", type=_listener, metavar="[HOST:]PORT", help="serve /metrics for Prometheus (127.0.0.1)"
    )
    how.add_argument("--addresses", action="store_true", help="show addresses, whole ids and full names")
    how.add_argument("--geo", type=Path, metavar="FILE", help="countries, by a file of MaxMind's format")
    how.add_argument(
        "--interval", type=PERIOD, metavar="S",
        help=f"seconds between two looks (default: {INTERVAL:g}, with --export {EXPORT_INTERVAL:g})",
    )  # fmt: skip
    how.add_argument(
        "--timeout", type=PERIOD, default=TIMEOUT, metavar="S",
        help=f"seconds for one answer (default: {TIMEOUT:g})",
    )  # fmt: skip
    add_options(parser, FLAGS)
    return parser


def _url(text: str) -> UpstreamUrl:
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    if "://" not in text and not text.startswith("unix:"):
        text = str(Path(text).absolute())
    try:
        return parse_upstream(text)
    except DecodeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _listener(text: str) -> TcpAddress:
    try:
        address = parse_address(f"127.0.0.1:{text}" if _PORT.fullmatch(text) else text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not isinstance(address, TcpAddress):
        raise argparse.ArgumentTypeError(f"{text[:64]!r} is neither PORT nor HOST:PORT")
    return address


class _Command:
    """One run of the command."""

    def __init__(self, arguments: argparse.Namespace, settings: Settings) -> None:
        self._arguments, self._settings = arguments, settings
        self._geography: Geography | Nowhere = open_geography(arguments.geo)
        self._one = arguments.once or arguments.csv
        if arguments.export is not None and (self._one or arguments.json):
            raise UsageError("--export serves Prometheus, and nothing else beside it: run a second monitor")
        if arguments.json and arguments.csv:
            raise UsageError("--json and --csv are two forms: give one")

    async def run(self) -> int:
        """Watch until Ctrl-C, or once."""
        arguments = self._arguments
        clock = asyncio.get_running_loop().time
        usual = EXPORT_INTERVAL if arguments.export is not None else INTERVAL
        monitor = Monitor(self._node(), clock=clock, interval=arguments.interval or usual)
        try:
            if self._one:
                return await self._once(monitor)
            return await self._go_on(monitor)
        finally:
            monitor.close()

    async def _once(self, monitor: Monitor) -> int:
        if not await monitor.look():
            print(f"pyrelay: {self._url}: {monitor.watch.failure}", file=sys.stderr)
            if self._arguments.json:
                self._print_json(monitor)
            return 1
        if self._arguments.json:
            self._print_json(monitor)
        elif self._arguments.csv:
            sys.stdout.write(self._reporter(monitor).csv(monitor.now))
            sys.stdout.flush()
        else:
            self._print_table(monitor)
        return 0

    async def _go_on(self, monitor: Monitor) -> int:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        server = None if self._arguments.export is None else await self._serve(monitor)
        try:
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(self._show(monitor))
                waiting = tasks.create_task(stop.wait())
                await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
                task.cancel()
                waiting.cancel()
        except* BrokenPipeError:
            raise BrokenPipeError from None
        finally:
            if server is not None:
                await server.close()
        return 0

    async def _show(self, monitor: Monitor) -> None:
        arguments, console = self._arguments, make_console()
        if arguments.export is not None:
            await monitor.run()
        elif arguments.json or not console.is_terminal or console.is_dumb_terminal:
            await self._print_lines(monitor, console)
        else:
            await watch_live(monitor, console, self._geography, monitor.clock, addresses=arguments.addresses)

    async def _serve(self, monitor: Monitor) -> HttpServer:
        """Serve Prometheus, and tell on standard error where, and whether the node answers."""
        # Imported when asked for: aiohttp takes half a second of a start.
        from relay.monitor.exporter import Exporter  # noqa: PLC0415
        from relay.rpc.httpd import HttpOptions, HttpServer  # noqa: PLC0415

        address, failure = self._arguments.export, ""
        exporter = Exporter(monitor.watch, monitor.clock, self._geography)
        sock = SocketFactory(SocketRules.anywhere()).listen_tcp(address.host, address.port)
        # Who listens on a network is scraped there by a name of that network, which is not known here.
        hosts = HttpOptions() if address.is_local else HttpOptions(vhosts=("*",))
        server = HttpServer(exporter.answer, options=hosts)
        await server.start(sock)
        host, port = sock.getsockname()[:2]
        print(f"serving http://{TcpAddress(host, port)}/metrics of {self._url}", file=sys.stderr, flush=True)

        def tell() -> None:
            nonlocal failure
            if monitor.watch.failure != failure:
                failure = monitor.watch.failure
                print(f"{self._url}: {failure or 'answers again'}", file=sys.stderr, flush=True)

        monitor.on_look = tell
        return server

    async def _print_lines(self, monitor: Monitor, console: Console) -> None:
        """Print each look: as JSON, or where there is no screen to draw on, as a table after the other."""
        monitor.on_look = (
            (lambda: self._print_json(monitor))
            if self._arguments.json
            else (lambda: self._print_table(monitor, console))
        )
        await monitor.run()

    def _print_json(self, monitor: Monitor) -> None:
        print(json.dumps(self._reporter(monitor).all(monitor.now, time.time())), flush=True)

    def _print_table(self, monitor: Monitor, console: Console | None = None) -> None:
        console = console or make_console()
        canvas = Canvas(max(20, console.width), ascii_only=console.options.ascii_only)
        drawn = draw_once(
            monitor.watch, monitor.now, canvas, self._geography, addresses=self._arguments.addresses
        )
        with console.capture() as drawing:  # of a closed pipe rich makes an exit of its own
            for line in drawn:
                console.print(line, no_wrap=True, crop=True, overflow="crop")
        sys.stdout.write(drawing.get())
        sys.stdout.flush()

    def _reporter(self, monitor: Monitor) -> Reporter:
        return Reporter(monitor.watch, self._geography, self._arguments.addresses)

    # -- the way to the node ---------------------------------------------------------------------------

    @property
    def _url(self) -> UpstreamUrl:
        given = self._arguments.beacon or self._arguments.rpc
        if isinstance(given, UpstreamUrl):
            return given
        return parse_upstream(str(self._settings.ipc_path.absolute()))

    def _node(self) -> WatchedNode:
        url, seconds = self._url, self._arguments.timeout
        sockets, dialer = self._way(url)
        if self._arguments.beacon is None:
            return ExecutionNode(JsonRpc(url, dialer, sockets, seconds=seconds))
        if url.scheme not in (Scheme.HTTP, Scheme.HTTPS):
            raise UsageError(f"--beacon {url}: a beacon node's API is http or https")
        return BeaconNode(BeaconApi(url, dialer, sockets, seconds=seconds))

    def _way(self, url: UpstreamUrl) -> tuple[SocketFactory, Dialer]:
        """Return how the node is reached: on this machine directly, elsewhere as the mode says."""
        endpoint = url.endpoint
        if endpoint is None or (endpoint.is_ip and endpoint.is_loopback):
            own = url.socket or TcpAddress(
                endpoint.host if endpoint else "", endpoint.port if endpoint else 0
            )
            sockets = SocketFactory(SocketRules.only(own))
            return sockets, TcpDialer(sockets)
        settings = self._settings
        if settings.tor_proxy is None and (url.is_onion or settings.mode.hides_ip):
            raise UsageError(f"{url}: this is reached through Tor: give --tor-proxy")
        sockets = SocketFactory(socket_rules(settings, None))
        ways = ways_out(settings.mode, sockets, proxy_address(settings, None), lambda: ())
        return sockets, host_dialer(sockets, ways, Purpose.RPC, hidden=settings.mode.hides_ip)
