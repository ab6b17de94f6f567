"""Peers that break the rules against the real daemon: the right reason, and nobody else notices."""

from __future__ import annotations

import asyncio
import resource
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace

import cramjam
import pytest
import pytest_asyncio

from relay.chain.transactions import wire
from relay.primitives import rlp
from relay.primitives.enode import Enode, parse
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.capabilities import Capability
from relay.protocols.devp2p.messages import DisconnectReason as Reason
from relay.protocols.eth import messages as m
from relay.protocols.eth.packing import encode_announcement, encode_pooled, encode_transactions
from tests.aids.chain import OwnChain
from tests.aids.daemon import RelayProcess
from tests.aids.scripted_peer import CLOSED, ScriptedPeer, hello_of, says, true_status
from tests.aids.until import until
from tests.aids.vectors import load

pytestmark = [pytest.mark.geth, pytest.mark.asyncio(loop_scope="module")]

MEBI = 1024 * 1024
CROWD = 10_000  # connections
SPARE_FILES = 500  # descriptors that this process needs for other things
GROWTH = 64 * 1024  # KiB that a crowd or a bomb may cost the daemon
STALL = 5.0  # seconds that an established peer may wait for its answer, on a machine that is busy, too
HANDSHAKE_SECONDS = 5.0  # of peering.options: each phase; looked at once a second


@dataclass
class Scene:
    relay: RelayProcess
    chain: OwnChain
    friend: ScriptedPeer
    """A peer that was there before, and has to be there after."""

    async def dial(self, **options) -> ScriptedPeer:
        return await ScriptedPeer.dial(self.relay.enode, self.chain.config, **options)

    @asynccontextmanager
    async def bystander(self):
        """Check that whatever happens inside is the offender's problem only."""
        [friend] = await self.relay.until_peers(1)
        yield
        self.relay.check()
        assert await self.friend.served() < STALL
        assert [each["id"] for each in await self.relay.until_peers(1)] == [friend["id"]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(folder, chain: OwnChain):
    async with AsyncExitStack() as stack:
        _allow_many_files()
        relay = RelayProcess(folder / "relay", "--network", str(chain.genesis))
        await stack.enter_async_context(relay)
        friend = await stack.enter_async_context(await ScriptedPeer.dial(relay.enode, chain.config))
        await friend.join()
        yield Scene(relay, chain, friend)


def _allow_many_files() -> int:
    """Raise the limit of this process, which the daemon inherits, as far as it goes; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CROWD + SPARE_FILES if hard == resource.RLIM_INFINITY else min(hard, CROWD + SPARE_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


# -- before Hello --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        secrets.token_bytes(4096),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\xff\xff" + bytes(3000),
        b"\x00\x00" + bytes(100),
        b"\x01\x90" + b"\x04" + secrets.token_bytes(0x18F),
        bytes(307),
    ],
    ids=["random", "http", "huge-size", "no-size", "packet-of-garbage", "zeros"],
)
async def test_garbage_in_place_of_a_handshake_is_hung_up_on(scene: Scene, first):
    async with scene.bystander():
        refused = await scene.relay.metric("p2p_serves_error_rlpx_enc")
        reader, writer = await asyncio.open_connection(*scene.relay.listener())
        with suppress(ConnectionError):
            writer.write(first)
            assert await asyncio.wait_for(reader.read(), HANDSHAKE_SECONDS + 3) == b""
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        await scene.relay.until_metric("p2p_serves_error_rlpx_enc", lambda count: count > refused)


async def test_handshake_for_another_key_is_hung_up_on(scene: Scene):
    other = NodeKey.generate(secrets.token_bytes)
    at = parse(scene.relay.enode)
    async with scene.bystander():
        wrong = Enode(other.public_key, at.host, at.tcp, 0).url
        async with await ScriptedPeer.dial(wrong, scene.chain.config) as peer:
            assert await peer.ended() == CLOSED


async def test_handshake_cut_in_the_middle_leaves_nothing_behind(scene: Scene):
    async with scene.bystander():
        files = scene.relay.open_files()
        for _ in range(50):
            _, writer = await asyncio.open_connection(*scene.relay.listener())
            writer.write(b"\x01\x90" + secrets.token_bytes(100))
            writer.transport.abort()
        await until(lambda: scene.relay.open_files() <= files, "the daemon closes what was cut")


# -- Hello ---------------------------------------------------------------------------------------------


def _stranger(**changes):
    key = NodeKey.generate(secrets.token_bytes)
    return {"key": key, "hello": says(hello_of(key), replace(hello_of(key), **changes))}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"capabilities": (Capability("les", 4, 8),)}, Reason.USELESS_PEER),
        ({"capabilities": (Capability("eth", 66, 17),)}, Reason.USELESS_PEER),
        ({"public_key": bytes(64)}, Reason.INVALID_IDENTITY),
        ({"public_key": NodeKey(b"\x07" * 32).public_key}, Reason.UNEXPECTED_IDENTITY),
        ({"client": "x" * 2000}, Reason.PROTOCOL_BREACH),
    ],
    ids=["no-eth", "eth-too-old", "no-identity", "another-identity", "over-2048-bytes"],
)
async def test_bad_hello_is_told_why(scene: Scene, changes, reason):
    async with scene.bystander(), await scene.dial(**_stranger(**changes)) as peer:
        assert await peer.ended() == reason


async def test_we_do_not_become_our_own_peer(scene: Scene):
    async with scene.bystander(), await scene.dial(key=scene.relay.node_key) as peer:
        peer.connection._key = peer.key = NodeKey(b"\x05" * 32)  # or our own core would find out first
        assert await peer.ended() == Reason.SELF_CONNECT


async def test_second_connection_of_a_peer_is_refused(scene: Scene):
    async with scene.bystander(), await scene.dial(key=scene.friend.key) as peer:
        assert await peer.ended() == Reason.ALREADY_CONNECTED


async def test_full_relay_says_too_many_peers_and_still_takes_trusted_ones(folder, chain: OwnChain):
    trusted = NodeKey.generate(secrets.token_bytes)
    relay = RelayProcess(folder / "full", "--network", str(chain.genesis), "--maxpeers", "3")
    async with relay, AsyncExitStack() as stack:
        for _ in range(2):  # one of three places is kept for peers that we dial
            peer = await stack.enter_async_context(await ScriptedPeer.dial(relay.enode, chain.config))
            await peer.join()
        async with await ScriptedPeer.dial(relay.enode, chain.config) as peer:
            assert await peer.ended() == Reason.TOO_MANY_PEERS
        assert await relay.metric("p2p_serves_error_saturated") == 1
        await relay.rpc("admin_addTrustedPeer", Enode(trusted.public_key, "127.0.0.1", 1, 0).url)
        async with await ScriptedPeer.dial(relay.enode, chain.config, key=trusted) as peer:
            await peer.join()
            assert len(await relay.until_peers(3)) == 3


# -- Status --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network_id": 1}, Reason.USELESS_PEER),
        ({"genesis": b"\x12" * 32}, Reason.USELESS_PEER),
        ({"fork_id": ForkId(b"\x01\x02\x03\x04", 0)}, Reason.USELESS_PEER),
        ({"version": 68}, Reason.SUBPROTOCOL_ERROR),
    ],
    ids=["network", "genesis", "fork-id", "version"],
)
async def test_status_of_another_chain_is_told_why(scene: Scene, changes, reason):
    async with scene.bystander(), await scene.dial(versions=(69,)) as peer:
        await peer.greet()
        status = replace(true_status(scene.chain.config, 69), **changes)
        peer.send(m.Status.CODE, status.encode(69))
        assert await peer.ended() == reason


async def test_message_before_status_is_a_breach(scene: Scene):
    async with scene.bystander(), await scene.dial() as peer:
        await peer.greet()
        peer.say(m.GetBlockHeaders(1, 0, 1))
        assert await peer.ended() == Reason.PROTOCOL_BREACH


# -- messages ------------------------------------------------------------------------------------------


def _transactions(*raws: bytes) -> tuple[int, bytes]:
    return m.Transactions.CODE, encode_transactions([wire(raw) for raw in raws])


def _blob_in_transactions(chain: OwnChain):
    return _transactions(chain.sign_blob()[1])


def _same_twice(chain: OwnChain):
    _, raw = chain.sign()
    return _transactions(raw, raw)


def _no_transaction(chain: OwnChain):
    return m.Transactions.CODE, rlp.encode([[b"\x01"] * 9])


def _unknown_type(chain: OwnChain):
    return m.Transactions.CODE, rlp.encode([b"\x7e\xc0"])


def _over_5000(chain: OwnChain):
    return m.Transactions.CODE, rlp.encode([b"\x02\xc0"] * 5001)


def _nested(chain: OwnChain):
    payload = b"\xc0"
    for _ in range(5000):
        payload = rlp.list_header(len(payload)) + payload
    return m.GetBlockHeaders.CODE, payload


def _truncated(chain: OwnChain):
    code, payload = _transactions(chain.sign()[1])
    return code, payload[:-1]


def _unequal_announcement(chain: OwnChain):
    return m.NewPooledTransactionHashes.CODE, rlp.encode([b"\x02\x02", [100], [bytes(32)]])


def _unsolicited(chain: OwnChain):
    return m.PooledTransactions.CODE, encode_pooled(77, [wire(chain.sign()[1])])


OFFENCES: dict[str, tuple[Callable[[OwnChain], tuple[int, bytes]], Reason]] = {
    "blob in Transactions": (_blob_in_transactions, Reason.SUBPROTOCOL_ERROR),
    "one hash twice": (_same_twice, Reason.SUBPROTOCOL_ERROR),
    "no transaction": (_no_transaction, Reason.SUBPROTOCOL_ERROR),
    "unknown type": (_unknown_type, Reason.SUBPROTOCOL_ERROR),
    "over 5000 transactions": (_over_5000, Reason.SUBPROTOCOL_ERROR),
    "unequal announcement": (_unequal_announcement, Reason.SUBPROTOCOL_ERROR),
    "unsolicited answer": (_unsolicited, Reason.SUBPROTOCOL_ERROR),
    "second Status": (lambda _: (0x00, b"\xc0"), Reason.SUBPROTOCOL_ERROR),
    "NewBlockHashes": (lambda _: (0x01, b"\xc0"), Reason.SUBPROTOCOL_ERROR),
    "NewBlock": (lambda _: (0x07, b"\xc0"), Reason.SUBPROTOCOL_ERROR),
    "code without meaning": (lambda _: (0x0B, b"\xc0"), Reason.SUBPROTOCOL_ERROR),
    "code of nobody": (lambda _: (0x7F, b"\xc0"), Reason.PROTOCOL_BREACH),
    "nested lists": (_nested, Reason.PROTOCOL_BREACH),
    "truncated": (_truncated, Reason.PROTOCOL_BREACH),
    "empty": (lambda _: (0x02, b""), Reason.PROTOCOL_BREACH),
    "message over 10 MiB": (lambda _: (0x02, bytes(10 * MEBI + 1)), Reason.PROTOCOL_BREACH),
}


@pytest.mark.parametrize("name", OFFENCES)
async def test_forbidden_message_is_told_why(scene: Scene, name):
    make, reason = OFFENCES[name]
    code, payload = make(scene.chain)
    async with scene.bystander(), await scene.dial() as peer:
        await peer.join()
        peer.send(code, payload)
        assert await peer.ended() == reason


@pytest.mark.parametrize("wrong", ["proof", "blob"])
async def test_peer_that_delivers_a_wrong_sidecar_is_dropped(scene: Scene, wrong):
    tx_hash, raw = scene.chain.sign_blob()
    if wrong == "proof":
        another = bytes.fromhex(
            load("blobs/kzg.json")["1"]["commitment"]
        )  # a point of the curve, and no proof
        raw = raw[:-48] + another
    else:
        middle = len(raw) // 2
        raw = raw[:middle] + b"\x01" + raw[middle + 1 :]
    async with scene.bystander(), await scene.dial() as peer:
        await peer.join()
        announced = encode_announcement(b"\x03", [len(raw)], [tx_hash])
        peer.send(m.NewPooledTransactionHashes.CODE, announced)
        request = await peer.expect(m.GetPooledTransactions)
        assert request.hashes == (tx_hash,)
        peer.say(m.PooledTransactions(request.request_id, (wire(raw),)))
        assert await peer.ended(240.0) == Reason.SUBPROTOCOL_ERROR


@pytest.mark.parametrize("lie", ["size", "type"])
async def test_peer_that_announces_falsely_is_dropped(scene: Scene, lie):
    tx_hash, raw = scene.chain.sign()
    async with scene.bystander(), await scene.dial() as peer:
        await peer.join()
        kind, size = (b"\x02", len(raw) + 9) if lie == "size" else (b"\x01", len(raw))
        peer.send(m.NewPooledTransactionHashes.CODE, encode_announcement(kind, [size], [tx_hash]))
        request = await peer.expect(m.GetPooledTransactions)
        peer.say(m.PooledTransactions(request.request_id, (wire(raw),)))
        assert await peer.ended() == Reason.SUBPROTOCOL_ERROR


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x80\x80\x08" + bytes(100),  # says 16 MiB, one byte more than devp2p allows
        b"\xff\xff\xff\xff\x0f" + bytes(100),
        b"\x80" * 20,
        bytes(cramjam.snappy.compress_raw(bytes(12 * MEBI))),  # 600 KB that are 12 MiB
        b"\x80\x80\x40" + bytes(50),  # says 1 MiB and holds nothing
        b"",
    ],
    ids=["16-MiB", "4-GiB", "no-length", "over-eth's-10-MiB", "too-short", "empty"],
)
async def test_snappy_bomb_is_a_breach_and_costs_no_memory(scene: Scene, body):
    before = scene.relay.status_kib("VmHWM")
    async with scene.bystander(), await scene.dial() as peer:
        await peer.join()
        peer.send_packed(m.Transactions.CODE, body)
        assert await peer.ended() == Reason.PROTOCOL_BREACH
    assert scene.relay.status_kib("VmHWM") - before < GROWTH


async def test_message_codes_and_sizes_at_random_end_in_a_reason(scene: Scene):
    """No bytes of a peer may end anybody else, or the daemon."""
    async with scene.bystander():
        for _ in range(40):
            async with await scene.dial() as peer:
                await peer.join()
                code = secrets.randbelow(0x14)
                peer.send(code, secrets.token_bytes(secrets.randbelow(300)))
                assert await peer.ended() in (Reason.PROTOCOL_BREACH, Reason.SUBPROTOCOL_ERROR), hex(code)


# -- slowly, and in crowds -----------------------------------------------------------------------------


async def test_each_phase_of_a_handshake_has_a_deadline(scene: Scene):
    """Four that dawdle, side by side: byte by byte, silent, without Hello, without Status."""

    async def byte_by_byte() -> float:
        reader, writer = await asyncio.open_connection(*scene.relay.listener())
        begun = time.monotonic()
        with suppress(ConnectionError):
            for each in b"\x01\x90" + secrets.token_bytes(398):
                writer.write(bytes((each,)))
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        if await reader.read(1) == b"":
                            break
        writer.close()
        return time.monotonic() - begun

    async def silent() -> float:
        reader, writer = await asyncio.open_connection(*scene.relay.listener())
        begun = time.monotonic()
        async with asyncio.timeout(HANDSHAKE_SECONDS + 5):
            assert await reader.read() == b""
        writer.close()
        return time.monotonic() - begun

    async def without_hello() -> float:
        async with await scene.dial() as peer:
            peer.mute, begun = True, time.monotonic()
            assert await peer.ended(HANDSHAKE_SECONDS + 5) == Reason.TIMEOUT
            return time.monotonic() - begun

    async def without_status() -> float:
        async with await scene.dial() as peer:
            await peer.greet()
            begun = time.monotonic()
            assert await peer.ended(HANDSHAKE_SECONDS + 5) == Reason.TIMEOUT
            return time.monotonic() - begun

    async with scene.bystander():
        seconds = await asyncio.gather(byte_by_byte(), silent(), without_hello(), without_status())
    for each in seconds:
        assert HANDSHAKE_SECONDS - 0.5 < each < HANDSHAKE_SECONDS + 3


async def test_ten_thousand_connections_cost_little_and_the_friend_is_served(scene: Scene):
    """As many as descriptors allow: each sends a byte, and then dawdles."""
    count = min(CROWD, _allow_many_files() - SPARE_FILES)
    relay, address = scene.relay, scene.relay.listener()
    before, accepted = relay.status_kib("VmRSS"), await relay.metric("p2p_serves")
    waits: list[float] = []
    crowd: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(1000)

    async def knock() -> None:
        one = socket.socket()
        crowd.append(one)
        one.setblocking(False)
        async with gate:
            with suppress(ConnectionError):
                await loop.sock_connect(one, address)
                await loop.sock_sendall(one, b"\x01")

    async def watch(done: asyncio.Event) -> None:
        while not done.is_set():
            waits.append(await scene.friend.served())
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await done.wait()

    async with scene.bystander():
        done = asyncio.Event()
        watching = asyncio.create_task(watch(done))
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(*(knock() for _ in range(count)))
            held, files = relay.status_kib("VmRSS"), relay.open_files()
            await _a_newcomer_gets_in(scene)
        finally:
            done.set()
            await watching
            for one in crowd:
                one.close()
        assert len(crowd) == count
    assert held - before < GROWTH
    assert files < 2000  # peering.options: 1,024 may wait
    assert max(waits) < STALL
    assert sorted(waits)[len(waits) // 2] < STALL / 10
    assert await relay.metric("p2p_serves") > accepted
    await until(lambda: relay.open_files() < 100, "the daemon lets go of the crowd", 20.0)
    longest = max(waits) * 1e3
    print(f"\n{count} connections: RSS +{held - before} KiB, {files} files, longest wait {longest:.0f} ms")


async def _a_newcomer_gets_in(scene: Scene) -> None:
    """Join while the crowd still waits: those who dawdle give way after a second."""

    async def joins() -> bool:
        try:
            async with await scene.dial() as peer:
                await peer.join(deadline=3.0)
                return True
        except (AssertionError, TimeoutError, ConnectionError):
            return False

    await until(joins, "a newcomer joins in spite of the crowd", 20.0)
