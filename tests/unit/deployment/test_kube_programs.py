"""What containers are told: taken by the real parser, found where it is mounted, made before it is read."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from relay.cli import kubernetes as command
from relay.cli.arguments import daemon_parser, given_options
from relay.kubernetes.identity import load_identity
from relay.primitives.address import TcpAddress
from relay.primitives.keys import NodeKey
from relay.settings import Settings, load_settings
from relay.transports.policy import Mode
from tests.aids.manifests import (
    OVERLAYS,
    Object,
    Pod,
    containers,
    environment,
    expand,
    mounted,
    of_kind,
    pods,
    rendered,
)

ONION: Final = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion"
SECRETS: Final = {f"gethrelay-only-onion-{number}-0-hostname": ONION for number in (1, 2, 3)}
MAKE_KEYS: Final = Path(__file__).parents[3] / "deployment" / "scripts" / "make-keys.sh"
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def words_of(pod: Pod, container: Object, objects: list[Object]) -> tuple[list[str], dict[str, str]]:
    env = environment(pod, container, objects, SECRETS)
    return [expand(each, env) for each in container.get("args", [])], env


def daemon_settings(pod: Pod, objects: list[Object]) -> Settings:
    words, env = words_of(pod, pod.container("pyrelay"), objects)
    return load_settings(given_options(daemon_parser().parse_args(words)), env=env)


def relays(objects: list[Object]) -> list[Pod]:
    return [pod for pod in pods(objects) if pod.labels["app.kubernetes.io/name"] == "pyrelay"]


@overlays
def test_the_daemon_takes_its_arguments(overlay: str) -> None:
    objects = rendered(overlay)
    for pod in relays(objects):
        settings = daemon_settings(pod, objects)
        assert settings.mode.value == pod.labels["mode"]
        assert isinstance(settings.metrics_address, TcpAddress)
        ports = {each["containerPort"] for each in pod.container("pyrelay")["ports"]}
        assert settings.metrics_address.port in ports
        assert str(settings.ipc_path) == "/sockets/pyrelay.ipc"


@overlays
def test_the_other_programs_take_theirs(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command itself, up to the point where the program would run."""
    ran = []
    for name in ("_identity", "_static_nodes", "_discovery", "_prune"):
        monkeypatch.setattr(command, name, lambda arguments, settings: ran.append((arguments, settings)))
    objects = rendered(overlay)
    for pod, container in containers(objects):
        words, env = words_of(pod, container, objects)
        if words[:1] == ["kubernetes"]:
            for key, value in env.items():
                monkeypatch.setenv(key, value)
            assert command.run(words[1:]) == 0
            arguments, settings = ran.pop()
            assert arguments.action == container["name"]
            assert settings.log_format == (
                "text" if container["name"] in ("identity", "static-nodes") else "json"
            )


@overlays
def test_all_containers_of_a_relay_mean_the_same(overlay: str) -> None:
    objects = rendered(overlay)
    for pod in relays(objects):
        settings = daemon_settings(pod, objects)
        parser = command._parser()
        for name in ("identity", "static-nodes", "discovery"):
            words, env = words_of(pod, pod.container(name), objects)
            other = load_settings(given_options(parser.parse_args(words[1:])), env=env)
            assert (other.datadir, other.onion_port) == (settings.datadir, settings.onion_port), name
            assert other.static_nodes_path == settings.static_nodes_path, name
            if name == "discovery":
                assert (other.ipc_path, other.tor_proxy) == (settings.ipc_path, settings.tor_proxy)


def test_an_isolated_relay_has_its_own_tor_and_no_control_port() -> None:
    objects = rendered("isolated-tor")
    found = []
    for pod in relays(objects):
        settings = daemon_settings(pod, objects)
        assert settings.tor_control is None
        assert str(settings.onion_address) == ONION
        assert settings.onion_listener == TcpAddress("10.244.0.7", 30304)  # of the pod, not every interface
        found.append(settings.tor_proxy)
    assert len(set(found)) == len(found) == 3


def test_a_bridge_is_two_identities() -> None:
    objects = rendered("bridge")
    modes = {pod.owner: daemon_settings(pod, objects) for pod in relays(objects)}
    assert modes["gethrelay-only-onion"].mode is Mode.ONLY_ONION
    assert modes["gethrelay-bridge"].mode is Mode.PREFER_TOR
    assert modes["gethrelay-bridge"].has_two_identities


def test_relays_of_other_clusters_are_found_by_what_one_file_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overlay federated: its ConfigMap as it comes, with nothing in it, and filled in."""
    objects = rendered("federated")
    (pod,) = relays(objects)
    (names,) = (each for each in of_kind(objects, "ConfigMap") if "JOIN" in each["data"])
    assert set(names["data"].values()) == {""}
    settings = daemon_settings(pod, objects)
    assert (settings.bootnodes, settings.dns_lists) == ((), ())

    key = NodeKey(b"1" * 32).public_key
    enode = f"enode://{key.hex()}@{ONION}:30303"
    tree = "enrtree://AKPYQIUQIL7PSIACI32J7FGZW56E5FKHEFCCOFHILBIMW3M6LWXS2@nodes.example.org"
    join = f"http://{ONION}, http://{ONION}:81,"
    names["data"] = {"BOOTNODES": enode, "DNS_LISTS": tree, "JOIN": join}
    settings = daemon_settings(pod, objects)
    assert settings.mode is Mode.ONLY_ONION
    assert list(settings.bootnodes) == [enode]
    assert list(settings.dns_lists) == [tree]
    assert settings.sources == {"onion", "dht", "dns"}

    given = []
    monkeypatch.setattr(command, "run_discovery", lambda *each: given.append(each) or asyncio.sleep(0))

    monkeypatch.setattr(command, "_cluster_key", lambda _: None)
    words, env = words_of(pod, pod.container("discovery"), objects)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert command.run(words[1:]) == 0
    _, options, node_info = given[0]
    assert options.joins == (f"http://{ONION}", f"http://{ONION}:81")
    tor = words_of(pod, pod.container("tor"), objects)[0]
    assert tor[-4:] == ["--HiddenServiceDir", "/data/join", "--HiddenServicePort", "80 127.0.0.1:6062"]
    assert node_info == ("127.0.0.1", 6062)


def test_a_tor_is_told_of_its_relay_alone() -> None:
    objects = rendered("isolated-tor")
    seen = set()
    for pod in pods(objects):
        if pod.labels["app.kubernetes.io/name"] == "pyrelay-tor":
            words, _ = words_of(pod, pod.container("tor"), objects)
            assert words.index("--HiddenServiceDir") + 2 == words.index("--HiddenServicePort")
            assert words[words.index("--SocksPort") + 1].startswith("10.244.0.7:9050 ")
            assert not any("0.0.0.0" in each or "Control" in each for each in words)
            seen.add(words[-1])
    assert len(seen) == 3


# -- the order in which a pod starts ----------------------------------------------------------------------

TOR_KEY: Final = "hs_ed25519_secret_key"
KEYS: Final = ("/data/pyrelay/nodekey", "/data/pyrelay/onion_key")
STEPS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    # container: what must be there when it starts, and what it makes
    "identity": ((), KEYS),
    "folder": ((), ("/onion/service",)),
    "key": (("/onion/service", f"/secrets/onion/{TOR_KEY}"), (f"/onion/service/{TOR_KEY}",)),
    "tor": (("/etc/tor/torrc",), ("/data/tor",)),
    "static-nodes": ((*KEYS, "/secrets/cluster/key", "/var/run/secrets/kubernetes.io/serviceaccount/token"),
                     ("/data/pyrelay/static-nodes.json",)),
    "discovery": ((*KEYS, "/secrets/cluster/key", "/var/run/secrets/kubernetes.io/serviceaccount/token"), ()),
    "pyrelay": ((*KEYS, "/data/pyrelay/static-nodes.json"), ("/sockets/pyrelay.ipc",)),
    "prune": (("/var/run/secrets/kubernetes.io/serviceaccount/token",), ()),
}  # fmt: skip


def given_by_kubelet(pod: Pod, container: Object) -> set[str]:
    """Files that are in a volume before anything runs."""
    found = set()
    for mount in container.get("volumeMounts", []):
        volume = pod.volumes[mount["name"]]
        names = []
        if "secret" in volume:
            names = [each["path"] for each in volume["secret"].get("items", [])] or ["key"]
        elif "configMap" in volume:
            names = ["torrc"]
        elif "projected" in volume:
            names = ["token"]
        found |= {f"{mount['mountPath']}/{name}" for name in names}
    return found


def start(pod: Pod) -> list[str]:
    """Start the containers one after another, as kubelet does; return what went wrong."""
    wrong, made = [], set[tuple[str, str]]()
    for container in pod.containers:
        reads, writes = STEPS[container["name"]]
        given = given_by_kubelet(pod, container)
        for path in reads:
            mount = mounted(pod, container, path)
            if mount is None or not (path in given or (mount["name"], path) in made):
                wrong.append(f"{container['name']} reads {path}, which nobody made before it")
        for path in writes:
            mount = mounted(pod, container, path)
            if mount is None or mount.get("readOnly"):
                wrong.append(f"{container['name']} can not write {path}")
            else:
                made.add((mount["name"], path))
        if container in pod.spec["containers"] or container.get("restartPolicy") == "Always":
            continue
        if container["name"] in ("tor", "discovery", "pyrelay"):
            wrong.append(f"{container['name']} never ends, and what follows never starts")
    return wrong


@overlays
def test_no_step_reads_what_a_later_one_makes(overlay: str) -> None:
    for pod in pods(rendered(overlay)):
        assert start(pod) == []


def test_the_simulation_finds_what_earlier_attempts_had() -> None:
    (pod,) = relays(rendered("sidecar"))
    init: list[Any] = pod.spec["initContainers"]
    init.insert(0, init.pop(2))  # static-nodes before the keys
    assert start(pod)[0].startswith("static-nodes reads /data/pyrelay/nodekey")
    init.insert(2, init.pop(0))
    del init[1]["restartPolicy"]  # Tor as a step to wait for
    assert start(pod) == ["tor never ends, and what follows never starts"]


@overlays
def test_files_that_arguments_name_are_mounted(overlay: str) -> None:
    for pod, container in containers(rendered(overlay)):
        for word in [*container.get("args", []), *container.get("command", [])[1:]]:
            path = word.partition("=")[2] or word
            if path.startswith("/"):
                assert mounted(pod, container, path) is not None, (container["name"], word)


# -- keys that are made before -----------------------------------------------------------------------------


def pyrelay_on_path(folder: Path) -> dict[str, str]:
    folder.mkdir()
    program = folder / "pyrelay"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m relay.cli.main "$@"\n')
    program.chmod(0o755)
    root = str(Path(__file__).parents[3])
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": root}


def test_keys_of_the_script_are_those_that_a_relay_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """make-keys.sh, then the container `identity` of the first pair, with its paths moved."""
    env = pyrelay_on_path(tmp_path / "bin")
    made = tmp_path / "keys"
    command_line: list[str | Path] = [
        MAKE_KEYS,
        "--out",
        made,
        "gethrelay-only-onion-1-0",
        "gethrelay-only-onion-2-0",
    ]
    subprocess.run(command_line, env=env, check=True, capture_output=True)
    before = {each.name: each.read_bytes() for each in made.iterdir()}
    subprocess.run(command_line, env=env, check=True, capture_output=True)
    assert {each.name: each.read_bytes() for each in made.iterdir()} == before, "a second run changes no key"
    assert all(each.stat().st_mode & 0o077 == 0 for each in made.iterdir())
    objects = rendered("isolated-tor")
    pod = next(each for each in relays(objects) if each.name == "gethrelay-only-onion-1-0")
    secret = tmp_path / "secret"
    secret.mkdir()
    for item in pod.volumes["keys"]["secret"]["items"]:
        shutil.copy(made / item["key"], secret / item["path"])
    words, variables = words_of(pod, pod.container("identity"), objects)
    moved = [
        each.replace("/data/", f"{tmp_path}/data/").replace("/secrets/keys", str(secret))
        for each in words[1:]
    ]
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    assert command.run(moved) == 0
    identity = load_identity(tmp_path / "data" / "pyrelay")
    assert str(identity.onion.address) == (made / "gethrelay-only-onion-1-0-hostname").read_text()
