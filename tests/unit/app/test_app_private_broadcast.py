"""Private broadcast of a whole daemon: scripted Tor, receivers that count, one ordinary peer."""

from __future__ import annotations

import json
import secrets
import stat
import time
from contextlib import asynccontextmanager

import pytest
import structlog

from relay.app import private_broadcast, private_journal
from relay.app.datadir import write_atomic
from relay.app.networks import load_network
from relay.app.private_broadcast import ShortDeadlines
from relay.app.private_journal import PrivateJournal
from relay.chain.forkid import fork_id
from relay.chain.transactions import decode, wire
from relay.localnet.accounts import make_accounts, sign_transfer
from relay.localnet.genesis import throwaway_genesis
from relay.primitives.endpoint import Network
from relay.primitives.enode import Enode
from relay.primitives.enr import build_record
from relay.primitives.errors import StorageError, UsageError
from relay.primitives.forkid import ForkId
from relay.primitives.keys import NodeKey
from relay.primitives.node import Node
from relay.primitives.onion import OnionKey
from relay.protocols.devp2p.messages import DisconnectReason
from relay.protocols.eth.messages import GetPooledTransactions, NewPooledTransactionHashes, PooledTransactions
from relay.protocols.eth.packing import split_transactions
from relay.relaying.pool import PooledTx
from relay.relaying.private.letters import Letter
from relay.rpc.client import CallFailed
from relay.settings import load_settings
from tests.aids.control_server import control_server
from tests.aids.http_client import exchange, request
from tests.aids.peering import rand_of
from tests.aids.receiver import Receiver
from tests.aids.running import running
from tests.aids.scripted_peer import ScriptedPeer
from tests.aids.socks_server import SocksServer
from tests.aids.until import stays, until

WHOLE = {"hello": 1, "status": 1, "transactions": 1, "ping": 1, "disconnect": 1}
CHAIN_ID = 424_242
IP = "8.8.4.4"


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch):
    quick = ShortDeadlines(exchange=5.0, asked=5.0, linger=0.05, hang_up=1.0)
    monkeypatch.setattr(private_broadcast, "ShortDeadlines", lambda: quick)


class Stage:
    """A chain, a proxy, and receivers behind it, each at an onion or an IP address."""

    def __init__(self, folder, proxy):
        self.folder, self.proxy = folder, proxy
        self.account, other = make_accounts(2, secrets.token_bytes)
        self.to = other.address
        genesis = throwaway_genesis(CHAIN_ID, (self.account.address, self.to), 1_700_000_000)
        self.genesis = folder / "genesis.json"
        self.genesis.write_text(json.dumps(genesis))
        self.chain = load_network(str(self.genesis))
        self.relay = folder / "relay"
        self.relay.mkdir(mode=0o700, exist_ok=True)
        self.nodes = []

    def place(self, receiver, host=None):
        """Put a receiver behind the proxy, and into static-nodes.json."""
        host = host or OnionKey.generate(rand_of(50 + len(self.nodes))).address
        self.proxy.routes[host, 30303] = ("127.0.0.1", receiver.port)
        self.nodes.append(Enode(receiver.key.public_key, host, 30303, 0).url)
        (self.relay / "static-nodes.json").write_text(json.dumps(self.nodes))
        return host

    def raw(self, nonce=0, **changes):
        return sign_transfer(self.account.key, chain_id=CHAIN_ID, nonce=nonce, to=self.to, value=1, **changes)

    def flags(self, **more):
        return {"tor-proxy": self.proxy.address, "network": str(self.genesis), "only-onion": "true",
                "tor-control": "127.0.0.1:1", "onion-service": "off", "maxpeers": "0"} | more  # fmt: skip


@asynccontextmanager
async def staged(tmp_path, *receivers, **kinds):
    """A stage with so many receivers."""
    async with SocksServer() as proxy:
        yield Stage(tmp_path, proxy)


@asynccontextmanager
async def receiving(stage, *kinds):
    """Receivers of these kinds: keyword arguments of `Receiver`, and perhaps "host"."""
    made = []
    try:
        for kind in kinds:
            host = kind.pop("host", None)
            receiver = Receiver(stage.chain, **kind)
            await receiver.__aenter__()
            made.append(receiver)
            stage.place(receiver, host)
        yield made
    finally:
        for receiver in made:
            await receiver.__aexit__()


def hex_of(raw):
    return "0x" + raw.hex()


async def test_three_receivers_get_one_connection_with_one_transaction_each(tmp_path, settings_of):
    async with (
        staged(tmp_path) as stage,
        receiving(stage, {}, {}, {}) as receivers,
        running(settings_of(**stage.flags())) as relay,
    ):
        raw = stage.raw()
        tx_hash = await relay.rpc("eth_sendRawTransaction", hex_of(raw))
        for receiver in receivers:
            (visit,) = await receiver.until_over()
            assert visit.counts == WHOLE
            assert visit.reason == DisconnectReason.REQUESTED
            assert split_transactions(visit.messages[1][1]) == [wire(raw)]
            assert (visit.status.earliest, visit.status.latest) == (0, 0)
        visits = [receiver.visits[0] for receiver in receivers]
        own = relay.daemon.main.key.public_key
        assert len({each.hello.public_key for each in visits} | {own}) == 4
        assert {each.hello.client for each in visits} == {"pyrelay"}
        asked = stage.proxy.asked
        assert len({each.password for each in asked}) == len(asked) == 3
        assert all(each.password.startswith(b"broadcast-") for each in asked)
        (entry,) = await relay.rpc("relay_privateTransactions")
        assert (entry["hash"], entry["confirmed"], entry["rounds"]) == (tx_hash, 3, 1)
        assert entry["state"] == "waits for its echo"
        assert await relay.metric("pyrelay_private_delivered_total") == 3
        assert await relay.metric("pyrelay_private_waiting") == 1


async def test_deliveries_count_and_not_dials(tmp_path, settings_of):
    full = {"refuse": DisconnectReason.TOO_MANY_PEERS}
    kinds = [dict(full) for _ in range(4)] + [{}, {}, {}]
    async with (
        staged(tmp_path) as stage,
        receiving(stage, *kinds) as receivers,
        running(settings_of(**stage.flags())) as relay,
    ):
        tx_hash = await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw()))
        await until(lambda: all(each.visits for each in receivers[4:]), "all receivers", 40)
        await until(lambda: sum(each.visits[0].over for each in receivers[4:]) == 3, "they end", 20)
        assert [each.visits[0].counts for each in receivers[4:]] == [WHOLE] * 3
        assert all("transactions" not in each.counts for full in receivers[:4] for each in full.visits)
        assert (await relay.rpc("relay_trackTransaction", tx_hash))["sent"] == 3


async def test_only_who_asks_on_the_unix_socket_sees_it_before_its_echo(tmp_path, settings_of):
    async with staged(tmp_path) as stage, receiving(stage, {}) as (receiver,):
        flags = stage.flags(http="true", **{"http.port": "0", "http.api": "eth,net,web3,txpool"})
        settings = load_settings(
            {"datadir": str(tmp_path / "relay"), "metrics.port": "0", "discovery": "off"} | flags, {}
        )
        async with running(settings) as relay:
            tx_hash = await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw()))
            await receiver.until_over()
            assert (await relay.rpc("eth_getTransactionByHash", tx_hash))["hash"] == tx_hash
            assert await relay.rpc("eth_getRawTransactionByHash", tx_hash) == hex_of(stage.raw())
            assert len(await relay.rpc("eth_pendingTransactions")) == 1
            assert await relay.rpc("txpool_status") == {"pending": "0x0", "queued": "0x0"}
            assert await post(relay, "eth_getTransactionByHash", tx_hash) is None
            assert await post(relay, "eth_getRawTransactionByHash", tx_hash) == "0x"
            assert await post(relay, "eth_pendingTransactions") == []
            with pytest.raises(CallFailed, match="already known"):
                await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw()))
            assert await relay.rpc("relay_abortPrivateTransaction", tx_hash) is True
            assert await relay.rpc("relay_privateTransactions") == []
            with pytest.raises(CallFailed, match="no transaction that waits"):
                await relay.rpc("relay_abortPrivateTransaction", tx_hash)


async def post(relay, method, *params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    headers = {"Content-Type": "application/json", "Connection": "close"}
    reply = await exchange(relay.port("serving", 2), request("POST", body=body, headers=headers))
    return json.loads(reply.body)["result"]


async def test_the_echo_of_an_ordinary_peer_brings_it_into_the_pool(tmp_path, settings_of):
    key = OnionKey.generate(rand_of(5))
    async with (
        staged(tmp_path) as stage,
        receiving(stage, {}) as (receiver,),
        control_server(tmp_path, service_id=key.address.removesuffix(".onion")) as control,
    ):
        (stage.relay / "onion_key").write_bytes(key.to_tor_file())
        more = {"tor-control": f"127.0.0.1:{control.port}", "onion-service": "auto", "maxpeers": "3"}
        async with running(settings_of(**stage.flags(**more))) as relay:
            port = relay.port("listening")
            enode = Enode(relay.daemon.main.key.public_key, "127.0.0.1", port, 0).url
            async with await ScriptedPeer.dial(enode, stage.chain) as peer:
                await peer.join()
                raw = stage.raw()
                tx_hash = await relay.rpc("eth_sendRawTransaction", hex_of(raw))
                await until(lambda: short(receiver), "a short connection")
                await stays(lambda: not peer.messages, "nobody is told", 0.3)
                peer.say(GetPooledTransactions(3, (bytes.fromhex(tx_hash[2:]),)))
                assert (await peer.expect(PooledTransactions)).items == ()
                hashes = (bytes.fromhex(tx_hash[2:]),)
                peer.say(NewPooledTransactionHashes(b"\x02", (len(raw),), hashes))
                asked = await peer.expect(GetPooledTransactions)
                assert asked.hashes == hashes
                peer.say(PooledTransactions(asked.request_id, (wire(raw),)))
                pool = relay.daemon.main.eth.pool
                await until(lambda: bytes.fromhex(tx_hash[2:]) in pool, "it is in the pool")
                told = await relay.rpc("relay_trackTransaction", tx_hash)
                assert told["private"] == "came back"
                assert told["first_echo_seconds"] > 0
                assert await relay.rpc("relay_privateTransactions") == []
                assert await relay.rpc("txpool_status") == {"pending": "0x1", "queued": "0x0"}


def short(receiver):
    return [each for each in receiver.visits if each.hello and each.hello.client == "pyrelay" and each.over]


async def test_exits_serve_where_the_mode_allows_them_and_onions_come_first(tmp_path, settings_of):
    full = {"refuse": DisconnectReason.TOO_MANY_PEERS}
    async with (
        staged(tmp_path) as stage,
        receiving(stage, {"host": IP}, {"host": "8.8.8.8"}, full, {}, {}) as (first, second, *_),
    ):
        flags = stage.flags(clearnet="tor")
        del flags["only-onion"]
        async with running(settings_of(**flags)) as relay:
            await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw()))
            broadcast = relay.daemon._private.desk.broadcast
            await until(lambda: broadcast.counters.rounds, "the round is over")
            assert sum(each.host in (IP, "8.8.8.8") for each in stage.proxy.asked) == 1
            assert len(stage.proxy.asked) == 4
            visits = [*first.visits, *second.visits]
            await until(lambda: visits[0].over, "it ends")
            assert [each.counts for each in visits] == [WHOLE]


@pytest.mark.parametrize("more", [{}, {"prefer-tor": "true"}])
async def test_a_relay_with_both_networks_reaches_an_ip_peer_through_an_exit_and_never_directly(
    tmp_path, settings_of, more
):
    async with staged(tmp_path) as stage, receiving(stage, {"host": IP}) as (by_ip,):
        flags = stage.flags(**more)
        del flags["only-onion"]
        async with running(settings_of(**flags)) as relay:
            await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw()))
            (visit,) = await by_ip.until_over()
            assert visit.counts == WHOLE
            assert [each.host for each in stage.proxy.asked] == [IP]
            assert not any("direct" in str(each) for each in relay.logs)


async def test_only_onion_never_uses_an_exit_and_nobody_dials_a_private_address(tmp_path, settings_of):
    kinds = [{"host": IP}, {"host": "127.0.0.1"}, {"host": "localhost"}]
    async with (
        staged(tmp_path) as stage,
        receiving(stage, *kinds) as receivers,
        running(settings_of(**stage.flags())) as relay,
    ):
        await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw()))
        await stays(lambda: not stage.proxy.asked, "no exit is asked", 0.3)
        assert not any(each.visits for each in receivers)
        assert "no peer is known that Tor can reach" in relay.events(WAITS)[0]["event"]
        (entry,) = await relay.rpc("relay_privateTransactions")
        assert entry["state"] == "was taken by nobody yet"


WAITS = (
    "a transaction waits: no peer is known that Tor can reach;"
    " --private-broadcast off would send it to ordinary peers"
)


async def test_we_are_no_receiver_of_our_own(tmp_path, settings_of):
    async with (
        staged(tmp_path) as stage,
        receiving(stage, {}) as (receiver,),
        running(settings_of(**stage.flags())) as relay,
    ):
        daemon = relay.daemon
        own = Enode(daemon.main.key.public_key, OnionKey.generate(rand_of(77)).address, 30303, 0).url
        alias = Enode(receiver.key.public_key, daemon.onion, 30303, 0).url
        await relay.rpc("admin_addPeer", own)
        await relay.rpc("admin_addPeer", alias)  # an own onion under another key
        assert [each.key for each in daemon._private.addressees()] == []


async def test_who_is_not_known_any_more_when_its_turn_comes_is_dialed_all_the_same(tmp_path, settings_of):
    """A round asks many in turn, and each round of another transaction looks anew at who is known."""
    async with (
        staged(tmp_path) as stage,
        receiving(stage, {}) as (receiver,),
        running(settings_of(**stage.flags())) as relay,
    ):
        side = relay.daemon._private
        (addressee,) = side.addressees()
        (stage.relay / "static-nodes.json").write_text("[]")
        relay.daemon._files.load()
        assert not side.addressees()
        tx = decode(stage.raw())
        receipts = []
        side.carry(addressee, Letter(PooledTx(tx, wire(tx.raw)), tx.raw, wire(tx.raw), 0.0), receipts.append)
        (visit,) = await receiver.until_over()
        assert visit.counts == WHOLE
        assert [each.delivered for each in receipts] == [True]


async def test_nodes_of_the_database_and_of_the_mix_are_receivers_when_they_are_of_our_chain(
    tmp_path, settings_of
):
    async with staged(tmp_path) as stage, running(settings_of(**stage.flags())) as relay:
        daemon = relay.daemon
        fork = fork_id(stage.chain, None, time.time())
        keys = [NodeKey.generate(rand_of(90 + number)) for number in range(4)]
        ours, strange, unknown, waiting = (
            build_record(
                key, 1, tcp=30303, onion3=OnionKey.generate(rand_of(80 + number)).address, fork_id=told
            )
            for number, (key, told) in enumerate(
                zip(keys, (fork, ForkId(b"\1\2\3\4", 0), None, fork), strict=True)
            )
        )
        daemon.main.sources.database.seen([ours, strange, unknown], Network.ONION, time.time())
        daemon.main.sources.mix.feed("onion").offer(Node.from_record(waiting))
        found = {each.key for each in daemon._private.addressees()}
        assert {keys[0].public_key, keys[3].public_key} <= found
        assert not {keys[1].public_key, keys[2].public_key} & found


async def test_a_proxy_that_is_dead_keeps_it_waiting_until_it_is_back(tmp_path, settings_of):
    async with (
        staged(tmp_path) as stage,
        receiving(stage, {}) as (receiver,),
        running(settings_of(**stage.flags())) as relay,
    ):
        await stage.proxy.stop()
        await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw()))
        await until(lambda: relay.daemon._private.desk.broadcast.counters.failed, "the dial failed")
        await stage.proxy.start()
        broadcast = relay.daemon._private.desk.broadcast
        (letter,) = broadcast.letters.values()
        await until(lambda: letter.timer is not None, "it waits for the next round")
        letter.timer.cancel()
        broadcast._again(letter)  # as after half a minute
        (visit,) = await receiver.until_over()
        assert visit.counts == WHOLE


async def test_without_tor_and_when_it_is_off_the_pool_has_it_at_once(tmp_path, settings_of):
    async with staged(tmp_path) as stage:
        for flags in ({"network": str(stage.genesis)}, stage.flags(**{"private-broadcast": "off"})):
            async with running(settings_of(**flags)) as relay:
                nonce = 0 if "tor-proxy" in flags else 1
                await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw(nonce)))
                assert await relay.rpc("txpool_status") == {"pending": "0x1", "queued": "0x0"}
                with pytest.raises(CallFailed, match="private broadcast is off"):
                    await relay.rpc("relay_privateTransactions")


@pytest.mark.parametrize("flag", ["private-broadcast", "private-broadcast-journal"])
def test_what_needs_tor_says_so(settings_of, flag):
    value = "on" if flag == "private-broadcast" else "encrypted"
    with pytest.raises(UsageError, match=f"--{flag}.* needs Tor"):
        settings_of(**{flag: value})


def test_a_journal_of_what_is_off_is_refused(settings_of):
    flags = {"tor-proxy": "127.0.0.1:9", "private-broadcast-journal": "encrypted", "private-broadcast": "off"}
    with pytest.raises(UsageError, match="--private-broadcast off has none"):
        settings_of(**flags)


# -- the journal ---------------------------------------------------------------------------------------


async def test_with_a_journal_it_outlives_a_restart_and_leaves_nothing_when_done(tmp_path, settings_of):
    journal, key = tmp_path / "relay" / "private.journal", tmp_path / "relay" / "private.key"
    async with staged(tmp_path) as stage:
        settings = settings_of(**stage.flags(**{"private-broadcast-journal": "encrypted"}))
        raw = stage.raw()
        async with running(settings) as relay:
            tx_hash = await relay.rpc("eth_sendRawTransaction", hex_of(raw))
            await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw(1)))
        assert raw not in journal.read_bytes()
        assert [stat.S_IMODE(each.stat().st_mode) for each in (journal, key)] == [0o600, 0o600]
        async with receiving(stage, {}) as (receiver,), running(settings) as relay:
            (visit,) = await receiver.until_over()
            assert split_transactions(visit.messages[1][1]) == [wire(raw)]
            first, second = await relay.rpc("relay_privateTransactions")
            assert (first["hash"], second["state"]) == (tx_hash, "waits for an earlier nonce")
            for each in (first, second):
                await relay.rpc("relay_abortPrivateTransaction", each["hash"])
            await until(lambda: not journal.exists() and not key.exists(), "nothing is left")


async def test_a_journal_that_a_full_disk_kept_out_is_written_once_there_is_room(
    tmp_path, settings_of, monkeypatch
):
    monkeypatch.setattr(private_broadcast, "JOURNAL_AGAIN", 0.05)
    journal = tmp_path / "relay" / "private.journal"
    room = []

    def write(*args):
        if not room:
            raise StorageError("the disk is full")
        write_atomic(*args)

    monkeypatch.setattr(private_journal, "write_atomic", write)
    async with staged(tmp_path) as stage:
        flags = stage.flags(**{"private-broadcast-journal": "encrypted"})
        async with running(settings_of(**flags)) as relay:
            await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw()))
            told = await relay.event("the journal of private broadcast is not written")
            assert told["cause"] == "the disk is full"
            room.append(True)
            await until(journal.exists, "it is written though nothing has changed")


async def test_by_default_nothing_is_written(tmp_path, settings_of):
    async with staged(tmp_path) as stage, running(settings_of(**stage.flags())) as relay:
        await relay.rpc("eth_sendRawTransaction", hex_of(stage.raw()))
        written = {each.name for each in (tmp_path / "relay").iterdir()}
    assert not any("private" in each for each in written)
    assert not any(
        stage.raw() in each.read_bytes() for each in (tmp_path / "relay").iterdir() if each.is_file()
    )


@pytest.mark.parametrize("tor", [True, False])
async def test_who_keeps_no_journal_any_more_is_told_of_the_one_of_before(tmp_path, settings_of, tor):
    words = "a journal of private broadcast is left from before"
    async with staged(tmp_path) as stage:
        flags = stage.flags() if tor else {"network": str(stage.genesis)}
        async with running(settings_of(**flags)) as relay:
            assert not any(words in each["event"] for each in relay.logs)
        (tmp_path / "relay" / "private.journal").write_bytes(b"sealed")
        async with running(settings_of(**flags)) as relay:
            (told,) = [each for each in relay.logs if words in each["event"]]
        assert (told["log_level"], told["journal"]) == (
            "warning",
            str(tmp_path / "relay" / "private.journal"),
        )


@pytest.mark.parametrize("damaged", [b"", b"x", bytes(12), bytes(40), b"nonsense"])
@pytest.mark.parametrize("key", [None, bytes(32), "a folder"])
def test_a_journal_that_can_not_be_read_is_set_aside_with_its_key(tmp_path, damaged, key):
    journal = PrivateJournal(tmp_path)
    assert journal.load() == []
    (tmp_path / "private.journal").write_bytes(damaged)
    if key == "a folder":
        (tmp_path / "private.key").mkdir()
    elif key is not None:
        (tmp_path / "private.key").write_bytes(key)
    with structlog.testing.capture_logs() as logs:
        assert journal.load() == []
        assert journal.load() == []  # the second time there is nothing
    (told,) = logs
    (kept,) = tmp_path.glob("private.journal.unread-*")
    assert kept.read_bytes() == damaged
    assert len(list(tmp_path.glob("private.key.unread-*"))) == (key is not None)
    assert kept.name in told["set_aside"]
    assert not (tmp_path / "private.journal").exists()
