"""``pyrelay key new|show|onion-auth``: this relay's identity, before Tor runs, and keys for visitors."""

from __future__ import annotations

import argparse
import json
import secrets
from collections.abc import Sequence
from pathlib import Path

from relay.app.datadir import (
    NODE_KEY,
    ONION_KEY,
    DataDir,
    parse_node_key,
    parse_onion_key,
    read_secret,
    write_atomic,
)
from relay.app.networks import current_fork_id, load_network
from relay.cli.arguments import add_options, command_parser, given_options
from relay.observe.logs import LogOptions, configure
from relay.primitives.enode import Enode
from relay.primitives.enr import build_record
from relay.primitives.errors import DecodeError, UsageError
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey, parse_onion
from relay.settings import Settings, load_settings
from relay.tor.client_auth import OnionAccess

_FLAGS = ("datadir", "config", "nodekey", "onion-key", "network", "onion-port")


def run(argv: Sequence[str]) -> int:
    """Make both keys, show those that are there, or make a pair for a visitor of a private onion service."""
    configure(LogOptions())  # warnings go to stderr: stdout may be read by a program
    parser = command_parser("key", "Make or show this relay's keys: the node key and the onion service's.")
    parser.add_argument(
        "action",
        choices=["new", "show", "onion-auth"],
        help="onion-auth: a pair of keys by which one visitor finds a relay with --onion-auth-clients",
    )
    parser.add_argument("--json", action="store_true", help="print {node_id, enode, enr, onion} or the pair")
    parser.add_argument(
        "--for", dest="onion", metavar="ONION", help="onion-auth: the relay (default: this one)"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="onion-auth: write the private half there, for you alone"
    )
    parser.add_argument("--with-onion", action="store_true", help="put onion3 in the record that is shown")
    add_options(parser, _FLAGS)
    arguments = parser.parse_args(argv)
    settings = load_settings(given_options(arguments))
    if arguments.action == "onion-auth":
        _make_pair(arguments, settings)
        return 0
    node_key, onion_key = _make(settings) if arguments.action == "new" else _load(settings)
    _show(arguments, settings, node_key, onion_key)
    return 0


def _make(settings: Settings) -> tuple[NodeKey, OnionKey]:
    """Write both keys; an existing one is never replaced."""
    node_path, onion_path = _paths(settings)
    taken = [str(path) for path in (node_path, onion_path) if path.exists()]
    if taken:
        raise UsageError(
            f"{' and '.join(taken)}: there already; a key is never overwritten, so move it away first"
        )
    if settings.datadir in {node_path.parent, onion_path.parent}:
        DataDir(settings.datadir)
    node_key, onion_key = NodeKey.generate(secrets.token_bytes), OnionKey.generate(secrets.token_bytes)
    write_atomic(node_path, node_key.secret.hex().encode())
    write_atomic(onion_path, onion_key.to_tor_file())
    return node_key, onion_key


def _make_pair(arguments: argparse.Namespace, settings: Settings) -> None:
    """Make keys for one visitor: the public half is for the relay, the private one for who is to find it."""
    try:
        onion = parse_onion(arguments.onion) if arguments.onion else _load_onion(settings).address
    except DecodeError as error:
        raise UsageError(f"--for: {error}") from None
    pair = OnionAccess.generate(onion, secrets.token_bytes)
    shown = {"client": pair.client.auth_line}
    if arguments.out is None:
        shown["key"] = pair.auth_private_line
    else:
        path = Path(arguments.out)
        if path.exists():
            raise UsageError(f"{path}: there already; a key is never overwritten, so move it away first")
        write_atomic(path, pair.auth_private_line.encode() + b"\n")
    if arguments.json:
        print(json.dumps(shown))
        return
    print(f"# a line for the relay's --onion-auth-clients FILE\n{shown['client']}")
    if "key" in shown:
        print(f"# a line for the visitor's --onion-auth-keys FILE; secret\n{shown['key']}")


def _load_onion(settings: Settings) -> OnionKey:
    path = _paths(settings)[1]
    return parse_onion_key(_read(path), path)


def _load(settings: Settings) -> tuple[NodeKey, OnionKey]:
    node_path, onion_path = _paths(settings)
    return parse_node_key(_read(node_path), node_path), parse_onion_key(_read(onion_path), onion_path)


def _paths(settings: Settings) -> tuple[Path, Path]:
    return (
        settings.nodekey or settings.datadir / NODE_KEY,
        settings.onion_key or settings.datadir / ONION_KEY,
    )


def _read(path: Path) -> bytes:
    content = read_secret(path, required=True)
    assert content is not None
    return content


def _show(arguments: argparse.Namespace, settings: Settings, node_key: NodeKey, onion_key: OnionKey) -> None:
    onion = onion_key.address
    record = build_record(
        node_key,
        1,
        tcp=settings.onion_port,
        onion3=onion if arguments.with_onion else None,
        fork_id=current_fork_id(load_network(settings.network)),
    )
    shown = {
        "node_id": node_key.public_key.hex(),
        "enode": Enode(node_key.public_key, onion, settings.onion_port, 0).url,
        "enr": record.to_text(),
        "onion": onion,
    }
    if arguments.json:
        print(json.dumps(shown))
        return
    for name, value in shown.items():
        print(f"{name:8}{value}")
