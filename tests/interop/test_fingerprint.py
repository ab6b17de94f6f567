"""What tells pyrelay from geth, to a peer that connects and looks: a complete list, or this turns red.

pyrelay does not pose as geth: its name says what it is, the same in every mode. What differs: the name, the
capabilities, and `REASONS`. All else that is looked at here is equal, on a chain with nothing but genesis.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio

from relay.primitives import rlp
from relay.primitives.enode import parse
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.capabilities import Capability
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.events import Connected
from relay.protocols.devp2p.messages import PONG, Hello
from relay.protocols.devp2p.messages import DisconnectReason as Reason
from relay.protocols.eth import messages as m
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.geth import Geth
from tests.aids.scripted_peer import CLOSED, ScriptedPeer, hello_of, says, true_status

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

REASONS = {
    "another network": (Reason.SUBPROTOCOL_ERROR, Reason.USELESS_PEER),
    "another genesis": (Reason.SUBPROTOCOL_ERROR, Reason.USELESS_PEER),
    "an unknown code": (CLOSED, Reason.PROTOCOL_BREACH),
    "a body that is not snappy": (CLOSED, Reason.PROTOCOL_BREACH),
}
"""What each says when it hangs up, geth first, where they differ: pyrelay tells why, geth often does not."""
ACK_SAMPLES = 16
PING_SECONDS = 15.0


class Looker(ScriptedPeer):
    """A peer that keeps what it sees."""

    hello: Hello | None = None

    def _take(self, event: object) -> None:
        if isinstance(event, Connected):
            self.hello = event.hello
        super()._take(event)


@dataclass
class Side:
    """One of the two that are looked at."""

    enode: str
    chain: OwnChain
    seen: dict[str, Any] = field(default_factory=dict)

    async def dial(self, **options: Any) -> Looker:
        peer = await Looker.dial(self.enode, self.chain.config, **options)
        assert isinstance(peer, Looker)
        return peer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(folder, chain: OwnChain):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(
            RelayProcess(folder / "relay", "--network", str(chain.genesis))
        )
        geth = await stack.enter_async_context(Geth(folder / "geth", chain.genesis))
        yield Side(geth.enode, chain), Side(relay.enode, chain)


async def both(sides: tuple[Side, Side], look: Callable[[Side], Awaitable[Any]]) -> tuple[Any, Any]:
    geth, relay = await asyncio.gather(*(look(side) for side in sides))
    return geth, relay


async def reason_for(side: Side, act: Callable[[Looker], Awaitable[None]], **options: Any) -> int:
    async with await side.dial(**options) as peer:
        await act(peer)
        return await peer.ended(20.0)


class TestHello:
    async def test_all_but_name_and_capabilities_is_geth_s(self, sides) -> None:
        async def look(side: Side) -> Hello:
            async with await side.dial() as peer:
                await peer.greet()
                assert peer.hello is not None
                return peer.hello

        geth, relay = await both(sides, look)
        assert (geth.version, geth.listen_port) == (relay.version, relay.listen_port) == (5, 0)
        assert geth.client.startswith("Geth/v")
        assert relay.client.startswith("pyrelay/v")
        assert relay.client.count("/") == 1, "neither system nor Python"
        assert {each.name for each in geth.capabilities} == {"eth", "snap"}
        assert {each.name for each in relay.capabilities} == {"eth", "pyrelay"}
        assert _eth_versions(relay) - _eth_versions(geth) == {68}, "geth has dropped it"
        assert _eth_versions(geth) <= _eth_versions(relay)
        for hello in (geth, relay):
            assert list(hello.capabilities) == sorted(hello.capabilities), "in geth's order"

    async def test_answers_to_the_first_packet_have_geth_s_sizes(self, sides) -> None:
        async def look(side: Side) -> list[int]:
            return [await _ack_size(side) for _ in range(ACK_SAMPLES)]

        geth, relay = await both(sides, look)
        low, high = _bare_ack() + 100, _bare_ack() + 200
        for sizes in (geth, relay):
            assert all(low <= size <= high for size in sizes), sizes
            assert len(set(sizes)) > 4, "padded at random"


def _eth_versions(hello: Hello) -> set[int]:
    return {each.version for each in hello.capabilities if each.name == "eth"}


async def _ack_size(side: Side) -> int:
    target = parse(side.enode)
    key = NodeKey.generate(secrets.token_bytes)
    auth = DevP2PConnection.initiator(
        key, target.public_key, hello_of(key), secrets.token_bytes
    ).take_output()
    reader, writer = await asyncio.open_connection(target.host, target.tcp)
    try:
        writer.write(auth)
        async with asyncio.timeout(10):
            return int.from_bytes(await reader.readexactly(2), "big")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _bare_ack() -> int:
    """Bytes of an answer without padding: three fields in a list, and what ECIES adds."""
    from relay.protocols.rlpx import ecies

    fields = rlp.encode(bytes(64)) + rlp.encode(b"\x01" * 32) + rlp.encode(4)
    return len(rlp.list_header(len(fields)) + fields) + ecies.OVERHEAD


class TestStatus:
    @pytest.mark.parametrize("version", [69, 70])
    async def test_it_is_byte_for_byte_the_same(self, sides, version: int) -> None:
        async def look(side: Side) -> bytes:
            async with await side.dial(versions=(version,)) as peer:
                await peer.greet()
                await peer.wait(lambda: peer.messages, "Status", 10.0)
                code, payload = peer.messages[0]
                assert code == m.Status.CODE
                return payload

        geth, relay = await both(sides, look)
        assert geth == relay


def check_reasons(what: str, geth: int | str, relay: int | str) -> None:
    if what in REASONS:
        assert (geth, relay) == REASONS[what]
    else:
        assert geth == relay, what


class TestReasons:
    """Why each side says that it hangs up."""

    @pytest.mark.parametrize(
        ("what", "changes"),
        [
            ("another network", {"network_id": 5}),
            ("another genesis", {"genesis": bytes(32)}),
            ("a range that cannot be", {"earliest": 9, "latest": 3}),
        ],
    )
    async def test_status_of_a_stranger(self, sides, what: str, changes: dict[str, Any]) -> None:
        async def look(side: Side) -> int:
            async def act(peer: Looker) -> None:
                await peer.greet()
                peer.say(replace(true_status(side.chain.config, peer.eth.version), **changes))

            return await reason_for(side, act)

        geth, relay = await both(sides, look)
        check_reasons(what, geth, relay)

    async def test_no_shared_capability(self, sides) -> None:
        key = NodeKey.generate(secrets.token_bytes)
        hello = says(hello_of(key), replace(hello_of(key), capabilities=(Capability("les", 4),)))

        async def look(side: Side) -> int:
            async def act(peer: Looker) -> None:
                pass

            return await reason_for(side, act, key=key, hello=hello)

        assert await both(sides, look) == (Reason.USELESS_PEER, Reason.USELESS_PEER)

    async def test_second_connection_of_one_key(self, sides) -> None:
        async def look(side: Side) -> int:
            async with await side.dial() as first:
                await first.join()
                async with await side.dial(key=first.key) as second:
                    return await second.ended(20.0)

        assert await both(sides, look) == (Reason.ALREADY_CONNECTED, Reason.ALREADY_CONNECTED)

    @pytest.mark.parametrize(
        ("what", "code", "payload"),
        [
            ("an unknown code", 0x16, b"\xc0"),
            ("a second Status", 0x00, b"\xc0"),
            ("a list that is none", 0x02, b"\x83abc"),
            ("an announcement of unequal lists", 0x08, rlp.encode([b"\x02", [], [bytes(32)]])),
            ("an answer that nobody asked for", 0x0A, rlp.encode([b"\x07", []])),
        ],
    )
    async def test_message_that_breaks_a_rule(self, sides, what: str, code: int, payload: bytes) -> None:
        async def look(side: Side) -> int | str:
            async with await side.dial(versions=(69,)) as peer:
                await peer.join()
                peer.send(code, payload)
                try:
                    return await peer.ended(5.0)
                except TimeoutError:
                    return "stays"

        geth, relay = await both(sides, look)
        check_reasons(what, geth, relay)

    async def test_body_that_is_not_snappy(self, sides) -> None:
        async def look(side: Side) -> int:
            async with await side.dial() as peer:
                await peer.join()
                peer.send_packed(0x02, b"\xff" * 40)
                return await peer.ended(20.0)

        check_reasons("a body that is not snappy", *await both(sides, look))


class TestAnswers:
    @pytest.mark.parametrize(
        ("what", "code", "answer", "asked"),
        [
            ("transactions that nobody has", 0x09, 0x0A, [b"\x07", [b"\x11" * 32]]),
            ("no transactions", 0x09, 0x0A, [b"\x07", []]),
            ("bodies that nobody has", 0x05, 0x06, [b"\x07", [b"\x11" * 32]]),
            ("receipts that nobody has", 0x0F, 0x10, [b"\x07", [b"\x11" * 32]]),
            (
                "headers from a block that nobody has",
                0x03,
                0x04,
                [b"\x07", [b"\x11" * 32, b"\x01", b"", b""]],
            ),
        ],
    )
    async def test_what_nobody_has_is_answered_alike(
        self, sides, what: str, code: int, answer: int, asked: list[Any]
    ) -> None:
        async def look(side: Side) -> bytes:
            async with await side.dial(versions=(69,)) as peer:
                await peer.join()
                peer.send(code, rlp.encode(asked))
                await peer.wait(lambda: any(each[0] == answer for each in peer.messages), what, 15.0)
                return next(payload for number, payload in peer.messages if number == answer)

        geth, relay = await both(sides, look)
        assert geth == relay


class TestTiming:
    async def test_pings_come_every_fifteen_seconds_though_much_passes(
        self, sides, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pings: dict[int, list[float]] = {}
        queue = DevP2PConnection._queue

        def note(self: DevP2PConnection, code: int, *rest: Any) -> None:
            if code == PONG:
                pings.setdefault(id(self), []).append(time.monotonic())
            queue(self, code, *rest)

        monkeypatch.setattr(DevP2PConnection, "_queue", note)

        async def look(side: Side) -> list[float]:
            async with await side.dial(versions=(69,)) as peer:
                await peer.join()
                joined, answered = time.monotonic(), pings.setdefault(id(peer.connection), [])
                while len(answered) < 2:
                    peer.send(0x09, rlp.encode([b"\x07", [b"\x11" * 32]]))
                    with suppress(TimeoutError):
                        await peer.wait(lambda: len(answered) >= 2, "two pings", 4.0)
                    assert peer.open
                return [each - joined for each in answered]

        for first, second in await both(sides, look):
            assert first > 0.9 * PING_SECONDS
            assert second - first > 0.9 * PING_SECONDS
