"""A peer with the chain of another: what it is asked it asks that one, and may answer otherwise.

async with ProxyPeer(geth.enode, chain.config, head=(600, block_hash)) as peer:
    ...                                        # have a relay dial peer.enode
    peer.tamper = flip_one_byte(m.BlockBodies, 0.5)
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

from relay.chain.networks import ChainConfig
from relay.primitives.enode import Enode
from relay.primitives.errors import PeerError
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.connection import DevP2PConnection
from relay.protocols.devp2p.events import Connected, Disconnected, Message
from relay.protocols.eth import messages as m
from relay.protocols.eth.versions import BY_VERSION
from tests.aids.scripted_peer import ScriptedPeer, hello_of, true_status

__all__ = ["ANSWERS", "ProxyPeer", "flip_one_byte"]

ANSWERS: dict[type[m.EthMessage], type[m.EthMessage]] = {
    m.GetBlockHeaders: m.BlockHeaders,
    m.GetBlockBodies: m.BlockBodies,
    m.GetReceipts: m.Receipts,
    m.GetBlockAccessLists: m.BlockAccessLists,
    m.GetPooledTransactions: m.PooledTransactions,
}
"""Each request with its answer."""
FIELDS: dict[type[m.EthMessage], str] = {
    m.BlockHeaders: "headers",
    m.BlockBodies: "bodies",
    m.Receipts: "blocks",
    m.BlockAccessLists: "access_lists",
}
Tamper = Callable[[m.EthMessage], m.EthMessage]


class ProxyPeer:
    """A peer to be dialed.

    Attributes:
        key: its identity.
        asked: the requests that came, in order.
        sent: the answers that went out, in order, as they went.
        ended: the reasons of the Disconnects that came, None for a connection that closed without one.
        joined: how many connections exchanged Status.
        tamper: changes what goes out.
    """

    def __init__(
        self, behind: str, chain: ChainConfig, *, head: tuple[int, bytes], version: int = 69, key: NodeKey
    ) -> None:
        """Prepare.

        Args:
            behind: enode of the node with the chain.
            chain: the network.
            head: number and hash of the latest block, as our Status tells.
            version: of eth, on both sides.
            key: identity.
        """
        self.key, self.chain = key, chain
        self.asked: list[Any] = []
        self.sent: list[Any] = []
        self.ended: list[int | None] = []
        self.joined = 0
        self.tamper: Tamper = lambda answer: answer
        self._behind, self._head, self._version = behind, head, BY_VERSION[version]
        self._turn = asyncio.Lock()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._source = await ScriptedPeer.dial(self._behind, self.chain, versions=(self._version.version,))
        await self._source.join()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._source.close()

    @property
    def enode(self) -> str:
        """Where it listens."""
        return Enode(self.key.public_key, "127.0.0.1", self._server.sockets[0].getsockname()[1], 0).url

    def requests(self, kind: type[m.EthMessage]) -> list[Any]:
        """Those of a kind that came."""
        return [each for each in self.asked if isinstance(each, kind)]

    # -- inside ----------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = hello_of(self.key, (self._version.version,))
        connection = DevP2PConnection.recipient(self.key, hello, secrets.token_bytes)
        reason = None
        self._writers.add(writer)
        try:
            while data := await reader.read(1 << 16):
                for event in connection.receive(data):
                    if isinstance(event, Disconnected):
                        reason = event.reason
                    await self._take(event, connection, writer)
                writer.write(connection.take_output())
        except (PeerError, OSError):
            pass
        finally:
            self.ended.append(reason)
            self._writers.discard(writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _take(self, event: object, connection: DevP2PConnection, writer: asyncio.StreamWriter) -> None:
        def say(message: m.EthMessage) -> None:
            payload = message.encode(self._version.version)
            writer.write(connection.send(connection.shared[0].offset + message.CODE, payload))

        if isinstance(event, Connected):
            number, block_hash = self._head
            say(
                true_status(
                    self.chain, self._version.version, latest=number, latest_hash=block_hash, head=block_hash
                )
            )
            self.joined += 1
        elif isinstance(event, Message) and event.code in m.REQUESTS:
            request: Any = self._version.decode(event.code, event.payload)
            self.asked.append(request)
            answer = self.tamper(await self._ask(request))
            self.sent.append(answer)
            say(answer)

    async def _ask(self, request: Any) -> Any:
        async with self._turn:
            self._source.say(request)
            return await self._source.expect(ANSWERS[type(request)])


def flip_one_byte(kind: type[m.EthMessage], where: float) -> Tamper:
    """Have exactly one byte of each answer of a kind be another one, if there is anything in it.

    Args:
        kind: of the answers.
        where: 0.0 for the first byte after the list's header of the middle item, 1.0 for its last.
    """
    field = FIELDS[kind]

    def tamper(answer: m.EthMessage) -> m.EthMessage:
        items: tuple[bytes, ...] = getattr(answer, field) if isinstance(answer, kind) else ()
        if not items:
            return answer
        place = len(items) // 2
        changed = bytearray(items[place])
        head = 1 if changed[0] < 0xF8 else changed[0] - 0xF6
        changed[head + round((len(changed) - head - 1) * where)] ^= 0x01
        return replace(answer, **{field: (*items[:place], bytes(changed), *items[place + 1 :])})  # type: ignore[type-var]

    return tamper
