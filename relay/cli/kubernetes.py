"""``pyrelay kubernetes ...``: what the containers beside the relay run, and the join command."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from relay.cli.arguments import add_options, command_parser, given_options, seconds
from relay.discovery.files import read_regular
from relay.kubernetes.entry import ClusterKey, Place, parse_cluster_key
from relay.kubernetes.identity import IdentityOptions
from relay.kubernetes.joining import join_url
from relay.kubernetes.options import (
    BOOK,
    SERVICE_ACCOUNT,
    ApiOptions,
    BookMode,
    BookOptions,
    DiscoveryOptions,
    Own,
)
from relay.kubernetes.programs import (
    Task,
    run_discovery,
    run_identity,
    run_join,
    run_prune,
    run_static_nodes,
)
from relay.observe.logs import LogOptions, configure
from relay.primitives.endpoint import parse_port
from relay.primitives.errors import DecodeError, LocalError, UsageError
from relay.settings import Settings, load_settings
from relay.settings.load import environment
from relay.transports.policy import Mode

log = structlog.get_logger("relay.kubernetes")

FLAGS: Final = (
    "datadir", "config", "static-nodes", "ipcpath", "onion-port", "tor-proxy", "tor-proxy-remote-ok",
    "only-onion", "log-format", "verbosity", "log-addresses",
)  # fmt: skip
JOIN_FLAGS: Final = (
    "datadir", "config", "ipcpath", "tor-proxy", "tor-proxy-remote-ok", "only-onion", "log-format",
    "verbosity",
)  # fmt: skip
SECONDS: Final = seconds(above=True)
LEAST_HEARTBEAT: Final = 10.0  # seconds
BEATS: Final = 2  # heartbeats that must fit into the time after which an entry is stale

TEXT: Final = """\
Relays on Kubernetes. The first two are init containers, the third a native
sidecar, the last a CronJob with a ServiceAccount of its own:
  identity      make or load the keys on the volume, before Tor starts
  static-nodes  write static-nodes.json from the entries that are there
  discovery     keep the entry fresh and static-nodes.json up to date
  join URL      ask a relay without a shared API server for its node, and dial it
  prune         take entries out that nobody renews
Who the pod is comes from --pod and --namespace, or from POD_NAME, POD_NAMESPACE
and POD_UID of the downward API."""


def run(argv: Sequence[str]) -> int:
    """Run one of them."""
    arguments = _parser().parse_args(argv)
    settings = load_settings(given_options(arguments))
    _set_up_logging(settings)
    programs: dict[str, Callable[[argparse.Namespace, Settings], None]] = {
        "identity": _identity,
        "static-nodes": _static_nodes,
        "discovery": _discovery,
        "join": _join,
        "prune": _prune,
    }
    programs[arguments.action](arguments, settings)
    return 0


def _identity(arguments: argparse.Namespace, settings: Settings) -> None:
    task = _task(arguments, settings)
    keys = None if arguments.keys_dir is None else Path(arguments.keys_dir)
    service = None if arguments.service_dir is None else Path(arguments.service_dir)
    options = IdentityOptions(settings.datadir, task.own.place, keys, service, adopt=arguments.adopt_volume)
    asyncio.run(run_identity(task, options, publish=not arguments.no_publish))


def _static_nodes(arguments: argparse.Namespace, settings: Settings) -> None:
    asyncio.run(run_static_nodes(_task(arguments, settings), _files(settings)))


def _discovery(arguments: argparse.Namespace, settings: Settings) -> None:
    # With commas, too, and empty: a manifest has one argument for what may be none or several.
    joins = [url.strip() for given in arguments.join for url in given.split(",") if url.strip()]
    for url in joins:
        join_url(url)
    options = DiscoveryOptions(
        static_nodes=settings.static_nodes_path,
        ipc=settings.ipc_path.absolute(),
        add_peers=arguments.add_peers,
        tor_proxy=settings.tor_proxy,
        check_peers=arguments.check_peers,
        joins=tuple(joins),
        metrics=_address("--metrics", arguments.metrics),
    )
    node_info = _address("--node-info", arguments.node_info)
    asyncio.run(run_discovery(_task(arguments, settings), options, node_info))


def _join(arguments: argparse.Namespace, settings: Settings) -> None:
    url = join_url(arguments.url)
    asyncio.run(run_join(url, str(settings.ipc_path.absolute()), settings.tor_proxy, _say(settings)))


def _prune(arguments: argparse.Namespace, settings: Settings) -> None:
    done = asyncio.run(
        run_prune(_task(arguments, settings, pod="prune"), arguments.older_than, dry_run=arguments.dry_run)
    )
    if arguments.json:
        print(json.dumps({"removed": list(done.removed), "kept": done.kept}))
        return
    word = "would remove" if arguments.dry_run else "removed"
    for each in done.removed:
        print(f"{word} {each}")
    print(f"{len(done.removed)} {'to remove' if arguments.dry_run else 'removed'}, {done.kept} kept")


# -- what the programs are told ------------------------------------------------------------------------


def _task(arguments: argparse.Namespace, settings: Settings, pod: str = "") -> Task:
    env = environment()
    api = _api(arguments, env)
    place = Place(
        arguments.cluster,
        _namespace(arguments, env),
        pod or _named("--pod NAME", "POD_NAME", arguments.pod or env.get("POD_NAME")),
    )
    own = Own(
        place=place,
        uid=arguments.pod_uid or env.get("POD_UID", ""),
        port=settings.onion_port,
        datadir=settings.datadir,
        cluster_key=None if pod or _is_silent(arguments) else _cluster_key(arguments.cluster_key_file),
    )
    return Task(api, own, _book(arguments), _say(settings))


def _is_silent(arguments: argparse.Namespace) -> bool:
    """Tell whether it neither writes nor reads the address book: then it needs no key for that."""
    return bool(getattr(arguments, "no_publish", False))


def _book(arguments: argparse.Namespace) -> BookOptions:
    defaults = BookOptions()
    heartbeat = getattr(arguments, "heartbeat", defaults.heartbeat)
    stale_after = getattr(arguments, "stale_after", None) or max(defaults.stale_after, 4 * heartbeat)
    if stale_after < BEATS * heartbeat:
        raise UsageError(
            f"--stale-after {stale_after:g} is less than {BEATS} heartbeats of {heartbeat:g} s: relays"
            " that are well would be left out"
        )
    return BookOptions(
        name=arguments.book, mode=BookMode(getattr(arguments, "address_book", "auto")), heartbeat=heartbeat,
        stale_after=stale_after, objects_from=getattr(arguments, "objects_from", defaults.objects_from),
    )  # fmt: skip


def _files(settings: Settings) -> DiscoveryOptions:
    return DiscoveryOptions(settings.static_nodes_path, settings.ipc_path.absolute())


def _api(arguments: argparse.Namespace, env: Mapping[str, str]) -> ApiOptions:
    kubeconfig = None if arguments.kubeconfig is None else Path(arguments.kubeconfig)
    try:
        port = parse_port(env.get("KUBERNETES_SERVICE_PORT") or "443")
    except DecodeError as error:
        raise UsageError(f"KUBERNETES_SERVICE_PORT: {error}") from None
    return ApiOptions(
        host=env.get("KUBERNETES_SERVICE_HOST", ""), port=port, account=Path(arguments.account),
        kubeconfig=kubeconfig, timeout=arguments.api_timeout,
    )  # fmt: skip


def _namespace(arguments: argparse.Namespace, env: Mapping[str, str]) -> str:
    given = arguments.namespace or env.get("POD_NAMESPACE") or env.get("NAMESPACE")
    if not given and arguments.kubeconfig is None:
        try:
            given = (
                read_regular(Path(arguments.account) / "namespace", 256).decode("ascii", "replace").strip()
            )
        except OSError:
            given = None
    return _named("--namespace NAME", "POD_NAMESPACE", given)


def _named(flag: str, variable: str, value: str | None) -> str:
    if not value:
        raise UsageError(
            f"{flag} is missing: give it, or {variable} by the downward API (valueFrom: fieldRef)"
        )
    return value


def _cluster_key(path: str | None) -> ClusterKey | None:
    if path is None:
        log.warning(
            "no --cluster-key-file: whoever may write to the address book is believed to be a relay of this"
            " cluster"
        )
        return None
    try:
        return parse_cluster_key(read_regular(Path(path), 4096))
    except OSError as error:
        raise LocalError(f"--cluster-key-file {path}: {error.strerror}; is the Secret mounted?") from None
    except DecodeError as error:
        raise UsageError(f"--cluster-key-file {path}: {error}") from None


def _address(flag: str, text: str | None) -> tuple[str, int] | None:
    if text is None or text == "off":
        return None
    host, _, port = text.rpartition(":")
    try:
        return (host.strip("[]") or "127.0.0.1", parse_port(port))
    except DecodeError as error:
        raise UsageError(f"{flag} {text[:60]!r}: expected HOST:PORT; {error}") from None


def _say(settings: Settings) -> Callable[[str], None]:
    """Lines that people look for in a container's log: plain words, or JSON where the log is JSON."""
    if settings.log_format == "json":
        return _say_as_json
    return lambda words: print(f"[tor-discovery] {words}", flush=True)


def _say_as_json(words: str) -> None:
    log.info(words)


def _set_up_logging(settings: Settings) -> None:
    configure(
        LogOptions(
            json=settings.log_format == "json",
            verbosity=settings.verbosity,
            hide_addresses=settings.mode is Mode.ONLY_ONION and not settings.log_addresses,
            colors=sys.stderr.isatty(),
        )
    )


# -- arguments -----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("kubernetes", TEXT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="identity|static-nodes|discovery|join|prune"
    )
    identity = _action(actions, "identity", "Make or load this pod's keys, before Tor starts.")
    own = identity.add_argument_group("keys")
    own.add_argument("--keys-dir", metavar="DIR", help="a mounted Secret with POD-nodekey and POD-onion_key")
    own.add_argument(
        "--service-dir",
        metavar="DIR",
        help="fill this folder for a HiddenServiceDir of torrc (default: none)",
    )
    own.add_argument("--adopt-volume", action="store_true", help="take over the volume of a pod that is gone")
    own.add_argument("--no-publish", action="store_true", help="do not write the entry yet")
    _add_book(identity)
    _add_book(_action(actions, "static-nodes", "Write static-nodes.json from the entries that are there."))
    discovery = _action(actions, "discovery", "Follow the address book and keep static-nodes.json.")
    _add_discovery(discovery)
    _add_book(discovery)
    join = _action(actions, "join", "Dial a relay that another cluster runs.", JOIN_FLAGS)
    join.add_argument("url", metavar="URL", help="http://ONION:PORT where it answers admin_nodeInfo")
    prune = _action(actions, "prune", "Take entries out of the address book that nobody renews.")
    prune.add_argument(
        "--older-than", type=SECONDS, default=3600.0, metavar="S", help="seconds (default: 3600)"
    )
    prune.add_argument("--dry-run", action="store_true", help="only tell")
    prune.add_argument("--json", action="store_true", help="print {removed, kept}")
    _add_place(prune)
    return parser


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    flags: Sequence[str] = FLAGS,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
    add_options(parser, flags)
    return parser


def _add_discovery(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("discovery")
    own.add_argument(
        "--heartbeat",
        type=_heartbeat,
        default=300.0,
        metavar="S",
        help="seconds between two entries (default: 300)",
    )
    own.add_argument(
        "--stale-after", type=SECONDS, metavar="S",
        help="leave out who changed nothing for so long (default: 1200, or 4 heartbeats)",
    )  # fmt: skip
    own.add_argument("--check-peers", action="store_true", help="dial an onion before it is passed on")
    own.add_argument(
        "--add-peers", action="store_true", help="admin_addPeer too, for a daemon that follows no file"
    )
    own.add_argument(
        "--join",
        action="append",
        default=[],
        metavar="URL[,URL...]",
        help="relays of other clusters; may be repeated",
    )
    own.add_argument(
        "--metrics", default="127.0.0.1:6061", metavar="HOST:PORT",
        help="/metrics, /healthz, /readyz; off for none (default: 127.0.0.1:6061)",
    )  # fmt: skip
    own.add_argument(
        "--node-info",
        metavar="HOST:PORT",
        help="answer admin_nodeInfo there, for an onion that others join by",
    )


def _add_book(parser: argparse.ArgumentParser) -> None:
    _add_place(parser)
    own = parser.add_argument_group("address book")
    own.add_argument(
        "--address-book", choices=[each.value for each in BookMode], default="auto",
        help="one ConfigMap, one Lease a pod, or Leases from --objects-from pods on (default: auto)",
    )  # fmt: skip
    own.add_argument("--objects-from", type=_count, default=50, metavar="N", help="pods (default: 50)")
    own.add_argument("--cluster-key-file", metavar="FILE", help="the Secret by which relays know each other")


def _add_place(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("Kubernetes")
    own.add_argument(
        "--cluster", default="default", metavar="NAME", help="of this cluster (default: default)"
    )
    own.add_argument(
        "--namespace", metavar="NAME", help="of the pod (default: POD_NAMESPACE, or the mount's)"
    )
    own.add_argument("--pod", metavar="NAME", help="of this pod (default: POD_NAME)")
    own.add_argument("--pod-uid", metavar="UID", help="of this pod (default: POD_UID)")
    own.add_argument("--book", default=BOOK, metavar="NAME", help=f"the ConfigMap (default: {BOOK})")
    own.add_argument("--kubeconfig", metavar="FILE", help="outside of a pod")
    own.add_argument(
        "--account", default=str(SERVICE_ACCOUNT), metavar="DIR", help="token and ca.crt (default: kubelet's)"
    )
    own.add_argument(
        "--api-timeout", type=SECONDS, default=15.0, metavar="S", help="seconds for an answer (default: 15)"
    )


def _heartbeat(text: str) -> float:
    found = SECONDS(text)
    if found < LEAST_HEARTBEAT:
        raise argparse.ArgumentTypeError(f"{text[:32]}: at least {LEAST_HEARTBEAT:g} s")
    return found


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 6:
        raise argparse.ArgumentTypeError(f"{text[:32]!r} is no number of pods")
    return int(text)
