"""JSON-RPC of a whole daemon: ports, lists, tokens, upstreams, and Tor in between where the mode has it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time

import aiohttp
import pytest

from relay.app.daemon import Daemon
from relay.app.outward import socket_rules, ways_out
from relay.app.rpc_upstreams import AlsoUpstream, make_upstreams
from relay.primitives.address import UnixAddress, parse_address
from relay.primitives.errors import LocalError, RelayError, UsageError
from relay.rpc.client import CallFailed
from relay.rpc.errors import RpcError
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory, SocketRules
from relay.transports.socks_dialer import Purpose
from tests.aids.http_client import exchange, request
from tests.aids.running import running
from tests.aids.socks_server import ATYP_NAME, SocksServer
from tests.aids.upstream import Act, Script, ScriptedHttp, ScriptedUnix

MAINNET = 1
ONION = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion"
SECRET = bytes(range(32))


async def post(port, method, *params, headers=None):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    given = {"Content-Type": "application/json", "Connection": "close", **(headers or {})}
    return await exchange(port, request("POST", body=body, headers=given))


async def answer(port, method, *params, **more):
    return json.loads((await post(port, method, *params, **more)).body)


async def test_what_we_lack_comes_from_the_upstream_on_every_way_in(settings_of):
    async with ScriptedHttp(chain=MAINNET) as node:
        node.results["eth_getBalance"] = "0x5"
        flags = {"http": "true", "http.port": 0, "ws": "true", "ws.port": 0, "rpc_upstream": node.url}
        async with running(settings_of(**flags)) as relay:
            assert await relay.rpc("eth_getBalance", "0x" + "00" * 20, "latest") == "0x5"
            port = relay.port("serving", 2)
            assert (await answer(port, "eth_getBalance", "0x" + "00" * 20, "latest"))["result"] == "0x5"
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"ws://127.0.0.1:{port}/") as ws,
            ):
                await ws.send_json({"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": []})
                assert (await ws.receive_json())["result"] == "0x5"
                await ws.send_json(
                    {
                        "jsonrpc": "2.0",
                        "id": 2,
                        "method": "eth_subscribe",
                        "params": ["newPendingTransactions"],
                    }
                )
                assert (await ws.receive_json())["result"].startswith("0x")


async def test_what_must_stay_here_is_never_asked_upstream(settings_of):
    async with ScriptedHttp(chain=MAINNET) as node:
        flags = {"http": "true", "http.port": 0, "http.api": "eth,net,debug", "rpc_upstream": node.url}
        async with running(settings_of(**flags)) as relay:
            port = relay.port("serving", 2)
            for method in (
                "debug_traceBlock",
                "trace_block",
                "engine_newPayloadV4",
                "eth_sendTransaction",
                "admin_x",
            ):
                assert "error" in await answer(port, method)
                if method != "trace_block":
                    with pytest.raises(CallFailed):
                        await relay.rpc(method)
        assert node.methods == []


async def test_lists_say_what_a_port_serves_and_what_is_asked(settings_of):
    async with ScriptedHttp(chain=MAINNET) as node:
        flags = {
            "http": "true",
            "http.port": 0,
            "http.api": "eth,net,debug",
            "rpc_upstream": node.url,
            "rpc_allow": "eth_*,debug_trace*",
            "rpc_deny": "eth_getLogs",
        }
        async with running(settings_of(**flags)) as relay:
            port = relay.port("serving", 2)
            for method, served in (
                ("eth_call", True),
                ("eth_chainId", True),
                ("debug_traceBlock", True),
                ("debug_setHead", False),
                ("eth_getLogs", False),
                ("net_version", False),
            ):
                told = await answer(port, method)
                assert ("result" in told) == served, (method, told)
                assert served or told["error"]["code"] == -32601
            assert await relay.rpc("net_version") == "1"
            with pytest.raises(CallFailed, match="eth_getLogs does not exist"):
                await relay.rpc("eth_getLogs", {})
        assert node.methods == ["eth_call", "debug_traceBlock"]


async def test_port_with_a_secret_asks_for_tokens_and_the_socket_does_not(settings_of, tmp_path):
    path = tmp_path / "jwt.hex"
    path.write_text("0x" + SECRET.hex())
    flags = {"http": "true", "http.port": 0, "http.jwtsecret": path}
    async with running(settings_of(**flags)) as relay:
        port = relay.port("serving", 2)
        assert (await post(port, "eth_chainId")).status == 401

        def part(value):
            return base64.urlsafe_b64encode(value).decode().rstrip("=")

        signed = part(b'{"alg":"HS256"}') + "." + part(json.dumps({"iat": int(time.time())}).encode())
        token = signed + "." + part(hmac.digest(SECRET, signed.encode(), hashlib.sha256))
        told = await answer(port, "eth_chainId", headers={"Authorization": f"Bearer {token}"})
        assert told["result"] == "0x1"
        assert await relay.rpc("eth_chainId") == "0x1"


@pytest.mark.parametrize("content", [None, "0x1234"])
async def test_secret_that_is_none_ends_the_start(settings_of, tmp_path, content):
    path = tmp_path / "jwt.hex"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LocalError, match=r"--http\.jwtsecret .*jwt\.hex: "):
        await Daemon(settings_of(**{"http.jwtsecret": path})).run()


async def test_pages_and_hosts_and_rates_are_flags(settings_of):
    flags = {
        "http": "true",
        "http.port": 0,
        "http.corsdomain": "http://a",
        "http.vhosts": "node.example",
        "rpc_rate": "2/h",
    }
    async with running(settings_of(**flags)) as relay:
        port = relay.port("serving", 2)
        assert (await post(port, "eth_chainId", headers={"Host": "localhost"})).status == 403
        allowed = await post(port, "eth_chainId", headers={"Host": "node.example", "Origin": "http://a"})
        assert allowed.headers["access-control-allow-origin"] == "http://a"
        codes = [
            (await answer(port, "eth_chainId", headers={"Host": "node.example"})).get("error")
            for _ in range(2)
        ]
        assert codes[0] is None
        assert codes[1]["code"] == -32005
        assert await relay.rpc("eth_chainId") == "0x1"


# -- our own users' transactions


class Pool:
    def __init__(self):
        self.taken = []

    def submit(self, raw):
        if raw == b"bad":
            raise RelayError("nonce too low")
        self.taken.append(raw)
        return bytes(32)


class Takers:
    def __init__(self):
        self.shown = []

    async def call(self, method, params):
        self.shown.append((method, params))
        raise RpcError(-32000, "already known")


async def test_transaction_is_shown_to_upstreams_only_after_the_pool_took_it():
    pool, takers = Pool(), Takers()
    async with asyncio.TaskGroup() as tasks:
        also = AlsoUpstream(pool, takers, tasks)
        assert also.submit(b"\x01\x02") == bytes(32)
        with pytest.raises(RelayError, match="nonce too low"):
            also.submit(b"bad")
        for _ in range(100):
            also.submit(b"\x03")
    assert takers.shown[0] == ("eth_sendRawTransaction", ["0x0102"])
    assert len(takers.shown) == 64
    assert len(pool.taken) == 101


async def test_transaction_stays_here_unless_the_user_says_otherwise(settings_of):
    async with ScriptedHttp(chain=MAINNET) as node:
        async with running(settings_of(rpc_upstream=node.url)) as relay:
            with pytest.raises(CallFailed):
                await relay.rpc("eth_sendRawTransaction", "0x02c0")
            with pytest.raises(CallFailed):
                await relay.rpc("eth_sendRawTransactionSync", "0x02c0")
        assert node.methods == []


# -- Tor


@pytest.mark.parametrize("mode", [Mode.ONLY_ONION, Mode.CLEARNET_TOR])
async def test_upstreams_are_reached_through_tor_alone_each_stream_on_a_circuit_of_its_own(settings_of, mode):
    def no_lookup(name, port):
        raise AssertionError(f"{name} is looked up")

    async with (
        ScriptedHttp(chain=MAINNET) as node,
        ScriptedHttp(chain=MAINNET) as hidden,
        SocksServer() as proxy,
    ):
        proxy.routes = {
            ("rpc.example", 8545): ("127.0.0.1", node.port),
            (ONION, 80): ("127.0.0.1", hidden.port),
            ("93.184.215.14", 8545): ("127.0.0.1", node.port),
        }
        settings = settings_of(
            tor_proxy=proxy.address,
            rpc_upstream=f"http://rpc.example:8545,http://{ONION},http://93.184.215.14:8545",
            rpc_balance="balanced",
            clearnet="tor" if mode is Mode.CLEARNET_TOR else "off",
        )
        assert settings.mode is mode
        sockets = SocketFactory(socket_rules(settings, None), lookup=no_lookup)
        assert not sockets.rules.direct
        ways = ways_out(mode, sockets, parse_address(proxy.address), tuple)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            made = make_upstreams(settings, MAINNET, sockets, ways, tasks)
            other = make_upstreams(settings, MAINNET, sockets, ways, tasks, purpose=Purpose.BROADCAST)
            for _ in range(6):
                assert await made.call("x") == "0x1"
            await other.call("eth_sendRawTransaction", ["0x00"])
            made.close()
            other.close()
        asked = proxy.asked
        assert {(each.host, each.port) for each in asked} == set(proxy.routes)
        named = [each for each in asked if each.host != "93.184.215.14"]
        assert all(each.address_type == ATYP_NAME for each in named)
        assert len({each.password for each in asked}) == len(asked)
        purposes = {each.password.partition(b"-")[0] for each in asked}
        assert purposes == {b"rpc", b"broadcast"}
        assert node.connections + hidden.connections == len(asked)


async def test_call_of_a_hidden_daemon_goes_through_its_proxy(settings_of):
    async with ScriptedHttp(chain=MAINNET) as node, SocksServer() as proxy:
        proxy.routes = {("rpc.example", 80): ("127.0.0.1", node.port)}
        flags = {
            "tor_proxy": proxy.address,
            "only_onion": "true",
            "onion_service": "off",
            "rpc_upstream": "http://rpc.example",
        }
        async with running(settings_of(**flags), ready=False) as relay:
            await relay.event("serving", 2)
            assert await relay.rpc("eth_getBalance") == "0x1"
        assert [(each.host, each.port) for each in proxy.asked] == [("rpc.example", 80)]
        assert node.heads[0].splitlines()[1] == "Host: rpc.example"


async def test_unix_socket_of_a_node_is_let_through_the_rules_and_nothing_else_is(settings_of, tmp_path):
    path = str(tmp_path / "geth.ipc")
    settings = settings_of(tor_proxy="127.0.0.1:9", only_onion="true", rpc_upstream=path)
    rules = socket_rules(settings, None)
    assert rules.permits(UnixAddress(path))
    assert not rules.permits(UnixAddress(path + "x"))
    assert not rules.permits(parse_address("127.0.0.1:8545"))
    sockets = SocketFactory(rules)
    ways = ways_out(settings.mode, sockets, settings.tor_proxy, tuple)
    async with ScriptedUnix(path=path, chain=MAINNET), asyncio.TaskGroup() as tasks:
        made = make_upstreams(settings, MAINNET, sockets, ways, tasks)
        assert await made.call("x") == "0x1"
        made.close()


async def test_onion_upstream_of_a_clearnet_relay_goes_through_tor_and_others_do_not(settings_of):
    async with (
        ScriptedHttp(chain=MAINNET) as node,
        ScriptedHttp(chain=MAINNET) as hidden,
        SocksServer() as proxy,
    ):
        proxy.routes = {(ONION, 80): ("127.0.0.1", hidden.port)}
        settings = settings_of(tor_proxy=proxy.address, rpc_upstream=f"http://{ONION},{node.url}")
        sockets = SocketFactory(SocketRules.anywhere())
        ways = ways_out(settings.mode, sockets, settings.tor_proxy, tuple)
        async with asyncio.TaskGroup() as tasks:
            made = make_upstreams(settings, MAINNET, sockets, ways, tasks)
            await made.call("x")
            hidden.script = Script(Act.STATUS, status=500)
            await made.call("x")
            made.close()
        assert (len(hidden.methods), len(node.methods), len(proxy.asked)) == (2, 1, 1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"also_submit_upstream": "true"}, "--also-submit-upstream needs"),
        ({"rpc_upstream": f"http://{ONION}"}, "upstream 1 is an onion service, which needs Tor"),
        (
            {"rpc_upstream": "http://a,http://127.0.0.1", "tor_proxy": "127.0.0.1:9", "only_onion": "true"},
            "upstream 2 is on this host",
        ),
        (
            {"rpc_upstream": "http://localhost", "tor_proxy": "127.0.0.1:9", "clearnet": "tor"},
            "its unix socket",
        ),
        ({"rpc_upstream": "ftp://SECRET"}, "--rpc-upstream: upstream 1: it is not of the form"),
        ({"rpc_deny": "eth call"}, "--rpc-deny: 'eth call': it is no method's name"),
        ({"rpc_rate": "fast"}, "--rpc-rate: 'fast' is no rate"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(settings_of, flags, words):
    with pytest.raises(UsageError) as refusal:
        settings_of(**flags)
    assert words in str(refusal.value)
    assert "SECRET" not in str(refusal.value)
