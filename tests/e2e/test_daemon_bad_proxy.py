"""A SOCKS proxy that lies in every way at once: the daemon says so, stays, and goes on once it is honest."""

from __future__ import annotations

import secrets

import pytest

from relay.primitives.enode import Enode
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey
from tests.aids.lab import start_all
from tests.aids.socks_server import Act, Script
from tests.aids.tor_lab import ScriptedTor, scripted_lab
from tests.aids.until import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

BAD = [each for each in Act if each not in (Act.OK, Act.SLOW, Act.LONG_NAME, Act.GREET)]
WORDS = (
    "sends garbage in place of a SOCKS5 reply",
    "sends garbage in place of an answer to the password",
    "answers in HTTP",
    "answers in SOCKS4",
    "answers like a control port",
    "says nothing for",
    "does not take user name",
    "was not offered",
    "refuses our user name",
    "unknown type",
    "closed the connection before its answer",
)


def stranger() -> str:
    key = NodeKey.generate(secrets.token_bytes).public_key
    return Enode(key, OnionKey.generate(secrets.token_bytes).address, 30303, 0).url


async def test_daemon_outlives_a_proxy_that_lies_in_every_way_and_then_uses_it() -> None:
    async with scripted_lab() as place:
        target = await place.relay("--only-onion")
        dialer = await place.relay("--only-onion")
        await start_all(target, dialer)
        assert isinstance(place.proxies, ScriptedTor)
        server = place.proxies.server
        server.scripts, server.script = [Script(act, code=0xF6) for act in BAD], Script(Act.CLOSE)

        dialer.name_static_nodes(*(stranger() for _ in BAD))
        await until(lambda: not server.scripts, lambda: f"left: {server.scripts}", 60.0)

        def missing() -> set[str]:
            told = " ".join(each["error"] for each in dialer.events("dial failed"))
            return {words for words in WORDS if words not in told}

        await until(lambda: not missing(), lambda: f"not told: {missing()}\n{dialer.tail()}", 60.0)
        assert await dialer.peers() == []

        server.script = Script()
        dialer.name_static_nodes(target.onion_enode)
        await dialer.joined(target)
