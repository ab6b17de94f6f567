"""The address book on a real kube-apiserver: writers at once, rights, policies, watch and 410."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx2
import pytest

from relay.kubernetes.api import Api
from relay.kubernetes.entry import parse_entry
from relay.kubernetes.failures import ApiFailed, Trouble
from relay.kubernetes.following import BackOff, Follower, Source
from relay.kubernetes.options import BookMode, BookOptions
from relay.kubernetes.prune import prune
from relay.kubernetes.publisher import Publisher
from tests.aids.kube_apiserver import ApiServer
from tests.aids.kube_pods import PRUNE, RunningPod, api_of, make_pods, real_seams, token
from tests.aids.kube_sidecars import (
    BOOK,
    LEASES,
    MAPS,
    NAMESPACE,
    Sidecar,
    clear,
    met,
    running,
    stored,
    told,
)
from tests.aids.kubernetes import CLUSTER_KEY
from tests.aids.until import until

RELAY = "gethrelay-tor-discovery"
BASE = Path(__file__).parents[2] / "deployment" / "kubernetes" / "base"


@pytest.fixture
def book(installed: ApiServer):
    """An empty book, and no pods of before."""
    clear(installed)
    return installed


def publisher(api: Api, it: RunningPod, mode: BookMode = BookMode.CONFIGMAP) -> Publisher:
    seams = real_seams()
    return Publisher(
        api, it.own, it.relay.identity, BookOptions(mode=mode), wall=seams.wall, random=seams.random
    )


async def refused(call, trouble: Trouble, *words: str) -> ApiFailed:
    with pytest.raises(ApiFailed) as caught:
        await call
    assert caught.value.trouble is trouble, str(caught.value)
    for each in words:
        assert each in str(caught.value)
    return caught.value


def merge_as(server: ApiServer, account: str, change: object, pod: str = "") -> httpx2.Response:
    """Try a merge patch of the book, which no program of ours sends, by the rights of an account."""
    headers = {
        "Content-Type": "application/merge-patch+json",
        "Impersonate-User": f"system:serviceaccount:{NAMESPACE}:{account}",
    }
    if pod:
        headers["Impersonate-Extra-authentication.kubernetes.io%2Fpod-name"] = pod
    with server.admin() as admin:
        return admin.patch(MAPS, json=change, headers=headers)


async def test_fifty_writers_at_once_lose_nothing(book: ApiServer, tmp_path: Path) -> None:
    """Each starts on an absent map, all at the same moment."""
    pods = make_pods(book, tmp_path, NAMESPACE, [f"relay-{number}" for number in range(50)])
    failures: Counter[str] = Counter()

    async def write(api: Api, it: RunningPod) -> None:
        its, backoff = publisher(api, it), BackOff(random.random)
        while not its.written:  # what the sidecar does: again, after a pause
            try:
                await its.publish()
            except ApiFailed as error:
                if error.trouble not in (Trouble.CONFLICT, Trouble.THROTTLED, Trouble.SERVER):
                    raise
                await asyncio.sleep(backoff.pause(error))
        failures.update(tries=its.failed, written=its.written)

    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(api_of(it)) for it in pods]
        async with asyncio.TaskGroup() as tasks:
            for api, it in zip(apis, pods, strict=True):
                tasks.create_task(write(api, it))
    found = stored(book)
    assert set(found) == {it.relay.name for it in pods}
    for it in pods:
        assert parse_entry(found[it.relay.name], it.own.place, CLUSTER_KEY).onion == it.relay.onion.address
    with book.admin() as admin:
        managers = {each["manager"] for each in admin.get(MAPS).json()["metadata"]["managedFields"]}
    assert managers == set(found), "one field manager a pod"
    print(f"50 writers at once: {dict(failures)}")


async def test_a_pod_writes_its_own_key_and_no_other(book: ApiServer, tmp_path: Path) -> None:
    one, two = make_pods(book, tmp_path, NAMESPACE, ["relay-0", "relay-1"])
    async with api_of(one) as first, api_of(two) as second:
        await publisher(first, one).publish()
        await publisher(second, two).publish()
        own_only = "may write its own key of the address book only"
        await refused(second.apply_map(BOOK, "relay-0", {"relay-0": "x"}), Trouble.REFUSED, own_only)
        await refused(
            second.apply_map(BOOK, "relay-1", {"relay-1": "x", "relay-9": "y"}), Trouble.REFUSED, own_only
        )
        old = stored(book)["relay-0"]
        await refused(second.remove_key(BOOK, "relay-0", old, "relay-1"), Trouble.REFUSED, "may not remove")
        # By the owner's name as field manager, and without any key: the owner's would be dropped.
        await refused(second.apply_map(BOOK, "relay-0", {}), Trouble.REFUSED, "may not remove")
        await refused(
            second.apply_map(BOOK, "relay-1", {"relay-1": "x" * 5000}), Trouble.REFUSED, "4096 characters"
        )
        assert stored(book)["relay-0"] == old


async def test_a_token_that_is_bound_to_no_pod_writes_nothing(book: ApiServer, tmp_path: Path) -> None:
    (one,) = make_pods(book, tmp_path, NAMESPACE, ["relay-0"])
    with book.admin() as admin:
        (one.account / "token").write_text(token(admin, NAMESPACE, "gethrelay-tor-discovery"))
    async with api_of(one) as api:
        await refused(publisher(api, one).publish(), Trouble.REFUSED, "bound to a pod")


async def test_what_a_relay_may_not_do_is_told_with_verb_and_object(book: ApiServer, tmp_path: Path) -> None:
    (one,) = make_pods(book, tmp_path, NAMESPACE, ["relay-0"])
    async with api_of(one) as api:
        await refused(
            api.apply_map("another-map", "relay-0", {"relay-0": "x"}), Trouble.FORBIDDEN,
            "lacks the verb patch on configmaps named another-map",
        )  # fmt: skip
        await refused(api.list_map("another-map"), Trouble.FORBIDDEN, "lacks the verb list on configmaps")
        await refused(api.delete_lease("x"), Trouble.FORBIDDEN, "lacks the verb delete on leases named x")
    for words in (
        ("get", "secrets"), ("list", "pods"), ("get", "pods/log"),
        ("delete", "configmaps/tor-peer-addresses"),
        ("list", "configmaps"), ("get", "configmaps/kube-root-ca.crt"), ("create", "pods"),
        ("patch", "events"),
    ):  # fmt: skip
        who = f"system:serviceaccount:{NAMESPACE}:gethrelay-tor-discovery"
        asked = book.kubectl("auth", "can-i", *words, "-n", NAMESPACE, "--as", who, check=False)
        assert asked.stdout.strip() == "no", words


async def test_a_pod_can_not_freeze_or_bury_the_book(book: ApiServer, tmp_path: Path) -> None:
    (one,) = make_pods(book, tmp_path, NAMESPACE, ["relay-0"])
    async with api_of(one) as api:
        await publisher(api, one).publish()
    bad: list[dict[str, object]] = [
        {"immutable": True},
        {"binaryData": {"x": "AAAA"}},
        {"metadata": {"finalizers": ["a.b/c"]}},
        {
            "metadata": {
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "relay-0", "uid": one.uid}]
            }
        },
    ]
    for change in bad:
        answer = merge_as(book, RELAY, change, "relay-0")
        assert answer.status_code == 422, (change, answer.text)
        assert "freeze or delete" in answer.text


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"managedFields": [{}]}},
        {"metadata": {"annotations": {"a.b/c": "x" * 5000}}},
        {"metadata": {"labels": {"a.b/c": "x"}}},
    ],
    ids=["managers", "annotation", "label"],
)
async def test_a_pod_changes_nothing_of_the_book_but_data(
    book: ApiServer, tmp_path: Path, change: dict[str, object]
) -> None:
    """The prune job goes by managedFields: who could reset them had the entries of others removed."""
    one, two = make_pods(book, tmp_path, NAMESPACE, ["relay-0", "relay-1"])
    async with api_of(one) as first, api_of(two) as second:
        await publisher(first, one).publish()
        await publisher(second, two).publish()
        answer = merge_as(book, RELAY, change, "relay-0")
        assert answer.status_code == 422, answer.text
        assert "nothing else of it" in answer.text
        await publisher(second, two).publish()


async def test_the_prune_job_can_not_freeze_or_bury_the_book(book: ApiServer, tmp_path: Path) -> None:
    (one,) = make_pods(book, tmp_path, NAMESPACE, ["relay-0"])
    async with api_of(one) as api:
        await publisher(api, one).publish()
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "relay-0", "uid": one.uid}
    changes: list[dict[str, object]] = [{"immutable": True}, {"metadata": {"ownerReferences": [owner]}}]
    for change in changes:
        answer = merge_as(book, PRUNE, change)
        assert answer.status_code == 422, (change, answer.text)
        assert "freeze or delete" in answer.text


async def test_a_lease_of_its_own_and_no_other(book: ApiServer, tmp_path: Path) -> None:
    one, two = make_pods(book, tmp_path, NAMESPACE, ["relay-0", "relay-1"])
    async with api_of(one) as first, api_of(two) as second:
        await publisher(first, one, BookMode.OBJECTS).publish()
        found = (await first.list_leases(BOOK)).items
        assert [parse_entry(each.data["relay-0"], one.own.place, CLUSTER_KEY).sequence for each in found] == [
            1
        ]
        assert json.loads(stored(book)["relay-0"])["summary"] == f"lease/{BOOK}-relay-0"
        call = second.apply_lease(BOOK, "relay-0", one.uid, "x", {})
        await refused(call, Trouble.REFUSED, "may write the Lease tor-peer-addresses-relay-1 only")
    with book.admin() as admin:
        owner = admin.get(f"{LEASES}/{BOOK}-relay-0").json()["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["uid"]) == ("Pod", one.uid)


async def test_a_key_that_was_edited_by_hand_is_taken_back(book: ApiServer, tmp_path: Path) -> None:
    (one,) = make_pods(book, tmp_path, NAMESPACE, ["relay-0"])
    async with api_of(one) as api:
        its = publisher(api, one)
        await its.publish()
        with book.admin() as admin:
            admin.patch(
                MAPS,
                json={"data": {"relay-0": "by hand"}},
                headers={"Content-Type": "application/merge-patch+json"},
            ).raise_for_status()
        assert stored(book)["relay-0"] == "by hand"
        await its.publish()
        assert parse_entry(stored(book)["relay-0"], one.own.place, CLUSTER_KEY).sequence == 2


async def test_prune_takes_out_by_the_servers_own_clock(book: ApiServer, tmp_path: Path) -> None:
    one, two = make_pods(book, tmp_path, NAMESPACE, ["relay-0", "relay-1"])
    (job,) = make_pods(book, tmp_path, NAMESPACE, ["prune-1"], PRUNE)
    async with api_of(one) as first, api_of(two) as second, api_of(job) as prunes:
        await publisher(first, one).publish()
        await publisher(second, two).publish()
        assert (await prune(prunes, BOOK, 3600.0)).kept == 2
        # managedFields count whole seconds: renew one of them until they differ.
        renewing = publisher(second, two)

        async def older() -> bool:
            await renewing.publish()
            times = (await prunes.read_map(BOOK)).managers
            return (times["relay-1"] - times["relay-0"]).total_seconds() >= 3

        await until(older, "three seconds between them", deadline=60.0, every=0.3)
        done = await prune(prunes, BOOK, 2.0)
        assert done.removed == ("relay-0",)
        assert set(stored(book)) == {"relay-1"}
        # It may remove, and not write; nor may it read anything else.
        await refused(
            prunes.apply_map(BOOK, "prune", {"relay-1": "x"}),
            Trouble.REFUSED,
            "may remove entries, and write none",
        )
        await refused(prunes.list_map(BOOK), Trouble.FORBIDDEN)
        # A value that changed in that moment is left alone.
        with pytest.raises(ApiFailed) as caught:
            await prunes.remove_key(BOOK, "relay-1", "another value", "pyrelay-prune")
        assert caught.value.trouble is Trouble.REFUSED
        assert set(stored(book)) == {"relay-1"}
        await publisher(first, one).publish()
        assert set(stored(book)) == {"relay-0", "relay-1"}


# -- the sidecar ------------------------------------------------------------------------------------------


@pytest.fixture
async def sidecars(book: ApiServer, tmp_path: Path):
    names = ["relay-0", "relay-1", "relay-2"]
    found = [Sidecar(it) for it in make_pods(book, tmp_path, NAMESPACE, names)]
    async with running(*found):
        yield found


async def test_three_relays_find_each_other_and_a_deleted_book_is_rebuilt(
    book: ApiServer, sidecars: list[Sidecar]
) -> None:
    await met(*sidecars)
    with book.admin() as admin:
        admin.delete(MAPS).raise_for_status()
    await until(
        lambda: set(stored(book)) == {"relay-0", "relay-1", "relay-2"}, "all entries again", deadline=120.0
    )
    await met(*sidecars)
    await told(book, "AddressBookRebuilt")


async def test_nonsense_by_hand_harms_nobody(book: ApiServer, sidecars: list[Sidecar]) -> None:
    await met(*sidecars)
    with book.admin() as admin:
        data = {"relay-0": "nonsense", "relay-1": None, "stranger": "{}", "big": "x" * 500_000}
        admin.patch(
            MAPS, json={"data": data}, headers={"Content-Type": "application/merge-patch+json"}
        ).raise_for_status()

    def mended() -> bool:
        found = stored(book)
        return all(found.get(name, "").startswith("{") for name in ("relay-0", "relay-1", "relay-2"))

    await until(mended, "their entries again", deadline=120.0)
    await met(*sidecars)
    await until(lambda: sidecars[2].discovery.counts().entries["rejected"] == 2, "two that are not believed")


async def test_a_compacted_history_lists_again(book: ApiServer, tmp_path: Path) -> None:
    """410 by a real server: the version to watch from is gone from etcd."""
    one, two = make_pods(book, tmp_path, NAMESPACE, ["relay-0", "relay-1"])
    async with api_of(one) as first, api_of(two) as second:
        await publisher(first, one, BookMode.OBJECTS).publish()
        listed = await first.list_leases(BOOK)
        for _ in range(3):
            await publisher(second, two, BookMode.OBJECTS).publish()
        book.compact()

        async def follow() -> None:
            async for _ in first.watch_leases(BOOK, listed.version, 60):
                pass

        await refused(follow(), Trouble.GONE)
        follower_saw: list[str] = []
        follower = Follower(
            Source("objects", lambda: first.list_leases(BOOK), lambda _, n: first.watch_leases(BOOK, "1", n)),
            on_list=lambda found: follower_saw.append(",".join(sorted(each.name for each in found.items))),
            on_change=lambda _: None, on_sync=lambda _: None, on_failure=lambda _: None,
            random=lambda: 0.5, sleep=lambda _: asyncio.sleep(0.05),
        )  # fmt: skip
        following = asyncio.ensure_future(follower.run())
        await until(lambda: follower.ends["gone"] >= 2 and follower.lists >= 3, "it lists again each time")
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        assert set(follower_saw) == {f"{BOOK}-relay-0,{BOOK}-relay-1"}


async def test_an_api_server_that_stands_still_costs_no_peer(
    book: ApiServer, sidecars: list[Sidecar]
) -> None:
    await met(*sidecars)
    before = [each.peers() for each in sidecars]
    with book.paused():
        await asyncio.sleep(8)  # longer than the patience of 5 s for an answer
        assert [each.peers() for each in sidecars] == before
    for each in sidecars:
        each.discovery.publisher.set_record(None)
        each.discovery.publisher.renew()
    await until(
        lambda: all(each.discovery.counts().synced for each in sidecars), "they follow again", deadline=120.0
    )
    assert [each.peers() for each in sidecars] == before


async def test_a_deleted_pods_token_is_worth_nothing(book: ApiServer, tmp_path: Path) -> None:
    (one,) = make_pods(book, tmp_path, NAMESPACE, ["relay-0"])
    async with api_of(one) as api:
        await publisher(api, one).publish()
        with book.admin() as admin:
            admin.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/relay-0", params={"gracePeriodSeconds": 0})

        async def dead() -> bool:
            try:
                await publisher(api, one).publish()
            except ApiFailed as error:
                return error.trouble is Trouble.UNAUTHORIZED
            return False

        await until(dead, "the token is refused", deadline=60.0, every=0.3)


async def test_many_pods_go_over_to_objects(book: ApiServer, tmp_path: Path) -> None:
    names = [f"relay-{number}" for number in range(6)]
    found = [
        Sidecar(it, objects_from=4, heartbeat=10.0, stale_after=600.0)
        for it in make_pods(book, tmp_path, NAMESPACE, names)
    ]
    async with running(*found):
        await met(*found)
        await until(lambda: all(each.discovery.publisher.objects for each in found), "objects", deadline=90.0)
        await until(
            lambda: all("summary" in text for text in stored(book).values()) and len(stored(book)) == 6,
            "a line for people of each", deadline=60.0,
        )  # fmt: skip
        await met(*found)


async def test_the_containers_of_a_pod_by_kubelets_mount(book: ApiServer, tmp_path: Path) -> None:
    """The programs as a pod runs them: token, certificate and namespace by the mount, names by variables."""
    one, two = make_pods(book, tmp_path, NAMESPACE, ["relay-0", "relay-1"])
    key = tmp_path / "cluster-key"
    key.write_bytes(b"a secret of this cluster\n")

    async def program(it: RunningPod, action: str, *words: str) -> tuple[int, str]:
        host, _, port = book.url.removeprefix("https://").partition(":")
        env = {
            "PATH": os.environ["PATH"], "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port,
            "POD_NAME": it.relay.name, "POD_UID": it.uid, "HOME": str(tmp_path),
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relay.cli.main", "kubernetes", action, "--cluster", "lab",
            "--account", str(it.account), "--datadir", str(it.account.parent / "data"),
            "--cluster-key-file", str(key), "--log-format", "text", *words,
            env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    code, out = await program(one, "identity", "--service-dir", str(tmp_path / "tor"))
    assert code == 0, out
    assert "ConfigMap updated successfully" in out
    code, out = await program(two, "static-nodes")
    assert code == 0, out
    assert "Adding peer: relay-0 -> " in out
    assert "Built static-nodes.json with 1 peers" in out
    urls = json.loads((two.account.parent / "data" / "static-nodes.json").read_text())
    assert urls == [one.relay.entry().enode]
    with book.admin() as admin:
        admin.delete(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/gethrelay/rolebindings/tor-peer-discovery"
        )
    try:
        await until(lambda: _denied(book), "the rights are gone", deadline=60.0, every=0.3)
        code, out = await program(two, "static-nodes")
        assert code == 0, "a relay starts without rights, too"
        assert "lacks the verb patch on configmaps named tor-peer-addresses" in out
        assert json.loads((two.account.parent / "data" / "static-nodes.json").read_text()) == urls
    finally:
        book.kubectl("apply", "-f", str(BASE / "rbac.yaml"))
        await until(lambda: not _denied(book), "the rights are back", deadline=60.0, every=0.3)


def _denied(server: ApiServer) -> bool:
    who = f"system:serviceaccount:{NAMESPACE}:gethrelay-tor-discovery"
    words = ("auth", "can-i", "patch", f"configmaps/{BOOK}", "-n", NAMESPACE, "--as", who)
    return server.kubectl(*words, check=False).stdout.strip() == "no"
