"""The overlays on a real node, which runs pods of our images: `make e2e-kubernetes-node`.

PYRELAY_TEST_NODE: folder of the Kubernetes programs; PYRELAY_TEST_IMAGES: folder of the images' archives;
PYRELAY_TEST_NODE_LOG: where the run is told of. The tests of the sidecar overlay build on each other, in this
order.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.localnet.accounts import make_accounts, sign_transfer
from tests.aids.kube_node import PUBLIC, Node, lacks, node
from tests.aids.kube_node_plan import NODE_IP, PORT
from tests.aids.kube_node_relays import (
    BOOK,
    CANARY_PORT,
    NAMESPACE,
    ROOT,
    SET,
    Failed,
    Relays,
    Story,
    canary,
    hidden,
    tor_network,
    until,
)
from tests.aids.manifests import rendered

LOAD = "- other work of the machine in the meantime:"
ARCHIVES = ("pyrelay.tar", "tor.tar")


@pytest.fixture(scope="module")
def machine() -> Iterator[Node]:
    binaries, images = os.environ.get("PYRELAY_TEST_NODE"), os.environ.get("PYRELAY_TEST_IMAGES")
    if not binaries or not images:
        pytest.skip("make e2e-kubernetes-node builds a node and the images, and gives their folders")
    archives = [Path(images, each) for each in ARCHIVES]
    absent = [str(each) for each in archives if not each.exists()]
    why = f"no {absent[0]}" if absent else lacks(Path(binaries))
    if why:
        pytest.skip(f"NO POD RUNS HERE: {why}")
    with node(Path(binaries), archives) as found:
        yield found


@pytest.fixture(scope="module")
def relays(machine: Node) -> Iterator[Relays]:
    with tor_network(machine) as torrc:
        yield Relays(machine, torrc)


@pytest.fixture(scope="module")
def story(machine: Node, request: pytest.FixtureRequest) -> Iterator[Story]:
    found = Story(hidden(machine))
    version = json.loads(machine.kubectl("version", "-o", "json").stdout)["serverVersion"]["gitVersion"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    found.lines = [
        "# The relays on a real node",
        "",
        "What `make e2e-kubernetes-node` saw: written by the run, not by hand.",
        "",
        f"- Kubernetes {version}, one node: {os.cpu_count()} cores, {memory} GiB; containerd, runc, bridge"
        " CNI; network policies enforced by nftables (tests/aids/kube_policies.py)",
        "- Tor: a private network of three authorities and four relays, on an address that the pods reach;"
        " onion services are published and found in seconds there, on the public network in a minute",
        "- manifests: by `deploy.sh`, with `--torrc` for the private network and nothing else",
        LOAD,
    ]
    yield found
    target = os.environ.get("PYRELAY_TEST_NODE_LOG")
    if target and not request.session.testsfailed:
        least, most = min(found.loads), max(found.loads)
        found.lines[found.lines.index(LOAD)] = f"{LOAD} load average {least:.0f} to {most:.0f}"
        Path(target).write_text(found.text())


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __str__(self) -> str:
        return f"{time.monotonic() - self._began:.0f} s"


def transfer() -> str:
    """A signed transaction of mainnet, by an account of its own."""
    (account,) = make_accounts(1, os.urandom)
    raw = sign_transfer(account.key, chain_id=1, nonce=0, to=bytes(20), value=1, fee_cap=100 * 10**9)
    return "0x" + raw.hex()


def passes(relays: Relays, pods: list[str]) -> str:
    """Have a transaction go from the first relay to all others; say how long it took."""
    clock = Clock()
    digest = relays.call(pods[0], "eth_sendRawTransaction", transfer())
    for pod in pods[1:]:
        until(
            f"the transaction at {pod}",
            lambda pod=pod: digest in json.dumps(relays.call(pod, "txpool_content")),
        )
    return str(clock)


# -- the sidecar overlay -------------------------------------------------------------------------------------


def test_three_replicas_start_cold_and_meet(relays: Relays, story: Story) -> None:
    story.title("Three replicas, cold, in parallel")
    clock = Clock()
    relays.deploy("apply", "--no-verify")
    story.tell(f"`deploy.sh apply` until all three pods were ready: {clock}")
    until("three relays that are each other's peers", lambda: relays.all_joined(3))
    story.tell(f"until each had both others as peers, over onion services: {clock}")
    pods = json.loads(relays.k("get", "pods", "-l", "app.kubernetes.io/name=pyrelay", "-o", "json"))["items"]
    states = [
        state
        for pod in pods
        for state in [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
    ]
    assert [each["name"] for each in states if each["restartCount"]] == []
    story.tell("no container was restarted")
    assert not any(network != "onion" for pod in relays.pods() for network in networks(relays, pod))


def networks(relays: Relays, pod: str) -> set[str]:
    """Networks that a relay's peers came by, from its log."""
    lines = [json.loads(each) for each in relays.log(pod, "pyrelay").splitlines() if each.startswith("{")]
    return {each["network"] for each in lines if each["event"] == "peer joined"}


def test_what_runs_is_what_was_rendered(relays: Relays, story: Story) -> None:
    applied = {named(each): each for each in unhashed(relays.would_apply("sidecar"))}
    wanted = {named(each): each for each in unhashed(rendered("sidecar"))}
    assert applied.keys() == wanted.keys()
    edited = sorted(name for name in wanted if applied[name] != wanted[name])
    assert edited == ["ConfigMap/torrc", "NetworkPolicy/api-server"]
    stored = {named(each): each for each in unhashed(list(relays.objects().values()))}
    kinds = (
        "ConfigMap",
        "NetworkPolicy",
        "Role",
        "RoleBinding",
        "Service",
    )  # the others get defaults in lists
    kept = [name for name, each in applied.items() if each["kind"] in kinds and contains(stored[name], each)]
    assert kept == [name for name, each in applied.items() if each["kind"] in kinds]
    story.tell(f"of {len(wanted)} rendered objects what was applied differs in two: {' and '.join(edited)}")


def unhashed(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same without the end of a generated ConfigMap's name."""
    found: list[dict[str, Any]] = json.loads(re.sub(r"torrc-[a-z0-9]{10}", "torrc", json.dumps(objects)))
    return found


def named(each: dict[str, Any]) -> str:
    return f"{each['kind']}/{each['metadata']['name']}"


def contains(stored: object, wanted: object) -> bool:
    """Whether all that was applied is stored; the API server adds defaults."""
    if isinstance(wanted, dict) and isinstance(stored, dict):
        return all(
            key in ("apiVersion", "namespace") or contains(stored.get(key), value)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(stored, list):
        return len(stored) == len(wanted) and all(map(contains, stored, wanted))
    return stored == wanted


def test_the_verification_steps_tell_what_they_should(relays: Relays, story: Story) -> None:
    story.title("The steps of verification")
    last = max(relays.pods(), key=lambda pod: relays.log(pod, "static-nodes").count("Adding peer"))
    said = relays.log(last, "static-nodes")
    story.show(f"kubectl logs -n {NAMESPACE} {last} -c static-nodes", said)
    count = re.search(r"Built static-nodes\.json with (\d+) peers", said)
    assert count
    assert said.count("Adding peer: ") == int(count[1])
    joined = [each for each in relays.log(last, "pyrelay").splitlines() if '"peer joined"' in each]
    story.show(f"kubectl logs -n {NAMESPACE} {last} -c pyrelay | grep 'peer joined'", "\n".join(joined))
    assert len(joined) >= 2
    written = relays.k("get", "configmap", BOOK, "-o", "yaml")
    story.show(f"kubectl get configmap {BOOK} -n {NAMESPACE} -o yaml", written[:1500] + "...")
    assert set(relays.book()) == set(relays.pods())
    until("entries with the relays' records", lambda: all('"enr"' in each for each in relays.book().values()))
    page = forwarded(relays, last)
    line = next(each for each in page.splitlines() if each.startswith("p2p_peers "))
    story.show("curl -s localhost:6060/debug/metrics | grep p2p_peers", line)
    assert line == "p2p_peers 2"


def forwarded(relays: Relays, pod: str) -> str:
    """A relay's metrics through port-forward."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["kubectl", "port-forward", "-n", NAMESPACE, f"pod/{pod}", f"{port}:6060"]
    process = subprocess.Popen(
        command, env=relays.node.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:

        def page() -> str:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/debug/metrics", timeout=10) as answer:
                    return str(answer.read().decode())
            except OSError:
                return ""

        return until("the metrics through port-forward", page)
    finally:
        process.terminate()
        process.wait()


def test_a_signed_transaction_reaches_the_others(relays: Relays, story: Story) -> None:
    story.title("A transaction")
    took = passes(relays, relays.pods())
    story.tell(f"given to one relay (`kubectl exec`), in the pools of both others after {took}")


def test_a_pod_that_is_deleted_comes_back_as_itself(relays: Relays, story: Story) -> None:
    story.title("A pod is deleted")
    pod = f"{SET}-1"
    before, uid = relays.identity(pod), uid_of(relays, pod)
    clock = Clock()
    relays.k("delete", "pod", pod, "--wait=true")
    story.tell(f"gone after {clock}")
    until("the new pod", lambda: uid_of(relays, pod) not in ("", uid))
    until("its peers", lambda: relays.peers(pod) >= 2)
    story.tell(f"back with both peers, from the deletion on: {clock}")
    assert relays.identity(pod) == before
    story.tell("same node id and onion address")
    until("all as before", lambda: relays.all_joined(3))


def uid_of(relays: Relays, pod: str) -> str:
    return relays.k("get", "pod", pod, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")


def test_a_fourth_is_dialed_without_a_restart(relays: Relays, story: Story) -> None:
    story.title("Scale to four")
    before = {pod: started(relays, pod) for pod in relays.pods()}
    clock = Clock()
    relays.k("scale", "statefulset", SET, "--replicas=4")
    until("four relays that are each other's peers", lambda: relays.all_joined(4))
    story.tell(f"`kubectl scale --replicas=4` until each of the four had three peers: {clock}")
    assert {pod: started(relays, pod) for pod in before} == before
    story.tell("no container of the other three was restarted")
    relays.deploy("apply", "--no-verify")
    assert len(relays.pods()) == 4
    story.tell("`deploy.sh` again: four stay four")


def started(relays: Relays, pod: str) -> str:
    return relays.k(
        "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[*].state.running.startedAt}"
    )


def test_the_prune_job_runs(relays: Relays, story: Story) -> None:
    story.title("The prune job")
    relays.k("create", "job", "--from=cronjob/tor-peer-prune", "prune-now")
    relays.k("wait", "--for=condition=Complete", "job/prune-now", "--timeout=300s")
    said = relays.k("logs", "job/prune-now").strip().splitlines()[-1]
    relays.k("delete", "job", "prune-now")
    assert said == f"0 removed, {len(relays.book())} kept"
    story.tell(f"`kubectl create job --from=cronjob/tor-peer-prune prune-now`: {said}")


def test_the_address_book_is_rebuilt(relays: Relays, story: Story) -> None:
    story.title("The ConfigMap is deleted")
    pods = set(relays.pods())
    clock = Clock()
    relays.k("delete", "configmap", BOOK)
    until("all entries again", lambda: set(relays.book()) == pods)
    story.tell(f"all {len(pods)} entries are there again after {clock}")
    assert relays.all_joined(len(pods))
    story.tell("no peer was lost")


def test_a_relay_reaches_nothing_but_what_the_policies_name(relays: Relays, story: Story) -> None:
    story.title("Network policies")
    pod = relays.pods()[0]
    with canary(relays.node) as address:
        places = {
            "a pod of another namespace": (address, CANARY_PORT),
            "the node's kubelet": (NODE_IP, 10250),
        }
        for name, place in places.items():
            assert not relays.reaches(pod, *place), name
            story.tell(f"with the policies, {pod} does not reach {name}")
        assert relays.reaches(pod, NODE_IP, PORT)
        story.tell("it reaches the API server")
        relays.k("delete", "networkpolicies", "--all")
        for name, place in places.items():
            until(name, lambda place=place: relays.reaches(pod, *place), seconds=60)
            story.tell(f"without them it reaches {name}")
        relays.deploy("apply", "--no-verify")
        for name, place in places.items():
            until(name, lambda place=place: not relays.reaches(pod, *place), seconds=60)
        story.tell("`deploy.sh` again: it reaches neither")


def test_deploy_undo_and_again_give_the_same(relays: Relays, story: Story) -> None:
    story.title("deploy.sh: run, undo, run again")
    before, pods = relays.objects(), relays.pods()
    uids = {pod: uid_of(relays, pod) for pod in pods}
    identities = {pod: relays.identity(pod) for pod in pods}
    relays.deploy("apply", "--no-verify")
    assert without_book(relays.objects()) == without_book(before)
    assert {pod: uid_of(relays, pod) for pod in pods} == uids
    story.tell("a second run: same objects, same pods")
    clock = Clock()
    relays.deploy("undo")
    left = [each for each in relays.objects() if each not in ALWAYS]
    assert left == []
    assert relays.pods() == []
    story.tell(f"undo in {clock}: no object of ours is left but volumes and Secrets")
    clock = Clock()
    relays.deploy("apply", "--replicas", "4")
    until("four relays that are each other's peers", lambda: relays.all_joined(4))
    story.tell(f"run again, with its own verification, until all four had three peers: {clock}")
    assert without_book(relays.objects()) == without_book(before)
    assert {pod: relays.identity(pod) for pod in pods} == identities
    story.tell("objects and identities are those of before")


ALWAYS = ("ConfigMap/kube-root-ca.crt", "ServiceAccount/default")


def without_book(objects: dict[str, object]) -> dict[str, object]:
    return {name: each for name, each in objects.items() if name != f"ConfigMap/{BOOK}"}


# -- the others ----------------------------------------------------------------------------------------------


@pytest.fixture
def empty(relays: Relays) -> Iterator[Relays]:
    relays.purge()
    yield relays
    relays.purge()


def keys(relays: Relays, folder: Path, pods: list[str]) -> dict[str, str]:
    """Make keys as the message of deploy.sh says; onion addresses by pod."""
    path = f"{ROOT / '.venv' / 'bin'}:{relays.node.environment['PATH']}"
    subprocess.run(
        [ROOT / "deployment" / "scripts" / "make-keys.sh", "--out", str(folder), "--apply", *pods],
        env={**relays.node.environment, "PATH": path}, check=True, capture_output=True,
    )  # fmt: skip
    return {pod: (folder / f"{pod}-hostname").read_text() for pod in pods}


def deploy_with_keys(relays: Relays, overlay: str, folder: Path, pods: list[str]) -> dict[str, str]:
    with pytest.raises(Failed, match=r"make-keys\.sh"):
        relays.deploy("apply", "--overlay", overlay)
    onions = keys(relays, folder, pods)
    relays.deploy("apply", "--overlay", overlay, "--no-verify")
    return onions


def test_isolated_tor(empty: Relays, story: Story, tmp_path: Path) -> None:
    story.title("Overlay isolated-tor")
    clock = Clock()
    pods = [f"{SET}-{number}-0" for number in (1, 2, 3)]
    onions = deploy_with_keys(empty, "isolated-tor", tmp_path, pods)
    until("three relays that are each other's peers", lambda: empty.all_joined(3))
    story.tell(f"three pairs, from `deploy.sh` and `make-keys.sh` until each relay had both peers: {clock}")
    for pod, onion in onions.items():
        assert onion in empty.identity(pod)
    story.tell(f"a transaction reached both others after {passes(empty, pods)}")
    host = empty.k("get", "service", "gethrelay-tor-1", "-o", "jsonpath={.spec.clusterIP}")
    outside = int(re.search(r"203\.0\.113\.1:(\d+)", empty.torrc.read_text())[1])  # type: ignore[index]
    assert empty.reaches(pods[0], host, 9050)
    assert not empty.reaches(pods[0], PUBLIC, outside)
    assert not empty.reaches(pods[0], empty.k("get", "pod", pods[1], "-o", "jsonpath={.status.podIP}"), 30304)
    story.tell("a relay's pod reaches its Tor; it reaches neither a public address nor another relay")
    empty.k("delete", "networkpolicies", "--all")
    until("the public address", lambda: empty.reaches(pods[0], PUBLIC, outside), seconds=60)
    story.tell("without the policies it reaches the public address")


def test_pre_generated_keys(empty: Relays, story: Story, tmp_path: Path) -> None:
    story.title("Overlay pre-generated-keys")
    clock = Clock()
    pods = [f"{SET}-{number}" for number in (0, 1, 2)]
    onions = deploy_with_keys(empty, "pre-generated-keys", tmp_path, pods)
    until("three relays that are each other's peers", lambda: empty.all_joined(3))
    story.tell(f"from `deploy.sh` and `make-keys.sh` until each relay had both peers: {clock}")
    for pod, onion in onions.items():
        assert onion in empty.identity(pod)
    story.tell("each pod has the onion address of its key")


def test_bridge(empty: Relays, story: Story) -> None:
    story.title("Overlay bridge")
    clock = Clock()
    empty.deploy("apply", "--overlay", "bridge", "--no-verify")
    until("four relays that are each other's peers", lambda: empty.all_joined(4))
    story.tell(f"until the bridge and the three others were each other's peers: {clock}")
    story.tell(
        f"a transaction from the bridge reached all others after {passes(empty, sorted(empty.pods()))}"
    )
