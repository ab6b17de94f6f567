"""The init containers, prune and join, as the command line runs them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.cli import kubernetes as cli
from relay.cli.main import COMMANDS, main
from relay.kubernetes import programs
from relay.kubernetes.connect import connected
from relay.kubernetes.failures import ApiFailed, Trouble
from relay.kubernetes.joining import ask_node, enode_of, join_url, node_of_info
from relay.kubernetes.options import ApiOptions
from relay.kubernetes.pages import DiscoveryCounts, DiscoveryPages, NodeInfoPage
from relay.kubernetes.prune import prune
from relay.primitives.address import TcpAddress
from relay.primitives.enr import build_record
from relay.primitives.errors import DecodeError, LocalError, UsageError
from relay.rpc.httpd import HttpOptions, HttpServer
from relay.transports.dialer import TcpDialer
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.kubernetes import NAMESPACE, pod
from tests.aids.kubernetes_server import KubernetesServer, kubeconfig, serving, status
from tests.aids.socks_server import SocksServer

BOOK = "tor-peer-addresses"
ME, BOB, CAROL = pod("relay-0"), pod("relay-1"), pod("relay-2")


def words(tmp_path: Path, server: KubernetesServer | str, *more: str) -> list[str]:
    url = server if isinstance(server, str) else server.url
    key = tmp_path / "cluster-key"
    key.write_bytes(b"a secret of this cluster\n")
    return [
        *more, "--datadir", str(tmp_path / "data"), "--kubeconfig", str(kubeconfig(tmp_path, url)),
        "--cluster", "lab", "--namespace", NAMESPACE, "--pod", "relay-0", "--cluster-key-file", str(key),
        "--log-format", "text",
    ]  # fmt: skip


async def running(argv: list[str]) -> int:
    return await asyncio.to_thread(main, ["kubernetes", *argv])


def test_the_command_is_imported_when_it_is_asked_for() -> None:
    assert COMMANDS["kubernetes"] == "relay.cli.kubernetes"
    code = (
        "import sys, relay.cli.main, relay.cli.daemon;"
        "print([m for m in ('lightkube', 'httpx2', 'relay.kubernetes') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


async def test_identity_then_static_nodes_in_the_seeds_words(tmp_path: Path, capsys) -> None:
    async with serving() as server:
        server.put({"relay-1": BOB.text(), "relay-2": CAROL.text(), "relay-3": "nonsense"})
        assert await running(words(tmp_path, server, "identity")) == 0
        out = capsys.readouterr().out
        assert "[tor-discovery] Pod: relay-0" in out
        assert "[tor-discovery] Found .onion address: " in out
        assert "[tor-discovery] ConfigMap updated successfully" in out
        onion = (tmp_path / "data" / "hostname").read_text().strip()
        assert onion not in out, "nobody needs the whole address in a log"
        assert json.loads(server.data()["relay-0"])["onion"] == onion
        assert await running(words(tmp_path, server, "static-nodes")) == 0
        out = capsys.readouterr().out
        assert f"Adding peer: relay-1 -> {BOB.onion.address[:6]}..." in out
        assert "Adding peer: relay-2 -> " in out
        assert "Ignoring entry of relay-3: it is not JSON" in out
        assert "Built static-nodes.json with 2 peers" in out
        assert "Discovery complete" in out
        urls = json.loads((tmp_path / "data" / "static-nodes.json").read_text())
        assert urls == [BOB.entry().enode, CAROL.entry().enode]


async def test_who_publishes_nothing_needs_no_cluster_key_and_is_not_warned(tmp_path: Path, capsys) -> None:
    argv = [
        "identity",
        "--no-publish",
        "--pod",
        "relay-0",
        "--namespace",
        NAMESPACE,
        "--datadir",
        str(tmp_path),
    ]
    assert await running([*argv, "--log-format", "text"]) == 0
    told = capsys.readouterr()
    assert "Found .onion address: " in told.out
    assert "--cluster-key-file" not in told.out + told.err


async def test_an_init_container_among_many_pods_writes_an_object(tmp_path: Path) -> None:
    async with serving() as server:
        server.put({"relay-1": BOB.text(), "relay-2": CAROL.text()})
        assert await running(words(tmp_path, server, "identity", "--objects-from", "1")) == 0
        assert ("leases", f"{BOOK}-relay-0") in server.objects
        assert json.loads(server.data()["relay-0"])["summary"] == f"lease/{BOOK}-relay-0"


async def test_the_first_pod_of_a_cluster_writes_an_empty_list(tmp_path: Path, capsys) -> None:
    async with serving() as server:
        assert await running(words(tmp_path, server, "identity")) == 0
        assert await running(words(tmp_path, server, "static-nodes")) == 0
        assert (tmp_path / "data" / "static-nodes.json").read_text() == "[]\n"
        assert "Built static-nodes.json with 0 peers" in capsys.readouterr().out


async def test_without_an_api_server_a_relay_starts_with_the_peers_of_before(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    dead = "http://127.0.0.1:1"
    assert await running(words(tmp_path, dead, "identity")) == 0
    (tmp_path / "data" / "static-nodes.json").write_text(json.dumps([BOB.entry().enode]))
    assert await running(words(tmp_path, dead, "static-nodes")) == 0
    assert "Built static-nodes.json with 1 peers" in capsys.readouterr().out
    assert json.loads((tmp_path / "data" / "static-nodes.json").read_text()) == [BOB.entry().enode]


async def test_an_api_server_that_says_nothing_does_not_hold_a_relay(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(programs, "INIT_SECONDS", 0.2)

    async def silent(_):
        await asyncio.Event().wait()

    async with serving() as server:
        for verb in ("patch", "get"):
            server.always[verb, "configmaps"] = silent
        assert await running(words(tmp_path, server, "identity")) == 0
        assert await running(words(tmp_path, server, "static-nodes")) == 0
        assert "Built static-nodes.json with 0 peers" in capsys.readouterr().out


async def test_missing_rights_of_an_init_container_are_an_event(tmp_path: Path) -> None:
    async with serving() as server:
        server.always["patch", "configmaps"] = status(403, "forbidden")
        assert await running(words(tmp_path, server, "identity")) == 0
        assert server.events[0]["reason"] == "AddressBookForbidden"
        assert "lacks the verb patch" in server.events[0]["message"]


def test_who_the_pod_is_must_be_told(tmp_path: Path, capsys, monkeypatch) -> None:
    for name in ("POD_NAME", "POD_NAMESPACE", "NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    argv = ["kubernetes", "identity", "--datadir", str(tmp_path), "--account", str(tmp_path)]
    assert main(argv) == 2
    assert "--namespace NAME is missing: give it, or POD_NAMESPACE" in capsys.readouterr().err
    assert main([*argv, "--namespace", "x"]) == 2
    assert "--pod NAME is missing" in capsys.readouterr().err
    (tmp_path / "namespace").write_text("relays\n")
    monkeypatch.setenv("POD_NAME", "relay-0")
    assert main(argv) == 2
    assert "KUBERNETES_SERVICE_HOST is not set" in capsys.readouterr().err
    assert (tmp_path / "hostname").exists(), "the keys are there all the same"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["discovery", "--heartbeat", "300", "--stale-after", "400"], "less than 2 heartbeats"),
        (["discovery", "--heartbeat", "1"], "at least 10 s"),
        (["discovery", "--metrics", "nonsense"], "expected HOST:PORT"),
        (["discovery", "--join", "http://example.org:8545"], "expected an onion address"),
        (["discovery", "--join", "https://8.8.8.8"], "expected an onion address"),
        (["discovery", "--join", "ws://10.0.0.1"], "expected http://ONION:PORT"),
        (["discovery", "--cluster-key-file", "/nowhere"], "is the Secret mounted?"),
        (["join", "ftp://x"], "ftp://x"),
        (["prune", "--older-than", "-5"], "no number of seconds"),
    ],
)
def test_usage_errors_say_what_is_expected(tmp_path: Path, capsys, argv: list[str], said: str) -> None:
    place = [] if argv[0] == "join" else ["--namespace", "x"]
    pod_name = [] if argv[0] in ("join", "prune") else ["--pod", "p"]
    try:
        code = main(["kubernetes", *argv, *place, *pod_name, "--datadir", str(tmp_path)])
    except SystemExit as error:
        code = error.code
    assert code in (1, 2)
    assert said in capsys.readouterr().err


# -- prune ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def pruning(
    tmp_path: Path, ages: dict[str, float | None]
) -> AsyncIterator[tuple[KubernetesServer, object]]:
    """A map whose keys were last written some seconds ago by the server's clock; None: by nobody."""
    now = datetime.now(UTC)
    async with serving() as server:
        server.put({name: f"entry of {name}" for name in ages})
        managed = [
            {
                "manager": name, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "time": (now - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "fieldsV1": {"f:data": {f"f:{name}": {}}},
            }
            for name, age in ages.items()
            if age is not None
        ]  # fmt: skip
        server.objects["configmaps", BOOK]["metadata"]["managedFields"] = managed
        async with connected(ApiOptions(kubeconfig=kubeconfig(tmp_path, server.url)), NAMESPACE) as api:
            yield server, api


async def test_prune_takes_out_what_nobody_renews(tmp_path: Path) -> None:
    ages = {"relay-0": 10.0, "relay-1": 7200.0, "relay-2": None}
    async with pruning(tmp_path, ages) as (server, api):
        tried = await prune(api, BOOK, 3600.0, dry_run=True)
        assert set(server.data()) == set(ages)
        done = await prune(api, BOOK, 3600.0)
        assert done == tried
        assert (set(done.removed), done.kept) == ({"relay-1", "relay-2"}, 1)
        assert set(server.data()) == {"relay-0"}


async def test_prune_leaves_an_entry_that_is_renewed_in_that_moment(tmp_path: Path) -> None:
    async with pruning(tmp_path, {"relay-1": 7200.0}) as (server, api):

        async def late(request):
            server.next("patch", "configmaps")
            server.put({"relay-1": "renewed"})
            return await server._patch(request, "configmaps", BOOK)

        server.next("patch", "configmaps", late)
        assert (await prune(api, BOOK, 3600.0)).removed == ()
        assert server.data() == {"relay-1": "renewed"}


async def test_prune_says_what_it_may_not_do(tmp_path: Path) -> None:
    async with pruning(tmp_path, {"relay-1": 7200.0}) as (server, api):
        server.always["patch", "configmaps"] = status(403, "no")
        with pytest.raises(ApiFailed, match="lacks the verb patch on configmaps") as caught:
            await prune(api, BOOK, 3600.0)
        assert caught.value.trouble is Trouble.FORBIDDEN


async def test_prune_of_leases_and_lines_for_people(tmp_path: Path) -> None:
    async with pruning(tmp_path, {"relay-0": 7200.0, "relay-1": 7200.0}) as (server, api):
        now = datetime.now(UTC)
        for name, age in (("relay-0", 5.0), ("relay-1", 7200.0)):
            metadata = {
                "name": f"{BOOK}-{name}", "namespace": NAMESPACE, "labels": {"pyrelay/address-book": BOOK},
                "annotations": {"pyrelay/entry": "x"},
                "managedFields": [{
                    "manager": name, "operation": "Apply", "fieldsV1": {"f:metadata": {"f:annotations": {}}},
                    "time": (now - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ"),
                }],
            }  # fmt: skip
            server._store("ADDED", "leases", {"metadata": metadata, "spec": {"holderIdentity": name}})
        done = await prune(api, BOOK, 3600.0)
        assert set(done.removed) == {"relay-1", f"lease/{BOOK}-relay-1"}
        assert done.kept == 1
        assert set(server.data()) == {"relay-0"}, "its Lease is fresh, so its line stays"


async def test_prune_as_a_command(tmp_path: Path, capsys) -> None:
    async with serving() as server:
        server.put({"relay-1": "x"})
        argv = ["prune", "--kubeconfig", str(kubeconfig(tmp_path, server.url)), "--namespace", NAMESPACE]
        assert await running([*argv, "--dry-run", "--datadir", str(tmp_path)]) == 0
        assert capsys.readouterr().out == "would remove relay-1\n1 to remove, 0 kept\n"
        assert await running([*argv, "--json", "--datadir", str(tmp_path)]) == 0
        assert json.loads(capsys.readouterr().out) == {"removed": ["relay-1"], "kept": 0}
        assert await running([*argv, "--json", "--datadir", str(tmp_path)]) == 0
        assert json.loads(capsys.readouterr().out) == {"removed": [], "kept": 0}


# -- join -------------------------------------------------------------------------------------------------


def info(who=BOB, *, onion: bool = True) -> dict[str, object]:
    record = build_record(who.node, 1, tcp=30303, onion3=who.onion.address if onion else None, fork_id=None)
    return {"id": "x", "enr": record.to_text(), "enode": who.entry().enode, "listenAddr": "10.1.2.3:30303"}


@asynccontextmanager
async def node_page(answer, name: str = "localhost") -> AsyncIterator[str]:
    server = HttpServer(NodeInfoPage(answer).answer, options=HttpOptions(vhosts=(name,)))
    sock = SocketFactory(SocketRules.anywhere()).listen_tcp("127.0.0.1", 0)
    port = sock.getsockname()[1]
    await server.start(sock)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.close()


async def ask(url: str):
    parsed = join_url(url)
    sockets = SocketFactory(SocketRules.only(TcpAddress("127.0.0.1", parsed.endpoint.port)))
    return await ask_node(parsed, TcpDialer(sockets), sockets, seconds=5.0)


async def test_a_daemon_of_another_cluster_tells_its_node(tmp_path: Path) -> None:
    async with node_page(info) as url:
        node = await ask(url)
        assert enode_of(node) == BOB.entry().enode
        assert node.record is not None


async def test_join_asks_there_and_adds_here(tmp_path: Path, monkeypatch, capsys) -> None:
    called = []

    async def call(_path, method, params=(), **_):
        called.append((method, list(params)))
        return info(ME) if method == "admin_nodeInfo" else True

    monkeypatch.setattr("relay.kubernetes.joining.call", call)
    async with node_page(info) as url:
        assert await running(["join", url, "--datadir", str(tmp_path), "--log-format", "text"]) == 0
        assert ("admin_addPeer", [BOB.entry().enode]) in called
        assert f"Adding peer: {url} -> {BOB.entry().enode}" in capsys.readouterr().out
    async with node_page(lambda: info(ME)) as url:
        assert await running(["join", url, "--datadir", str(tmp_path)]) == 1
        assert "this relay itself" in capsys.readouterr().err


async def test_join_over_an_onion_asks_tor_and_nobody_else(tmp_path: Path, monkeypatch, capsys) -> None:
    added = []

    async def call(_path, method, params=(), **_):
        added.extend(params)
        return info(ME) if method == "admin_nodeInfo" else True

    monkeypatch.setattr("relay.kubernetes.joining.call", call)
    async with node_page(info, "*") as url, SocksServer() as tor:
        tor.routes[CAROL.onion.address, 8545] = ("127.0.0.1", int(url.rpartition(":")[2]))
        argv = ["join", f"http://{CAROL.onion.address}:8545", "--only-onion", "--tor-proxy", tor.address]
        assert await running([*argv, "--datadir", str(tmp_path)]) == 0
        assert added == [BOB.entry().enode]
        assert [(each.host, each.port) for each in tor.asked] == [(CAROL.onion.address, 8545)]
        assert await running([*argv[:-1], "127.0.0.1:1", "--datadir", str(tmp_path)]) == 1
        assert "no proxy answers at 127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: None, "has not told its node yet"),
        (lambda: {}, "names no onion service"),
        (lambda: {"enode": f"enode://{'00' * 64}@1.2.3.4:30303"}, "not a point"),
        (lambda: {"enr": "enr:x"}, "127.0.0.1"),
        (
            lambda: {"enode": BOB.entry().enode.replace(BOB.onion.address, "9.9.9.9")},
            "names no onion service",
        ),
    ],
)
async def test_what_another_daemon_says_is_not_believed_blindly(answer, said: str) -> None:
    async with node_page(answer) as url:
        with pytest.raises(LocalError, match=said):
            await ask(url)


async def test_join_says_why_nobody_answers() -> None:
    with pytest.raises(LocalError, match=r"http://127.0.0.1:1: .*can't be reached"):
        await ask("http://127.0.0.1:1")
    async with serving() as server:
        with pytest.raises(LocalError, match=r"127\.0\.0\.1"):
            await ask(server.url)


def test_an_onion_is_reached_through_tor_only() -> None:
    url = join_url(f"http://{BOB.onion.address}:8545")
    with pytest.raises(UsageError, match="give --tor-proxy"):
        programs._dialer(url, None, SocketFactory(SocketRules.only()))
    proxy = TcpAddress("127.0.0.1", 9050)
    rules = programs._rules(proxy, url)
    assert rules.allowed == {proxy}
    assert not rules.direct
    assert not rules.resolve


def test_a_node_without_its_record_is_known_by_its_url() -> None:
    assert enode_of(node_of_info({"enode": BOB.entry().enode})) == BOB.entry().enode
    for nonsense in (None, [], "x", {"enode": 5}):
        with pytest.raises(DecodeError):
            node_of_info(nonsense)


# -- pages ------------------------------------------------------------------------------------------------


class Request:
    def __init__(self, path: str, method: str = "GET", body: bytes = b"") -> None:
        self.path, self.method, self._body, self.headers = path, method, body, {}

    async def read(self, limit: int) -> bytes:
        return self._body[:limit]


def counts(synced: bool = True) -> DiscoveryCounts:
    return DiscoveryCounts(
        {"fresh": 3, "stale": 1, "rejected": 0},
        {"accepted": 7, "written": 2},
        1,
        1.8e9,
        {"gone": 4},
        3,
        False,
        synced,
    )


async def test_the_metrics_have_the_names_of_the_design() -> None:
    page = await DiscoveryPages(counts).answer(Request("/metrics"))  # type: ignore[arg-type]
    text = page.body.decode()
    for line in (
        'pyrelay_discovery_entries{state="fresh"} 3.0',
        'pyrelay_discovery_updates_total{result="accepted"} 7.0',
        "pyrelay_discovery_conflicts_total 1.0",
        "pyrelay_discovery_last_sync_timestamp_seconds 1.8e+09",
        'pyrelay_discovery_watch_ends_total{cause="gone"} 4.0',
    ):
        assert line in text
    assert "relay-" not in text
    assert "onion" not in text


async def test_ready_is_who_follows_the_book_with_or_without_peers() -> None:
    for synced, code in ((True, 200), (False, 503)):
        pages = DiscoveryPages(lambda synced=synced: counts(synced))
        assert (await pages.answer(Request("/readyz"))).status == code  # type: ignore[arg-type]
        assert (await pages.answer(Request("/healthz"))).status == 200  # type: ignore[arg-type]
    assert (await pages.answer(Request("/x"))).status == 404  # type: ignore[arg-type]
    assert (await pages.answer(Request("/metrics", "POST"))).status == 405  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"method": "admin_addPeer", "id": 1}', b'{"method": {}}', b"[" * 4000]
)
async def test_the_page_for_joins_answers_one_question_only(body: bytes) -> None:
    page = await NodeInfoPage(info).answer(Request("/", "POST", body))  # type: ignore[arg-type]
    assert json.loads(page.body)["error"]["code"] == -32601


async def test_the_page_for_joins_tells_no_address_of_this_host() -> None:
    body = b'{"jsonrpc":"2.0","id":"a","method":"admin_nodeInfo"}'
    page = await NodeInfoPage(info).answer(Request("/", "POST", body))  # type: ignore[arg-type]
    answer = json.loads(page.body)
    assert answer["id"] == "a"
    assert "listenAddr" not in answer["result"]
    assert (await NodeInfoPage(info).answer(Request("/"))).status == 405  # type: ignore[arg-type]


async def test_a_sidecar_starts_and_ends_by_a_signal(tmp_path: Path) -> None:
    """As its own process: what Kubernetes starts and ends."""
    async with serving() as server:
        server.put({"relay-1": BOB.text()})
        assert await running(words(tmp_path, server, "identity")) == 0
        argv = words(tmp_path, server, "discovery", "--metrics", "off")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relay.cli.main", "kubernetes", *argv,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        path = tmp_path / "data" / "static-nodes.json"
        async with asyncio.timeout(60):
            while not path.exists() or json.loads(path.read_text()) != [BOB.entry().enode]:
                await asyncio.sleep(0.05)
            # A second pod with this volume is refused while the sidecar runs.
            assert await running(words(tmp_path, server, "identity")) == 1
            process.terminate()
            _, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert await running(words(tmp_path, server, "identity")) == 0


def test_the_help_of_each_program_can_be_read(capsys) -> None:
    for action in ("identity", "static-nodes", "discovery", "join", "prune"):
        with pytest.raises(SystemExit) as caught:
            cli.run([action, "--help"])
        assert caught.value.code == 0
        assert "usage: pyrelay kubernetes" in capsys.readouterr().out
