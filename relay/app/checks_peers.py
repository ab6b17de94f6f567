"""What a relay needs of others: files that name them, a way for them to reach it, one that has the chain."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

from relay.app.checks_tor import NO_TOR
from relay.app.checkup import Case, Findings, broken, fine, idle, worth_a_look
from relay.discovery.static_nodes import StaticNodesFile
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import DialRefused, LocalError, ProxyFailed, TransportError
from relay.rpc.client import call
from relay.transports.policy import plan_dial
from relay.transports.socks_dialer import Isolation, Purpose, SocksDialer

OWN_NAME: Final = "pyrelay/"
NO_DAEMON: Final = "the daemon does not run"
SHOWN: Final = 20  # rejected entries that are named one by one
BRIDGE: Final = (
    "nobody here can bring the chain or transactions: a network of only-onion relays needs one bridge, a"
    " pyrelay with --prefer-tor or --clearnet tor that is joined to Ethereum nodes as well"
)
NO_NODES: Final = 'name some in static-nodes.json: ["enode://...@....onion:30303", "enr:..."]'
REFUSED: Final = 0x05
NOT_FOUND: Final = 0xF0


async def check_static_nodes(case: Case) -> Findings:
    """The files of nodes: each entry that is rejected is named."""
    settings = case.settings
    static = StaticNodesFile(settings.static_nodes_path, required=settings.static_nodes is not None)
    trusted = StaticNodesFile(settings.trusted_nodes_path, required=settings.trusted_nodes is not None)
    found = [*await _judged_file(static), *await _judged_file(trusted)]
    if found:
        return found
    nodes, with_i2p = static.current.nodes, settings.i2p_sam is not None
    refused = [
        plan.refusal
        for node in nodes
        if (plan := plan_dial(settings.mode, node, allow_private=True, i2p=with_i2p)).refusal
    ]
    if not nodes:
        return [worth_a_look(f"no static nodes in {static.path}: nobody is dialed", NO_NODES)]
    if refused:
        return [
            worth_a_look(
                f"{len(refused)} of {len(nodes)} static nodes are not dialed: {refused[0]}", NO_NODES
            )
        ]
    return [fine(f"{len(nodes)} static nodes, {len(trusted.current.nodes)} trusted ones")]


async def _judged_file(file: StaticNodesFile) -> Findings:
    try:
        found = await asyncio.to_thread(file.load)  # thousands of curve points take their time
    except LocalError as error:
        return [broken(str(error), "give an array of strings: " + NO_NODES)]
    named = [
        broken(
            f"{file.path.name}, {each}", "take it from the peer again: pyrelay key show, or admin_nodeInfo"
        )
        for each in found.rejected[:SHOWN]
    ]
    more = len(found.rejected) - SHOWN
    return (
        [*named, broken(f"{file.path.name}: {more} more entries are rejected", "mend them, too")]
        if more > 0
        else named
    )


async def check_own_onion(case: Case) -> Findings:
    """Our own onion service, reached through Tor as a peer would, on a circuit of its own."""
    settings = case.settings
    if not settings.has_tor:
        return [idle(NO_TOR)]
    if not settings.wants_onion_service:
        return [idle("not asked for: --onion-service off")]
    if case.daemon is None:
        return [idle(f"{NO_DAEMON}, so nothing is published")]
    if case.proxy is None or not case.onion:
        return [idle("not known: no SOCKS port or no onion key")]
    dialer = SocksDialer(
        case.sockets, case.proxy, Isolation(secrets.token_bytes), purpose=Purpose.PROBE, exits=False
    )
    to = Endpoint(Network.ONION, case.onion, settings.onion_port)
    try:
        transport, _ = await dialer.dial(to, asyncio.Protocol)
    except TransportError as error:
        return [broken(f"{case.onion} is not reached: {error}", _remedy(error))]
    transport.abort()
    return [fine(f"{case.onion}:{settings.onion_port} is reached through Tor")]


def _remedy(error: TransportError) -> str:
    if isinstance(error, DialRefused):
        return "give the address that torrc serves: --onion-address"
    code = error.code if isinstance(error, ProxyFailed) else 0
    if code == REFUSED:
        return (
            "Tor reached the service, but not the daemon's listener: compare --onion-listen with"
            " --onion-target, or with HiddenServicePort in torrc"
        )
    if code == NOT_FOUND:
        return "it is not published: see /readyz of the daemon, and its log for 'onion service'"
    return "try again in a minute: circuits fail now and then"


async def check_company(case: Case) -> Findings:
    """Whether any peer can bring the chain and transactions, as far as the running daemon sees."""
    if case.daemon is None:
        return [idle(NO_DAEMON)]
    answer = await call(str(case.settings.ipc_path.absolute()), "admin_peers", timeout=3)
    names = [_name(peer) for peer in answer] if isinstance(answer, list) else []
    if not names:
        return [
            worth_a_look("no peer is connected", "wait a minute; then see the log for causes: --verbosity 4")
        ]
    others = [name for name in names if not name.startswith(OWN_NAME)]
    if not others:
        return [worth_a_look(f"all {len(names)} peers are pyrelays", BRIDGE)]
    return [fine(f"{len(names)} peers, {len(others)} of them no pyrelay")]


def _name(peer: Any) -> str:  # noqa: ANN401 - whatever the daemon answers
    return str(peer.get("name", "")) if isinstance(peer, dict) else ""
