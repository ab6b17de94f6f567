"""What a real cluster can do to relays: rights that lack, servers that fail, hands that edit, lost volumes.

docs/operations.md has a table of them. Whatever happens, the file that the daemon follows keeps its peers.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from relay.kubernetes.entry import parse_entry
from relay.kubernetes.failures import ApiFailed, Trouble
from relay.kubernetes.following import BackOff
from relay.kubernetes.options import BookMode, BookOptions
from relay.kubernetes.prune import prune
from relay.kubernetes.publisher import Publisher
from tests.aids.kube_apiserver import ApiServer, api_server
from tests.aids.kube_pods import BASE, PRUNE, RunningPod, api_of, install, make_pods, real_seams
from tests.aids.kube_sidecars import (
    BOOK,
    LEASES,
    MAPS,
    NAMESPACE,
    Sidecar,
    clear,
    events,
    met,
    running,
    stored,
    told,
)
from tests.aids.kube_wire import Wire, wire
from tests.aids.kubernetes import CLUSTER_KEY, Pod, pod
from tests.aids.until import stays, until

NAMES = ["relay-0", "relay-1", "relay-2"]
MERGE = {"Content-Type": "application/merge-patch+json"}
YEAR = 365 * 86400.0


@pytest.fixture
def book(installed: ApiServer) -> ApiServer:
    """An empty book, and no pods of before."""
    clear(installed)
    return installed


def sidecars_of(server: ApiServer, folder: Path, *names: str, **more: float) -> list[Sidecar]:
    return [Sidecar(it, **more) for it in make_pods(server, folder, NAMESPACE, list(names))]


def edit(server: ApiServer, data: dict[str, str | None]) -> None:
    with server.admin() as admin:
        admin.patch(MAPS, json={"data": data}, headers=MERGE).raise_for_status()


# -- rights ---------------------------------------------------------------------------------------------


@pytest.fixture
def rights(book: ApiServer):
    """Takes a verb on the map out of the relays' Role; puts all back at the end."""
    whole = next(
        each
        for each in yaml.safe_load_all((BASE / "rbac.yaml").read_text())
        if each["kind"] == "Role" and each["metadata"]["name"] == "tor-peer-discovery"
    )

    def without(verb: str) -> None:
        role = json.loads(json.dumps(whole))
        role["rules"][0]["verbs"].remove(verb)
        book.kubectl("replace", "-f", "-", text=json.dumps(role))

    def give_back() -> None:
        book.kubectl("replace", "-f", "-", text=json.dumps(whole))

    yield without, give_back
    give_back()


@pytest.mark.parametrize("verb", ["list", "watch", "patch"])
async def test_a_verb_that_the_role_lacks_is_named_by_an_event(
    book: ApiServer, rights, tmp_path: Path, verb: str
) -> None:
    without, give_back = rights
    found = sidecars_of(book, tmp_path, "relay-0", "relay-1")
    async with running(*found):
        await met(*found)
        before = [each.peers() for each in found]
        without(verb)
        with book.admin() as admin:  # what is not there any more, they write again
            admin.delete(MAPS).raise_for_status()
        with book.gone():  # a watch that runs goes on without rights: they are asked for at its beginning
            pass
        await told(book, "AddressBookForbidden", f"lacks the verb {verb} on configmaps named {BOOK}")
        assert [each.peers() for each in found] == before
        give_back()
        await until(lambda: set(stored(book)) == {"relay-0", "relay-1"}, "their entries", 120.0)
        await until(lambda: all(each.discovery.counts().synced for each in found), "they follow", 120.0)
        assert [each.peers() for each in found] == before


# -- the server -----------------------------------------------------------------------------------------


async def test_an_api_server_that_is_gone_for_hours_costs_no_peer(book: ApiServer, tmp_path: Path) -> None:
    """It ends; the relays' clocks go on by three hours; it comes back with what etcd has."""
    found = sidecars_of(book, tmp_path, *NAMES)
    async with running(*found):
        await met(*found)
        before = [each.peers() for each in found]
        with book.gone():
            await until(lambda: not any(each.discovery.counts().synced for each in found), "they notice")
            for each in found:
                each.clocks.monotonic += 3 * 3600.0
            await stays(lambda: [each.peers() for each in found] == before, "peers stay", 3.0)
        await until(lambda: all(each.discovery.counts().synced for each in found), "they follow", 120.0)
        await met(*found)
        await told(book, "AddressBookUnavailable", "can not be reached")


@pytest.fixture(scope="module")
def busy(installed: ApiServer, tmp_path_factory: pytest.TempPathFactory):
    """A server that serves one writer at a time and sends others away; it gives up on etcd after 4 s."""
    flags = (
        "--enable-priority-and-fairness=false", "--max-mutating-requests-inflight=1",
        "--max-requests-inflight=2", "--request-timeout=4s",
    )  # fmt: skip
    with api_server(installed.binaries, tmp_path_factory.mktemp("busy"), *flags) as found:
        install(found, NAMESPACE)
        yield found


def publisher(api, it: RunningPod) -> Publisher:
    seams = real_seams()
    book = BookOptions(mode=BookMode.CONFIGMAP)
    return Publisher(api, it.own, it.relay.identity, book, wall=seams.wall, random=seams.random)


async def test_writers_that_are_sent_away_come_back_when_they_are_told_to(
    busy: ApiServer, tmp_path: Path
) -> None:
    """429 by a real server, with its Retry-After."""
    clear(busy)
    pods = make_pods(busy, tmp_path, NAMESPACE, [f"relay-{number}" for number in range(24)])
    sent_away: list[float | None] = []

    async def write(api, it: RunningPod) -> None:
        its, backoff = publisher(api, it), BackOff(random.random)
        while not its.written:
            try:
                await its.publish()
            except ApiFailed as error:
                if error.trouble not in (Trouble.THROTTLED, Trouble.CONFLICT):
                    raise
                if error.trouble is Trouble.THROTTLED:
                    sent_away.append(error.retry_after)
                await asyncio.sleep(backoff.pause(error))

    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(api_of(it)) for it in pods]
        async with asyncio.TaskGroup() as tasks:
            for api, it in zip(apis, pods, strict=True):
                tasks.create_task(write(api, it))
    assert set(stored(busy)) == {it.relay.name for it in pods}
    assert sent_away, "the server was busy"
    assert set(sent_away) == {1.0}


async def test_a_server_without_its_etcd_is_waited_for(busy: ApiServer, tmp_path: Path) -> None:
    """5xx by a real server."""
    clear(busy)
    found = sidecars_of(busy, tmp_path, "relay-0", "relay-1")
    async with running(*found):
        await met(*found)
        before = [each.peers() for each in found]
        with busy.paused("etcd"):
            async with api_of(found[0].pod) as api:
                with pytest.raises(ApiFailed) as caught:
                    await publisher(api, found[0].pod).publish()
            assert caught.value.trouble is Trouble.SERVER, caught.value
            assert f"patch configmaps/{BOOK} in namespace {NAMESPACE}: status 5" in str(caught.value)
            assert [each.peers() for each in found] == before
        await until(lambda: all(each.discovery.counts().synced for each in found), "they follow", 120.0)
        await met(*found)


async def behind(stack: AsyncExitStack, server: ApiServer, found: list[Sidecar]) -> Wire:
    """Put a wire that can fail between the server and sidecars that do not run yet."""
    line = await stack.enter_async_context(wire(server))
    for each in found:
        config = each.pod.config
        config.write_text(config.read_text().replace(server.url, line.url))
    return line


async def test_half_an_answer_costs_no_peer(book: ApiServer, tmp_path: Path) -> None:
    found = sidecars_of(book, tmp_path, *NAMES)
    async with AsyncExitStack() as stack:
        line = await behind(stack, book, found)
        await stack.enter_async_context(running(*found))
        await met(*found)
        before = [each.peers() for each in found]
        cuts = line.cuts
        line.cut_after(5000)  # behind the handshake of TLS, amid an answer
        await until(lambda: line.cuts >= cuts + 9, lambda: f"{line.cuts} cuts", 120.0)
        assert [each.peers() for each in found] == before
        line.cut_after(None)
        (late,) = sidecars_of(book, tmp_path, "relay-3")
        await stack.enter_async_context(running(late))
        await met(*found, late)


async def test_answers_that_trickle_cost_no_peer(book: ApiServer, tmp_path: Path) -> None:
    found = sidecars_of(book, tmp_path, "relay-0", "relay-1")
    async with AsyncExitStack() as stack:
        line = await behind(stack, book, found)
        await stack.enter_async_context(running(*found))
        await met(*found)
        before = [each.peers() for each in found]
        line.slow_down(40)
        line.hang_up()
        await until(lambda: not any(each.discovery.counts().synced for each in found), "they notice")
        for each in found:
            each.clocks.monotonic += 3600.0
        await stays(lambda: [each.peers() for each in found] == before, "peers stay", 3.0)
        line.slow_down(None)
        await until(lambda: all(each.discovery.counts().synced for each in found), "they follow", 120.0)
        await met(*found)


# -- the book -------------------------------------------------------------------------------------------


async def test_a_map_that_is_full_sends_relays_to_objects_of_their_own(
    book: ApiServer, tmp_path: Path
) -> None:
    """Somebody filled it to the API server's limit of 1 MiB before the first relay came."""
    body = {"metadata": {"name": BOOK}, "data": {"junk": "x" * ((1 << 20) - 100)}}
    with book.admin() as admin:
        admin.post(MAPS.rpartition("/")[0], json=body).raise_for_status()
    found = sidecars_of(book, tmp_path, *NAMES, heartbeat=10.0, stale_after=600.0)
    async with running(*found):
        await met(*found)
        with book.admin() as admin:
            leases = {each["metadata"]["name"] for each in admin.get(LEASES).json()["items"]}
        assert leases == {f"{BOOK}-{name}" for name in NAMES}
        await told(book, "AddressBookRefused", "Too long")
        assert set(stored(book)) == {"junk"}
        with book.admin() as admin:
            admin.delete(MAPS).raise_for_status()
        await until(lambda: set(stored(book)) == set(NAMES), lambda: f"{set(stored(book))} in the map", 120.0)
        await met(*found)


async def test_a_pod_that_copies_anothers_entry_gains_nothing(book: ApiServer, tmp_path: Path) -> None:
    """The policy lets it: the key is its own. Readers do not."""
    first, second, thief = sidecars_of(book, tmp_path, *NAMES)
    async with running(first, second):
        await met(first, second)
        async with api_of(thief.pod) as api:
            await api.apply_map(BOOK, "relay-2", {"relay-2": stored(book)["relay-0"]})
        await told(book, "AddressBookEntryRejected", "entry of pod relay-2")
        assert second.discovery.counts().entries["rejected"] == 1
        assert second.peers() == [first.enode]


async def test_clocks_that_are_years_off_change_nothing(book: ApiServer, tmp_path: Path) -> None:
    found = sidecars_of(book, tmp_path, *NAMES)
    found[0].clocks.wall, found[1].clocks.wall = 5 * YEAR, -5 * YEAR
    (job,) = make_pods(book, tmp_path, NAMESPACE, ["prune-1"], PRUNE)
    async with running(*found):
        await met(*found)
        async with api_of(job) as api:
            assert (await prune(api, BOOK, 600.0)).kept == 3
        edit(book, {"relay-9": "nonsense"})
        await told(book, "AddressBookEntryRejected", "relay-9")
        stamps = {json.loads(stored(book)[name])["timestamp"][:4] for name in NAMES}
        assert len(stamps) == 3, "each tells its own"


# -- volumes --------------------------------------------------------------------------------------------


def lose_volume(it: RunningPod) -> None:
    """The pod comes back by its name, and with keys that `identity` made anew."""
    shutil.rmtree(it.own.datadir)
    other = pod(f"{it.relay.name} anew")
    it.relay = Pod(it.relay.name, other.node, other.onion)
    it.relay.volume(it.own.datadir)


async def test_a_volume_that_is_lost_is_a_new_relay_in_the_old_ones_place(
    book: ApiServer, tmp_path: Path
) -> None:
    first, second = sidecars_of(book, tmp_path, "relay-0", "relay-1")
    async with running(first):
        async with running(second):
            await met(first, second)
        old = second.enode
        lose_volume(second.pod)
        again = Sidecar(second.pod)
        again.path.unlink()
        async with running(again):
            await met(first, again)
            assert old not in first.peers()
            await told(book, "AddressBookIdentityReplaced", "pod relay-1 has other keys")
            text = stored(book)["relay-1"]
            assert parse_entry(text, again.pod.own.place, CLUSTER_KEY).onion == again.pod.relay.onion.address


async def test_a_copy_of_a_volume_is_told_by_both(book: ApiServer, tmp_path: Path) -> None:
    first, second, copy = sidecars_of(book, tmp_path, *NAMES)
    shutil.rmtree(copy.pod.own.datadir)
    copy.pod.relay = Pod("relay-2", first.pod.relay.node, first.pod.relay.onion)
    copy.pod.relay.volume(copy.pod.own.datadir)
    copy.identity = copy.pod.relay.identity
    async with running(first, second, copy):
        await told(
            book, "AddressBookConflict", "pods relay-", "have the same keys", "Each relay needs its own"
        )
        await until(lambda: len(second.peers()) == 1, "the third has them once")
        assert second.peers() == [first.enode]
        await until(lambda: first.peers() == copy.peers() == [second.enode], "neither is its own peer", 60.0)
    assert "AddressBookConflict" in events(book)
