"""The sidecar against an API server that misbehaves: the file keeps its peers, the entry comes back."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from relay.kubernetes import discovery as module
from relay.kubernetes import publisher
from relay.kubernetes.checking import OnionChecks
from relay.kubernetes.connect import connected
from relay.kubernetes.discovery import Discovery, Seams
from relay.kubernetes.entry import parse_entry
from relay.kubernetes.options import ApiOptions, BookMode, BookOptions, DiscoveryOptions
from relay.primitives.enr import build_record
from relay.primitives.errors import ConnectFailed, LocalError
from tests.aids.kubernetes import CLUSTER_KEY, NAMESPACE, Pod, pod
from tests.aids.kubernetes_server import KubernetesServer, half, kubeconfig, raw, serving, status
from tests.aids.until import stays, until

BOOK = "tor-peer-addresses"
ME, BOB, CAROL = pod("relay-0"), pod("relay-1"), pod("relay-2")


@dataclass
class Bench:
    server: KubernetesServer
    discovery: Discovery
    path: Path
    folder: Path
    now: list[float] = field(default_factory=lambda: [0.0])

    def peers(self) -> set[str]:
        """Pods in static-nodes.json."""
        try:
            urls = json.loads(self.path.read_text())
        except FileNotFoundError:
            return set()
        known = {each.entry().enode: each.name for each in (BOB, CAROL)}
        return {known.get(url, url) for url in urls}

    def own(self) -> dict[str, object]:
        return json.loads(self.server.data().get(ME.name, "{}"))

    async def has(self, *names: str) -> None:
        await until(lambda: self.peers() == set(names), lambda: f"{names} in the file, not {self.peers()}")

    def reasons(self) -> set[str]:
        return {each["reason"] for each in self.server.events}


async def _short(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.01))


@asynccontextmanager
async def bench(
    tmp_path: Path,
    *,
    book: BookOptions | None = None,
    before: Callable[[KubernetesServer], None] = lambda _: None,
    timeout: float = 10.0,
    **more,
) -> AsyncIterator[Bench]:
    options = {"static_nodes": tmp_path / "static-nodes.json", "ipc": tmp_path / "no.ipc"}
    built = {name: more.pop(name) for name in ("checks", "join") if name in more}
    async with serving() as server:
        before(server)
        api_options = ApiOptions(kubeconfig=kubeconfig(tmp_path, server.url), timeout=timeout)
        async with connected(api_options, NAMESPACE) as api:
            now = [0.0]
            seams = Seams(lambda: now[0], lambda: 1.8e9, lambda: 0.5, os.urandom, _short)
            own = ME.own(ME.volume(tmp_path / "data"), uid="uid-0")
            found = Discovery(
                api, own, ME.identity, book or BookOptions(mode=BookMode.CONFIGMAP, stale_after=1200.0),
                DiscoveryOptions(**{**options, **more}), seams, **built,
            )  # fmt: skip
            running = asyncio.ensure_future(found.run())
            it = Bench(server, found, tmp_path / "static-nodes.json", tmp_path, now)
            try:
                yield it
                assert not running.done(), "nothing ends it"
            finally:
                running.cancel()
                server.cut_watches()
                with suppress(asyncio.CancelledError):
                    await running


def put(server: KubernetesServer, *pods: Pod, sequence: int = 1) -> None:
    server.put({**server.data(), **{each.name: each.text(sequence) for each in pods}})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.05)


async def test_it_writes_its_entry_and_the_others_become_peers(tmp_path: Path) -> None:
    async with bench(tmp_path, before=lambda server: put(server, BOB)) as it:
        await it.has("relay-1")
        await until(lambda: it.own(), "own entry")
        put(it.server, CAROL)
        await it.has("relay-1", "relay-2")
        entry = parse_entry(it.server.data()[ME.name], ME.place, CLUSTER_KEY)
        assert entry.onion == ME.onion.address
        counts = it.discovery.counts()
        assert (counts.entries["fresh"], counts.peers, counts.synced) == (2, 2, True)
        assert counts.last_sync == 1.8e9
        assert (tmp_path / "static-nodes.json").stat().st_mode & 0o777 == 0o640


async def test_a_map_that_is_deleted_is_rebuilt_and_nobody_is_lost(tmp_path: Path) -> None:
    async with bench(tmp_path, before=lambda server: put(server, BOB, CAROL)) as it:
        await it.has("relay-1", "relay-2")
        await until(lambda: it.own(), "own entry")
        it.server.delete("configmaps", BOOK)
        await until(lambda: it.own(), "own entry again")
        assert it.peers() == {"relay-1", "relay-2"}
        await until(lambda: "AddressBookRebuilt" in it.reasons(), "an Event")


async def test_an_entry_that_was_lost_while_nobody_looked_is_written_again(tmp_path: Path) -> None:
    async with bench(tmp_path, before=lambda server: put(server, BOB)) as it:
        await until(lambda: it.own(), "own entry")
        await until(lambda: it.discovery.counts().synced, "it follows")
        for verb in ("list", "watch", "patch"):
            it.server.always[verb, "configmaps"] = status(403, "forbidden")
        it.server.cut_watches()
        await until(lambda: not it.discovery.counts().synced, "it does not follow")
        del it.server.objects["configmaps", BOOK]
        it.server.always.clear()
        await until(lambda: it.own(), "own entry again, long before the next heartbeat")


async def test_its_own_entry_edited_by_hand_is_written_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await until(lambda: it.own(), "own entry")
        first = it.own()["sequence"]
        it.server.put({ME.name: "nonsense"})
        await until(lambda: it.server.data()[ME.name] != "nonsense", "own entry again")
        assert it.own()["sequence"] > first


async def test_an_entry_is_not_written_again_and_again_for_its_own_echo(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await until(lambda: it.own(), "own entry")
        written = it.discovery.publisher.written
        put(it.server, BOB)
        await it.has("relay-1")
        await stays(lambda: it.discovery.publisher.written <= written + 1, "one entry", 0.3)


async def test_an_api_server_that_is_away_for_ten_minutes_costs_no_peer(tmp_path: Path) -> None:
    async with bench(tmp_path, before=lambda server: put(server, BOB)) as it:
        await it.has("relay-1")
        await until(lambda: it.own(), "own entry")
        for verb in ("list", "watch", "patch"):
            it.server.always[verb, "configmaps"] = raw(503, b"")
        it.server.cut_watches()
        await until(lambda: not it.discovery.counts().synced, "it notices")
        it.now[0] += 6000.0
        await stays(lambda: it.peers() == {"relay-1"}, "the peer stays", 0.3)
        put(it.server, CAROL)
        it.server.always.clear()
        await it.has("relay-1", "relay-2")
        assert it.discovery.counts().synced


async def test_who_is_silent_while_we_watch_is_left_out(tmp_path: Path) -> None:
    async with bench(tmp_path, before=lambda server: put(server, BOB, CAROL)) as it:
        await it.has("relay-1", "relay-2")
        it.now[0] += 1000.0
        put(it.server, CAROL, sequence=2)
        await until(lambda: it.discovery.book.text("map", "relay-2") == CAROL.text(2), "a heartbeat")
        it.now[0] += 500.0
        await it.has("relay-2")
        assert it.discovery.counts().entries["stale"] == 1


async def test_410_lists_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await until(lambda: it.server.asked["watch", "configmaps"] >= 1, "a watch")
        it.server.next("watch", "configmaps", status(410, "too old"))
        lists = it.server.asked["list", "configmaps"]
        it.server.cut_watches()
        await until(lambda: it.server.asked["list", "configmaps"] > lists, "another list")
        put(it.server, BOB)
        await it.has("relay-1")
        assert it.discovery.counts().watch_ends["gone"] == 1


@pytest.mark.parametrize(
    "trouble",
    [
        status(409, "conflict"), status(429, "busy", **{"Retry-After": "1"}), raw(500, b""), raw(200, b"{"),
        raw(200, b"<html>", "text/html"), half,
    ],
    ids=["409", "429", "500", "half JSON", "HTML", "cut"],
)  # fmt: skip
async def test_whatever_is_answered_it_goes_on(tmp_path: Path, trouble) -> None:
    def misbehave(server: KubernetesServer) -> None:
        put(server, BOB)
        for verb in ("list", "watch", "patch"):
            server.next(verb, "configmaps", trouble, trouble)

    async with bench(tmp_path, before=misbehave) as it:
        await it.has("relay-1")
        await until(lambda: it.own(), "own entry")


async def test_missing_rights_are_told_with_verb_and_object(tmp_path: Path) -> None:
    def forbid(server: KubernetesServer) -> None:
        for verb in ("list", "watch", "patch"):
            server.always[verb, "configmaps"] = status(403, "forbidden")

    async with bench(tmp_path, before=forbid) as it:
        await until(lambda: "AddressBookForbidden" in it.reasons(), "an Event")
        message = next(e["message"] for e in it.server.events if e["reason"] == "AddressBookForbidden")
        assert "configmaps named tor-peer-addresses" in message
        assert next(iter(it.server.events))["involvedObject"]["uid"] == "uid-0"
        it.server.always.clear()
        put(it.server, BOB)
        await it.has("relay-1")


async def test_without_the_right_to_watch_it_still_lists(tmp_path: Path) -> None:
    def forbid(server: KubernetesServer) -> None:
        server.always["watch", "configmaps"] = status(403, "forbidden")

    async with bench(tmp_path, before=forbid) as it:
        put(it.server, BOB)
        await it.has("relay-1")


async def test_without_the_right_to_events_nothing_else_suffers(tmp_path: Path) -> None:
    def forbid(server: KubernetesServer) -> None:
        server.always["create", "events"] = status(403, "forbidden")
        server.put({"relay-1": "nonsense"})

    async with bench(tmp_path, before=forbid) as it:
        await until(lambda: it.server.asked["create", "events"], "a try")
        put(it.server, BOB)
        await it.has("relay-1")


async def test_nonsense_and_a_huge_map_harm_nobody(tmp_path: Path) -> None:
    async with bench(tmp_path, before=lambda server: put(server, BOB)) as it:
        await it.has("relay-1")
        it.server.put({"relay-1": "{" * 100_000, **{f"x{n}": "y" * 100 for n in range(2000)}})
        await until(lambda: it.discovery.counts().entries["rejected"] > 2000, "they are looked at")
        assert it.peers() == {"relay-1"}
        await until(lambda: "AddressBookEntryRejected" in it.reasons(), "an Event")
        assert len(it.server.events) <= 64


async def test_peers_of_before_stay_until_they_would_be_old(tmp_path: Path) -> None:
    (tmp_path / "static-nodes.json").write_text(json.dumps([BOB.entry().enode, ME.entry().enode]))
    async with bench(tmp_path) as it:
        await it.has("relay-1")
        await until(lambda: it.discovery.counts().synced, "a list")
        await stays(lambda: it.peers() == {"relay-1"}, "it stays", 0.2)
        it.now[0] += 1201.0
        await it.has()


async def test_a_damaged_file_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "static-nodes.json").write_text('[ ] "enode"')
    async with bench(tmp_path, before=lambda server: put(server, BOB)) as it:
        await until(lambda: it.path.read_text().startswith('[\n "enode'), "a good file")


async def test_a_pod_with_other_keys_than_before_is_an_event_and_takes_its_own_place(tmp_path: Path) -> None:
    anew = Pod("relay-1", CAROL.node, CAROL.onion)
    async with bench(tmp_path, before=lambda server: put(server, BOB)) as it:
        await it.has("relay-1")
        put(it.server, anew)
        await it.has("relay-2")
        await until(lambda: "AddressBookIdentityReplaced" in it.reasons(), "an Event")


async def test_two_pods_with_one_volume_are_an_event(tmp_path: Path) -> None:
    twin = Pod("relay-7", ME.node, ME.onion)
    async with bench(tmp_path, before=lambda server: put(server, twin, BOB)) as it:
        await it.has("relay-1")
        await until(lambda: "AddressBookConflict" in it.reasons(), "an Event")
        assert it.discovery.counts().conflicts == 1


async def test_the_sequence_goes_on_over_restarts_and_a_lost_file(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        await until(lambda: it.own(), "own entry")
    first = json.loads((tmp_path / "data" / "address-book.json").read_text())["sequence"]
    async with bench(tmp_path) as it:
        await until(lambda: it.own().get("sequence", 0) > first, "a higher sequence")
    (tmp_path / "data" / "address-book.json").write_text("[]")
    async with bench(tmp_path, before=lambda server: put(server, ME, sequence=5000)) as it:
        await until(lambda: it.own().get("sequence", 0) > 5000, "a sequence above the one that is there")


class OnionDialer:
    def __init__(self) -> None:
        self.up: set[str] = set()
        self.dialed: list[str] = []

    async def dial(self, to, factory):
        self.dialed.append(to.host)
        if to.host not in self.up:
            raise ConnectFailed("no such service")
        return asyncio.Transport(), factory()


async def test_an_onion_that_does_not_answer_is_not_passed_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(asyncio.Transport, "close", lambda _self: None)
    dialer = OnionDialer()
    dialer.up.add(BOB.onion.address)
    clock = [0.0]
    checks = OnionChecks(dialer, clock=lambda: clock[0])
    async with bench(tmp_path, before=lambda server: put(server, BOB, CAROL), checks=checks) as it:
        await it.has("relay-1")
        assert it.discovery.counts().entries["unreached"] == 1
        assert dialer.dialed.count(CAROL.onion.address) == 1, "not before its time"
        dialer.up.add(CAROL.onion.address)
        clock[0] += 121.0
        await it.has("relay-1", "relay-2")
        dialer.up.clear()
        clock[0] += 1000.0
        await stays(lambda: it.peers() == {"relay-1", "relay-2"}, "what was reached stays", 0.2)


async def test_the_daemons_record_comes_into_the_entry(tmp_path: Path, monkeypatch) -> None:
    answers: dict[str, object] = {}

    async def call(_path, method, params=(), **_):
        if not answers:
            raise LocalError("it does not run yet")
        return answers[method]

    monkeypatch.setattr("relay.kubernetes.joining.call", call)
    async with bench(tmp_path) as it:
        await until(lambda: it.own(), "own entry")
        assert "enr" not in it.own()
        bare = build_record(ME.node, 1, tcp=30303, fork_id=None)
        answers["admin_nodeInfo"] = {"enr": bare.to_text()}
        await stays(lambda: "enr" not in it.own(), "nothing before the service is published", 0.1)
        record = build_record(ME.node, 2, tcp=30303, onion3=ME.onion.address, fork_id=None)
        answers["admin_nodeInfo"] = {"enr": record.to_text()}
        await until(lambda: it.own().get("enr") == record.to_text(), "the record")
        strange = build_record(BOB.node, 2, tcp=30303, onion3=ME.onion.address, fork_id=None)
        answers["admin_nodeInfo"] = {"enr": strange.to_text()}
        await until(lambda: "DaemonIdentity" in it.reasons(), "an Event: other keys")


async def test_peers_are_handed_to_a_daemon_that_follows_no_file(tmp_path: Path, monkeypatch) -> None:
    given: list[str] = []

    async def call(_path, method, params=(), **_):
        if method == "admin_addPeer":
            given.extend(params)
            return True
        raise LocalError("not now")

    monkeypatch.setattr("relay.kubernetes.joining.call", call)
    async with bench(tmp_path, before=lambda server: put(server, BOB), add_peers=True) as it:
        await until(lambda: given == [BOB.entry().enode], "admin_addPeer")
        put(it.server, BOB, sequence=2)
        await stays(lambda: len(given) == 1, "once", 0.2)


async def test_a_joined_cluster_is_in_the_file_too(tmp_path: Path) -> None:
    tries = []

    async def join(url: str) -> str:
        tries.append(url)
        if len(tries) < 3:
            raise LocalError("not up yet")
        return CAROL.entry().enode

    async with bench(tmp_path, join=join, joins=("http://x.onion",)) as it:
        await it.has("relay-2")


async def test_a_list_of_all_clusters_may_name_this_relay_too(tmp_path: Path) -> None:
    nodes = {"http://own.onion": ME, "http://x.onion": CAROL}
    asked = []

    async def join(url: str) -> str:
        asked.append(url)
        return nodes[url].entry().enode

    async with bench(tmp_path, join=join, joins=tuple(nodes)) as it:
        await it.has("relay-2")
        await stays(lambda: it.peers() == {"relay-2"}, "this relay is no peer of its own", 0.3)
        assert asked.count("http://own.onion") == 1


# -- one object a pod -------------------------------------------------------------------------------------

OBJECTS = BookOptions(mode=BookMode.OBJECTS)


def put_lease(server: KubernetesServer, who: Pod, sequence: int = 1) -> None:
    metadata = {
        "name": f"{BOOK}-{who.name}", "namespace": NAMESPACE, "labels": {"pyrelay/address-book": BOOK},
        "annotations": {"pyrelay/entry": who.text(sequence)},
    }  # fmt: skip
    server._store("MODIFIED", "leases", {"metadata": metadata, "spec": {"holderIdentity": who.name}})


async def test_an_object_a_pod_with_a_line_for_people(tmp_path: Path) -> None:
    async with bench(tmp_path, book=OBJECTS, before=lambda server: put_lease(server, BOB)) as it:
        await it.has("relay-1")
        await until(lambda: it.own(), "a line in the map")
        assert it.own()["summary"] == f"lease/{BOOK}-relay-0"
        assert it.own()["onion"] == ME.onion.address
        stored = it.server.objects["leases", f"{BOOK}-relay-0"]
        assert parse_entry(stored["metadata"]["annotations"]["pyrelay/entry"], ME.place, CLUSTER_KEY)
        put_lease(it.server, CAROL)
        await it.has("relay-1", "relay-2")
        it.server.delete("leases", f"{BOOK}-relay-0")
        await until(lambda: ("leases", f"{BOOK}-relay-0") in it.server.objects, "the Lease again")
        assert it.server.asked["patch", "configmaps"] == 1


async def test_many_pods_take_objects_by_themselves_and_few_go_back(tmp_path: Path) -> None:
    auto = BookOptions(mode=BookMode.AUTO, objects_from=2, heartbeat=0.1, stale_after=1200.0)
    async with bench(tmp_path, book=auto, before=lambda server: put(server, BOB)) as it:
        await until(lambda: "signatures" in it.own(), "its entry in the map")
        put(it.server, CAROL)
        await until(lambda: ("leases", f"{BOOK}-relay-0") in it.server.objects, "a Lease")
        await until(lambda: "summary" in it.own(), "a line for people")
        assert it.discovery.counts().objects
        it.server.put({ME.name: it.server.data()[ME.name]})
        it.now[0] += 1300.0
        await until(lambda: "signatures" in it.own(), "its entry in the map again")


async def test_a_new_pod_of_many_leaves_the_map_alone_from_its_first_entry_on(tmp_path: Path) -> None:
    auto = BookOptions(mode=BookMode.AUTO, objects_from=1, stale_after=1200.0)
    async with bench(tmp_path, book=auto, before=lambda server: put(server, BOB, CAROL)) as it:
        await until(lambda: it.own(), "a line for people")
        written = [body["data"][ME.name] for what, _, body in it.server.requests if what == "configmaps"]
        assert written
        assert all(text.startswith('{"summary"') for text in written)


async def test_a_map_that_takes_nothing_is_left_for_an_object_until_it_does(tmp_path: Path) -> None:
    auto = BookOptions(mode=BookMode.AUTO, heartbeat=0.1, stale_after=1200.0)
    full = status(422, "data: Too long: must have at most 1048576 bytes")

    def fill(server: KubernetesServer) -> None:
        server.always["patch", "configmaps"] = full

    async with bench(tmp_path, book=auto, before=fill) as it:
        await until(lambda: ("leases", f"{BOOK}-relay-0") in it.server.objects, "a Lease")
        await until(lambda: "AddressBookRefused" in it.reasons(), "an Event")
        assert it.discovery.publisher.written >= 1
        put_lease(it.server, BOB)
        await it.has("relay-1")
        it.server.always["patch", "leases"] = status(422, "not this either")
        before = it.discovery.publisher.failed
        await until(lambda: it.discovery.publisher.failed >= before + 2, "neither takes it, and it goes on")
        it.server.always.clear()
        await until(lambda: "signatures" in it.own(), "its entry in the map")


async def test_a_map_that_many_write_at_once_is_not_asked_again_and_again(tmp_path: Path) -> None:
    def crowd(server: KubernetesServer) -> None:
        server.always["patch", "configmaps"] = status(409, "the object has been modified")

    async with bench(tmp_path, book=BookOptions(mode=BookMode.AUTO), before=crowd) as it:
        await until(lambda: ("leases", f"{BOOK}-relay-0") in it.server.objects, "a Lease")
        await until(lambda: it.discovery.publisher.written == 1, "it is content")
        assert it.server.asked["patch", "configmaps"] == 1
        assert not it.reasons(), "nothing is wrong"


async def test_a_map_that_is_slow_to_write_is_left_for_an_object(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(publisher, "MAP_PATIENCE", 0.2)
    waiting = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await waiting.wait()
        return web.Response(status=503)

    def crowd(server: KubernetesServer) -> None:
        server.always["patch", "configmaps"] = slow

    async with bench(tmp_path, book=BookOptions(mode=BookMode.AUTO), before=crowd) as it:
        await until(lambda: ("leases", f"{BOOK}-relay-0") in it.server.objects, "a Lease")
        assert it.server.asked["patch", "configmaps"] == 1
        waiting.set()


async def test_a_large_book_has_no_lines_for_people(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("relay.kubernetes.publisher.MOST_LINES", 1)
    auto = BookOptions(mode=BookMode.AUTO, objects_from=1, stale_after=1200.0)
    async with bench(tmp_path, book=auto, before=lambda server: put(server, BOB, CAROL)) as it:
        await until(lambda: ("leases", f"{BOOK}-relay-0") in it.server.objects, "a Lease")
        await stays(lambda: it.server.asked["patch", "configmaps"] == 0, "the map is left alone", 0.2)


async def test_auto_without_the_right_to_leases_stays_with_the_map(tmp_path: Path) -> None:
    def forbid(server: KubernetesServer) -> None:
        put(server, BOB, CAROL)
        for verb in ("list", "watch", "patch"):
            server.always[verb, "leases"] = status(403, "forbidden")

    auto = BookOptions(mode=BookMode.AUTO, objects_from=1, heartbeat=0.1, stale_after=1200.0)
    async with bench(tmp_path, book=auto, before=forbid) as it:
        await it.has("relay-1", "relay-2")
        await until(lambda: "signatures" in it.own(), "its entry in the map")
        await until(lambda: it.discovery.counts().synced, "the map is enough")
        await until(lambda: it.server.asked["patch", "leases"] == 1, "a try")
        written = it.discovery.publisher.written
        await until(lambda: it.discovery.publisher.written > written + 1, "more heartbeats")
        assert it.server.asked["patch", "leases"] == 1
        assert "AddressBookForbidden" not in it.reasons()
