"""The nodes behind JSON-RPC: made as the mode allows, asked as the user's rules allow."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

import structlog

from relay.app.outward import WaysOut
from relay.rpc.errors import RpcError, method_not_found
from relay.rpc.messages import RawJson
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.policy import MethodRules
from relay.rpc.views import TxSubmitter
from relay.settings import Settings
from relay.transports.dialer import Dialer
from relay.transports.host_dialer import HostDialer
from relay.transports.sockets import SocketFactory
from relay.transports.socks_dialer import Purpose

if TYPE_CHECKING:
    from relay.rpc.upstream.upstreams import Upstreams

__all__ = ["AlsoUpstream", "RuledUpstream", "host_dialer", "make_upstreams"]

MAX_SUBMITTING: Final = 64  # transactions of our own users on their way to upstreams
log = structlog.get_logger("relay.app")


def make_upstreams(
    settings: Settings,
    chain_id: int,
    sockets: SocketFactory,
    ways: WaysOut,
    tasks: asyncio.TaskGroup,
    *,
    purpose: Purpose = Purpose.RPC,
    cache_bytes: int = 0,
) -> Upstreams | None:
    """Return the nodes that were configured, for one purpose, which shares no connection with another.

    Args:
        settings: name them; without any there is None.
        chain_id: that they must have.
        sockets: for unix sockets and, where the mode has them, direct connections.
        ways: out through Tor.
        tasks: where connections are looked after.
        purpose: of the streams through Tor.
        cache_bytes: for answers that never change.
    """
    if not settings.rpc_upstream:
        return None
    # Imported when asked for: h11 and wsproto are memory that a relay without upstreams need not hold.
    from relay.rpc.upstream.upstreams import Upstreams  # noqa: PLC0415

    hidden = settings.mode.hides_ip
    slow = hidden or any(url.is_onion for url in settings.rpc_upstream)
    options = (UpstreamOptions.through_tor if slow else UpstreamOptions)(
        balance=settings.rpc_balance, hedge_seconds=settings.rpc_hedge / 1000, chain_id=chain_id
    )
    made = Upstreams(
        settings.rpc_upstream,
        host_dialer(sockets, ways, purpose, hidden=hidden),
        sockets,
        tasks,
        clock=asyncio.get_running_loop().time,
        rand=secrets.token_bytes,
        options=options,
        cache_bytes=cache_bytes,
    )
    if ways.rpc is not None:
        ways.rpc.isolation.on_renewed(made.leave)
    return made


def host_dialer(sockets: SocketFactory, ways: WaysOut, purpose: Purpose, *, hidden: bool) -> Dialer:
    """Return what dials nodes that the user named; through Tor alone where our address is hidden."""
    tor = None if ways.rpc is None else ways.rpc.for_purpose(purpose)
    if not hidden:
        return HostDialer(sockets, tor)
    assert tor is not None, "a mode that hides the address has Tor"
    return tor


class RuledUpstream:
    """Upstreams as clients see them (`relay.rpc.forwarding.Upstream`).

    Args:
        upstreams: ask.
        rules: of the user.
    """

    def __init__(self, upstreams: Upstreams, rules: MethodRules) -> None:
        self._upstreams = upstreams
        self._rules = rules

    async def call(self, method: str, params: object) -> object:
        """Ask for ourselves, and return the decoded result; the lists are for what clients ask.

        Raises:
            RpcError: it says no, or nobody answers.
        """
        return await self._upstreams.call(method, params)

    async def call_raw(self, method: str, params: object) -> RawJson:
        """Ask, and return the result as the upstream wrote it.

        Raises:
            RpcError: it must not be asked this, or it says no, or nobody answers.
        """
        if not self._rules.forwards(method):
            raise method_not_found(method)
        return await self._upstreams.call_raw(method, params)


class AlsoUpstream:
    """Takes transactions of our own users for the pool, and then shows them to upstreams, too.

    Args:
        submitter: takes them for the pool; what it refuses goes nowhere.
        upstreams: of this purpose alone.
        tasks: where the showing lives; nobody waits for it.
    """

    def __init__(self, submitter: TxSubmitter, upstreams: Upstreams, tasks: asyncio.TaskGroup) -> None:
        self._submitter = submitter
        self._upstreams = upstreams
        self._tasks = tasks
        self._under_way = 0

    def submit(self, raw: bytes) -> bytes:
        """See `relay.rpc.views.TxSubmitter`."""
        tx_hash = self._submitter.submit(raw)
        if self._under_way < MAX_SUBMITTING:
            self._under_way += 1
            self._tasks.create_task(self._show(raw), name="also submit")
        else:
            log.warning("a transaction is not shown to upstreams: too many are on their way")
        return tx_hash

    async def _show(self, raw: bytes) -> None:
        try:
            await self._upstreams.call("eth_sendRawTransaction", ["0x" + raw.hex()])
        except RpcError as error:
            log.info("an upstream did not take a transaction", why=str(error))
        finally:
            self._under_way -= 1
