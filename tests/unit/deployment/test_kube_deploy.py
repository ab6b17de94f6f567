"""deploy.sh, with a kubectl that remembers what it is asked: each step, its order, what it leaves alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.aids.manifests import OVERLAYS, of_kind, parse, rendered

ROOT: Final = Path(__file__).parents[3] / "deployment"
DEPLOY: Final = ROOT / "kubernetes" / "deploy.sh"
SCRIPTS: Final = sorted([*(ROOT / "kubernetes").rglob("*.sh"), *(ROOT / "scripts").glob("*.sh")])
REAL: Final = shutil.which("kubectl")
pytestmark = pytest.mark.slow  # a second for each run of kustomize, and more on a busy machine
needs_kubectl = pytest.mark.skipif(REAL is None, reason="no kubectl here: deploy.sh is NOT tested")

FAKE: Final = """\
import json, os, subprocess, sys
state = json.load(open(os.environ["FAKE_STATE"]))
words = sys.argv[1:]
if words[0] == "kustomize":
    sys.exit(subprocess.run([os.environ["REAL_KUBECTL"], *words]).returncode)
names = [each for each in words if each not in ("-n", "gethrelay")]
data = "" if sys.stdin.isatty() or "/dev/stdin" not in " ".join(words) else sys.stdin.read()
files = [words[at + 1] for at, each in enumerate(words[:-1]) if each == "-f"]
state["asked"].append({"words": names, "input": data, "files": [open(each).read() for each in files]})
json.dump(state, open(os.environ["FAKE_STATE"], "w"))
text = " ".join(names)
for start, answer in state["answers"].items():
    if text.startswith(start):
        if answer is None:
            sys.exit("the fake says no to: " + text)
        print(answer)
        break
"""


class Cluster:
    """A kubectl on the path: answers by how a command begins; None fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state.json"
        program = folder / "kubectl"
        program.write_text(f"#!{sys.executable} -IS\n{FAKE}")
        program.chmod(0o755)
        pods = "gethrelay-only-onion-0\ngethrelay-only-onion-1"
        self.answers: dict[str, str | None] = {
            "get --raw /version": '{\n  "major": "1",\n  "minor": "34",\n}',
            "get endpointslices": "6443 172.18.0.2 172.18.0.3\n",
            "get service kubernetes": "443 10.96.0.1\n",
            "get pods": pods,
            "get configmap tor-peer-addresses": json.dumps(dict.fromkeys(pods.split(), "{}")),
            "logs": "[tor-discovery] Built static-nodes.json with 1 peers",
            "exec": "1",
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        self.state.write_text(json.dumps({"answers": self.answers, "asked": []}))
        env = {
            **os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "FAKE_STATE": str(self.state),
            "REAL_KUBECTL": str(REAL),
        }  # fmt: skip
        return subprocess.run([DEPLOY, *words], env=env, capture_output=True, text=True, check=False)

    @property
    def asked(self) -> list[str]:
        return [" ".join(each["words"]) for each in json.loads(self.state.read_text())["asked"]]

    def given(self, start: str) -> str:
        """The manifests that a command was given."""
        found = [
            each
            for each in json.loads(self.state.read_text())["asked"]
            if " ".join(each["words"]).startswith(start)
        ]
        return "\n---\n".join(each["files"][0] for each in found if each["files"])


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@needs_kubectl
def test_applies_waits_verifies_and_says_what_to_look_at(cluster: Cluster) -> None:
    done = cluster.run()
    assert done.returncode == 0, done.stderr
    asked = cluster.asked
    steps = [
        "get --raw /version",
        "get endpointslices",
        "create secret generic pyrelay-cluster-key",
        "rollout status statefulset/gethrelay-only-onion",
        "logs gethrelay-only-onion-0",
        "exec gethrelay-only-onion-1",
    ]
    places = [next(at for at, each in enumerate(asked) if each.startswith(step)) for step in steps]
    assert places == sorted(places)
    assert "gethrelay-only-onion-1: 1 peers" in done.stderr
    assert "kubectl get configmap tor-peer-addresses -n gethrelay -o yaml" in done.stderr
    assert "port-forward -n gethrelay gethrelay-only-onion-0" in done.stderr


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_applied_is_the_overlay_with_the_real_api_server(cluster: Cluster, overlay: str) -> None:
    cluster.answers["get secret gethrelay-nodekeys"] = "secret/gethrelay-nodekeys"
    done = cluster.run("--overlay", overlay, "--no-verify")
    assert done.returncode == 0, done.stderr
    applied = parse(cluster.given("apply"))[1:]  # the first is the namespace alone
    (policy,) = [
        each for each in of_kind(applied, "NetworkPolicy") if each["metadata"]["name"] == "api-server"
    ]
    found = {
        (rule["to"][0]["ipBlock"]["cidr"], rule["ports"][0]["port"]) for rule in policy["spec"]["egress"]
    }
    assert found == {("172.18.0.2/32", 6443), ("172.18.0.3/32", 6443), ("10.96.0.1/32", 443)}
    assert [each for each in applied if each != policy] == [
        each for each in rendered(overlay) if each["metadata"]["name"] != "api-server"
    ]


@needs_kubectl
def test_other_clusters_are_named_by_a_file_of_the_operators_own(cluster: Cluster, tmp_path: Path) -> None:
    own = tmp_path / "own.env"
    own.write_text("BOOTNODES=enode://x\nDNS_LISTS=\nJOIN=http://y.onion\n")
    done = cluster.run("--overlay", "federated", "--federation", str(own), "--no-verify")
    assert done.returncode == 0, done.stderr
    (names,) = (
        each for each in of_kind(parse(cluster.given("apply")), "ConfigMap") if "JOIN" in each["data"]
    )
    assert names["data"] == {"BOOTNODES": "enode://x", "DNS_LISTS": "", "JOIN": "http://y.onion"}
    assert "enode://x" not in (ROOT / "kubernetes" / "rendered" / "federated.yaml").read_text()


@needs_kubectl
def test_the_cluster_key_is_made_once_and_never_on_the_command_line(cluster: Cluster) -> None:
    cluster.run("--no-verify")
    (made,) = [
        each
        for each in json.loads(cluster.state.read_text())["asked"]
        if each["words"][:2] == ["create", "secret"]
    ]
    assert len(made["input"]) == 64
    assert int(made["input"], 16) > 0
    assert made["input"] not in " ".join(made["words"])
    cluster.answers["get secret pyrelay-cluster-key"] = "secret/pyrelay-cluster-key"
    cluster.run("--no-verify")
    assert not any(each.startswith("create secret") for each in cluster.asked)


@needs_kubectl
def test_a_second_run_keeps_the_number_of_relays(cluster: Cluster) -> None:
    cluster.answers["get statefulset gethrelay-only-onion"] = "7"
    cluster.run("--no-verify")
    (relays,) = of_kind(parse(cluster.given("apply")), "StatefulSet")
    assert relays["spec"]["replicas"] == 7


@needs_kubectl
def test_a_dry_run_changes_nothing(cluster: Cluster) -> None:
    done = cluster.run(
        "--dry-run", "--network", "sepolia", "--monitor", "pod", "--image", "reg:5000/pyrelay:2"
    )
    assert done.returncode == 0, done.stderr
    assert not any(each.startswith(("apply", "create", "delete")) for each in cluster.asked)
    objects = parse(done.stdout)
    assert of_kind(objects, "PodMonitor")
    container = of_kind(objects, "StatefulSet")[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "reg:5000/pyrelay:2"
    assert container["args"][-1] == "--network=sepolia"


@needs_kubectl
@pytest.mark.parametrize("overlay", ["isolated-tor", "pre-generated-keys"])
def test_missing_keys_are_told_with_the_command_that_makes_them(cluster: Cluster, overlay: str) -> None:
    done = cluster.run("--overlay", overlay)
    assert done.returncode == 1
    pods = [
        each["metadata"]["name"]
        for each in of_kind(rendered(overlay), "StatefulSet")
        if "tor-" not in each["metadata"]["name"]
    ]
    names = [f"{each}-0" for each in pods] if len(pods) > 1 else [f"{pods[0]}-{at}" for at in range(3)]
    assert f"make-keys.sh --out DIR --apply {' '.join(names)}" in done.stderr
    assert not of_kind(parse(cluster.given("apply")), "StatefulSet")


@needs_kubectl
@pytest.mark.parametrize(
    ("start", "answer", "words"),
    [
        ("get --raw /version", '"minor": "29+"', "1.29"),
        ("get endpointslices", None, "--api-server IP:PORT"),
        ("rollout", None, "not ready after 0 s"),
        ("exec", "0", "has no peer after 0 s"),
        ("get configmap tor-peer-addresses", "{}", "HAS NO ENTRY"),
        ("get pods", "", "no relay runs"),
    ],
)
def test_what_goes_wrong_is_said(cluster: Cluster, start: str, answer: str | None, words: str) -> None:
    cluster.answers[start] = answer
    done = cluster.run("--timeout", "0")
    assert done.returncode == 1
    assert words in done.stderr


@needs_kubectl
def test_a_lease_is_an_entry_too(cluster: Cluster) -> None:
    cluster.answers["get configmap tor-peer-addresses"] = ""
    leases = "lease.coordination.k8s.io/tor-peer-addresses-gethrelay-only-onion-{}"
    cluster.answers["get leases"] = "\n".join(map(leases.format, (0, 10)))
    done = cluster.run("verify", "--timeout", "0")
    assert done.returncode == 1
    assert "gethrelay-only-onion-0: has an entry" in done.stderr
    assert "gethrelay-only-onion-1: HAS NO ENTRY" in done.stderr


@needs_kubectl
def test_undo_leaves_volumes_keys_and_namespace(cluster: Cluster) -> None:
    done = cluster.run("undo")
    assert done.returncode == 0, done.stderr
    gone = parse(cluster.given("delete"))
    kinds = {each["kind"] for each in gone}
    assert "Namespace" not in kinds
    assert {"StatefulSet", "CronJob", "NetworkPolicy", "ValidatingAdmissionPolicy"} <= kinds
    assert len(gone) == len(rendered("sidecar")) - 1
    assert not any(
        "secret" in each or "pvc" in each or "namespace gethrelay" in each for each in cluster.asked
    )
    asked = cluster.asked
    gone_at = next(at for at, each in enumerate(asked) if each.startswith("delete --ignore-not-found --wait"))
    assert asked[gone_at + 1].startswith("wait --for=delete pods -l app.kubernetes.io/part-of=pyrelay")
    cluster.run("undo", "--purge")
    assert cluster.asked[-1].startswith("delete namespace --ignore-not-found")


@needs_kubectl
@pytest.mark.parametrize(("overlay", "torrcs"), [("sidecar", 1), ("bridge", 1), ("isolated-tor", 3)])
def test_lines_for_tor_reach_each_torrc_and_undo_takes_those_of_other_flags(
    cluster: Cluster, tmp_path: Path, overlay: str, torrcs: int
) -> None:
    lines = tmp_path / "lines"
    lines.write_text("UseBridges 1\n")
    done = cluster.run(
        "--dry-run", "--overlay", overlay, "--torrc", str(lines), "--api-server", "10.0.0.1:6443"
    )
    assert done.returncode == 0, done.stderr
    before = [each for each in of_kind(rendered(overlay), "ConfigMap") if "torrc" in each["data"]]
    found = [each for each in of_kind(parse(done.stdout), "ConfigMap") if "torrc" in each["data"]]
    assert len(found) == torrcs
    for old, new in zip(before, found, strict=True):
        assert new["data"]["torrc"] == old["data"]["torrc"] + "UseBridges 1\n"
        assert new["metadata"]["name"] != old["metadata"]["name"]  # so the pods are replaced
        assert new["metadata"]["labels"]["app.kubernetes.io/part-of"] == "pyrelay"
    cluster.run("undo", "--overlay", overlay)
    assert "delete configmap -l app.kubernetes.io/part-of=pyrelay --ignore-not-found" in cluster.asked


@needs_kubectl
def test_undo_leaves_the_policies_that_another_namespace_needs(cluster: Cluster) -> None:
    cluster.answers["get serviceaccounts -A"] = "gethrelay\nother"
    done = cluster.run("undo")
    assert done.returncode == 0
    kinds = {each["kind"] for each in parse(cluster.given("delete"))}
    assert "ValidatingAdmissionPolicy" not in kinds
    assert "StatefulSet" in kinds


@pytest.mark.parametrize(
    "words",
    [["--overlay", "x"], ["--replicas", "a"], ["--replicas"], ["--purge"], ["--bad"], ["--network", "x"],
     ["--replicas", "4", "--overlay", "isolated-tor"], ["--federation", "/dev/null"],
     ["--overlay", "federated", "--federation", "/no/such/file"], ["--torrc", "/no/such/file"]],
)  # fmt: skip
def test_misuse_ends_with_2(cluster: Cluster, words: list[str]) -> None:
    done = cluster.run(*words)
    assert done.returncode == 2
    assert "usage: " in done.stderr
    assert cluster.asked == []


def test_the_help_names_every_flag() -> None:
    done = subprocess.run([DEPLOY, "--help"], capture_output=True, text=True, check=True)
    flags = set(re.findall(r"^ *(--[a-z-]+)\)", DEPLOY.read_text(), re.M))
    assert len(flags) >= 10
    assert {each for each in flags if each not in done.stdout} == set()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here: scripts are NOT checked")
def test_scripts_pass_shellcheck() -> None:
    done = subprocess.run(["shellcheck", *SCRIPTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(SCRIPTS) >= 6


def test_names_of_the_seeds_are_there(cluster: Cluster) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "deploy-tor-discovery.sh", "--help"], capture_output=True, text=True, check=True
    )
    assert "usage: deployment/kubernetes/deploy.sh" in done.stdout
    assert os.access(ROOT / "scripts" / "tor-peer-discovery.sh", os.X_OK)


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rights_and_policies_are_there_before_a_pod_is(cluster: Cluster, overlay: str) -> None:
    done = cluster.run("--overlay", overlay, "--dry-run")
    assert done.returncode == 0, done.stderr
    for objects in (parse(done.stdout), rendered(overlay)):
        kinds = [each["kind"] for each in objects]
        first = min(kinds.index("StatefulSet"), kinds.index("CronJob"))
        assert {"NetworkPolicy", "ValidatingAdmissionPolicyBinding", "RoleBinding"} <= set(kinds[:first])
        assert set(kinds[first:]) == {"StatefulSet", "CronJob"}


@needs_kubectl
def test_undo_keeps_the_policies_until_no_pod_is_left(cluster: Cluster) -> None:
    done = cluster.run("undo")
    assert done.returncode == 0, done.stderr
    steps = json.loads(cluster.state.read_text())["asked"]
    kinds = [{each["kind"] for each in parse(step["files"][0])} if step["files"] else set() for step in steps]
    waits = next(at for at, each in enumerate(steps) if each["words"][0] == "wait")
    assert set().union(*kinds[:waits]) == {"StatefulSet", "CronJob"}
    assert {"NetworkPolicy", "ValidatingAdmissionPolicy"} <= set().union(*kinds[waits:])


@needs_kubectl
def test_undo_of_another_overlay_than_runs_removes_nothing(cluster: Cluster) -> None:
    cluster.answers["get statefulsets"] = "gethrelay-only-onion\ngethrelay-bridge"
    done = cluster.run("undo")
    assert done.returncode == 1
    assert "not of overlay sidecar: gethrelay-bridge" in done.stderr
    assert not any(each.startswith("delete") for each in cluster.asked)
    assert cluster.run("undo", "--overlay", "bridge").returncode == 0


@needs_kubectl
def test_a_dry_run_shows_the_number_of_relays_that_would_stay(cluster: Cluster) -> None:
    cluster.answers["get statefulset gethrelay-only-onion"] = "7"
    done = cluster.run("--dry-run")
    (relays,) = of_kind(parse(done.stdout), "StatefulSet")
    assert relays["spec"]["replicas"] == 7


@pytest.mark.parametrize(
    "server", ["10.0.0.1", "https://10.0.0.1:6443", "10.0.0.1:x", "api.example.org:6443", ":1"]
)
def test_an_api_server_that_is_no_address_is_refused_before_anything_is_made(
    cluster: Cluster, server: str
) -> None:
    done = cluster.run("--api-server", server)
    assert done.returncode == 2
    assert f"--api-server {server}: expected IP:PORT" in done.stderr
    assert cluster.asked == []


@needs_kubectl
def test_an_api_server_with_an_address_of_ipv6_is_taken(cluster: Cluster) -> None:
    done = cluster.run("--dry-run", "--api-server", "[fd00::1]:6443")
    assert done.returncode == 0, done.stderr
    assert "fd00::1/128" in done.stdout


@needs_kubectl
def test_a_dry_run_of_purge_tells_what_is_gone_for_good(cluster: Cluster) -> None:
    done = cluster.run("undo", "--purge", "--dry-run")
    assert done.returncode == 0
    assert "would delete the namespace gethrelay, with volumes and Secrets" in done.stderr
    assert not any(each.startswith("delete") for each in cluster.asked)
    assert "volumes" not in cluster.run("undo", "--dry-run").stderr


@pytest.mark.parametrize("words", [["--out"], ["--out", "x", "--namespace"], ["--out", "x"], []])
def test_keys_without_the_words_for_it_tell_the_usage(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "make-keys.sh", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: deployment/scripts/make-keys.sh --out DIR")
    assert list(tmp_path.iterdir()) == []
