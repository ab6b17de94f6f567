"""The stack's manifests: they render, hold the rules of the house, and every flag is known to its program."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.cli import monitor
from relay.cli.arguments import daemon_parser, given_options
from relay.settings import load_settings
from tests.aids.stack_monitoring import MONITORING, ROOT, program
from tests.aids.stack_scrapes import FIXTURES

STACK = ROOT / "deployment" / "kubernetes" / "ethereum"
NETWORKS = ("mainnet", "sepolia", "hoodi")
OVERLAYS = (*NETWORKS, "ha", "validator", "diversity", "with-pyrelay")
GETH = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrelay" / "geth-v1.17.8" / "geth"
WORKLOADS = ("StatefulSet", "Deployment")


@cache
def rendered(folder: Path) -> tuple[dict[str, Any], ...]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each)


def overlay(name: str) -> tuple[dict[str, Any], ...]:
    return rendered(STACK / "overlays" / name)


def everything() -> list[tuple[str, dict[str, Any]]]:
    found = [(name, each) for name in OVERLAYS for each in overlay(name)]
    return found + [("monitoring", each) for each in rendered(STACK.parent / "monitoring")]


def workloads() -> list[tuple[str, dict[str, Any]]]:
    return [(name, each) for name, each in everything() if each["kind"] in WORKLOADS]


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def containers(workload: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod(workload).get("initContainers", ()), *pod(workload)["containers"]]


def arguments(image: str) -> list[tuple[str, list[str]]]:
    """Return the arguments of all containers of an image, by where they stand."""
    return [
        (f"{name}/{workload['metadata']['name']}", container["args"])
        for name, workload in workloads()
        for container in containers(workload)
        if container["image"].rsplit(":", 1)[0] == image
    ]


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_renders_and_is_in_its_namespace(name: str) -> None:
    objects = overlay(name)
    assert {"Namespace", "StatefulSet", "NetworkPolicy", "PodDisruptionBudget"} <= {
        each["kind"] for each in objects
    }
    for each in objects:
        if each["kind"] not in ("Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
            assert each["metadata"].get("namespace") == "ethereum", each["metadata"]


@pytest.mark.parametrize("component", sorted(each.name for each in (STACK / "components").iterdir()))
def test_a_component_renders_with_a_network(component: str, tmp_path: Path) -> None:
    shutil.copytree(STACK, tmp_path / "ethereum")
    above = tmp_path / "ethereum" / "overlays" / "mine"
    above.mkdir()
    (above / "kustomization.yaml").write_text(
        f"resources: [../hoodi]\ncomponents: [../../components/{component}]\n"
    )
    assert len(rendered(above)) > len(overlay("hoodi"))


def test_pods_are_restricted_and_killed_late_and_have_tokens_only_where_used() -> None:
    for where, workload in workloads():
        spec, name = pod(workload), f"{where}/{workload['metadata']['name']}"
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is (workload["metadata"]["name"] == "prometheus"), name
        assert "hostNetwork" not in spec, name
        for container in containers(workload):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "limits" in container["resources"], name
            assert "memory" in container["resources"]["limits"], name
            assert not re.search(r":(latest|stable)$|^[^:]+$", container["image"]), container["image"]
            assert all("hostPort" not in port for port in container.get("ports", ())), name
        if workload["metadata"]["name"] in ("geth", "prysm-beacon", "nethermind", "lighthouse", "validator"):
            assert spec["terminationGracePeriodSeconds"] == 300, name


def test_every_mount_has_its_volume_and_every_named_port_its_number() -> None:
    for where, workload in workloads():
        spec, name = pod(workload), f"{where}/{workload['metadata']['name']}"
        volumes = {each["name"] for each in spec.get("volumes", ())}
        volumes |= {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", ())}
        ports: set[object] = set()
        for container in containers(workload):
            assert {each["name"] for each in container.get("volumeMounts", ())} <= volumes, name
            own = {each["name"] for each in container.get("ports", ())}
            assert not own & ports, name
            ports |= own
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                for how in ("tcpSocket", "httpGet"):
                    asked = container.get(probe, {}).get(how)
                    assert asked is None or asked["port"] in own, f"{name}: {probe}"


def test_policies_deny_first_and_select_pods_that_there_are() -> None:
    for name in OVERLAYS:
        labels = [
            each["spec"]["template"]["metadata"]["labels"]
            for each in overlay(name)
            if each["kind"] in WORKLOADS
        ]
        policies = [each for each in overlay(name) if each["kind"] == "NetworkPolicy"]
        assert {"default-deny", "dns", "metrics"} <= {each["metadata"]["name"] for each in policies}
        for each in policies:
            chosen = each["spec"]["podSelector"].get("matchLabels", {})
            assert any(chosen.items() <= one.items() for one in labels), (
                f"{name}: {each['metadata']['name']} selects none"
            )


def test_services_select_pods_that_there_are() -> None:
    for name in OVERLAYS:
        labels = [
            each["spec"]["template"]["metadata"]["labels"]
            for each in overlay(name)
            if each["kind"] in WORKLOADS
        ]
        for each in overlay(name):
            if each["kind"] == "Service":
                assert any(each["spec"]["selector"].items() <= one.items() for one in labels), each[
                    "metadata"
                ]["name"]
                assert each["spec"].get("type") is None, "only a component opens ports to the world"


def test_storage_is_what_was_asked_for() -> None:
    def sizes(objects: tuple[dict[str, Any], ...]) -> dict[str, str]:
        sets = [each for each in objects if each["kind"] == "StatefulSet"]
        return {
            each["metadata"]["name"]: each["spec"]["volumeClaimTemplates"][0]["spec"]["resources"][
                "requests"
            ]["storage"]
            for each in sets
        }

    assert sizes(overlay("mainnet")) == {"geth": "1Ti", "prysm-beacon": "500Gi"}
    assert sizes(rendered(STACK.parent / "monitoring")) == {
        "prometheus": "50Gi", "grafana": "10Gi", "alertmanager": "1Gi",
    }  # fmt: skip


def test_both_sides_of_the_engine_mount_one_secret() -> None:
    for where, workload in workloads():
        if workload["metadata"]["name"] in ("geth", "prysm-beacon", "nethermind", "lighthouse"):
            secrets = [each["secret"]["secretName"] for each in pod(workload)["volumes"] if "secret" in each]
            assert "engine-jwt" in secrets, where


@pytest.mark.skipif(not GETH.exists(), reason="geth is not built: tools/install-geth.sh builds it")
def test_geth_takes_its_flags() -> None:
    found = arguments("ethereum/client-go")
    assert len(found) >= len(NETWORKS) + 3
    for where, words in found:
        done = subprocess.run([GETH, *words, "version"], capture_output=True, text=True, check=False)
        assert (done.returncode, "Version: 1.17.8" in done.stdout) == (0, True), f"{where}: {done.stderr}"


@pytest.mark.skipif(not GETH.exists(), reason="geth is not built: tools/install-geth.sh builds it")
def test_geth_would_not_take_a_flag_that_there_is_not() -> None:
    done = subprocess.run(
        [GETH, "--http.jwt-secret=/x", "version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1


@pytest.mark.parametrize("name", ["beacon-chain", "validator"])
def test_prysm_has_its_flags(name: str) -> None:
    known: dict[str, str] = json.loads((FIXTURES / f"prysm-{name}-flags.json").read_text())
    found = arguments(f"gcr.io/offchainlabs/prysm/{name}")
    assert found
    for where, words in found:
        for word in words:
            flag, given, _ = word.removeprefix("--").partition("=")
            assert word.startswith("--"), f"{where}: {word}"
            assert flag in known, f"{where}: Prysm 7.1.6 has no {word}"
            assert (known[flag] == "Bool") == (not given), f"{where}: {word}"


def test_pyrelay_takes_its_flags() -> None:
    found = arguments("pyrelay")
    monitors = [words[1:] for _, words in found if words[0] == "monitor"]
    daemons = [words for _, words in found if words[0] != "monitor"]
    assert monitors
    assert daemons
    for words in monitors:
        assert monitor._parser().parse_args(words).export is not None
    for words in daemons:
        load_settings(given_options(daemon_parser().parse_args(words)), env={})


def test_a_network_is_one_for_both_clients() -> None:
    for name in NETWORKS:
        for image in ("ethereum/client-go", "gcr.io/offchainlabs/prysm/beacon-chain"):
            words = next(words for where, words in arguments(image) if where.startswith(f"{name}/"))
            assert [each for each in NETWORKS if f"--{each}" in words] == [name]


def test_a_beacon_node_drives_the_geth_of_its_number_and_is_let_in() -> None:
    [geth] = [words for where, words in arguments("ethereum/client-go") if where == "ha/geth"]
    [beacon] = [
        words
        for where, words in arguments("gcr.io/offchainlabs/prysm/beacon-chain")
        if where.startswith("ha/")
    ]
    assert "--execution-endpoint=http://geth-$(POD_INDEX).geth:8551" in beacon
    assert "--authrpc.vhosts=geth-$(POD_INDEX).geth" in geth
    replicas = {each["metadata"]["name"]: each["spec"]["replicas"] for _, each in workloads() if _ == "ha"}
    assert (replicas["geth"], replicas["prysm-beacon"]) == (3, 3)


def test_never_two_validators() -> None:
    objects = overlay("validator")
    [client] = [
        each for each in objects if each["metadata"]["name"] == "validator" and each["kind"] == "StatefulSet"
    ]
    [policy] = [each for each in objects if each["kind"] == "ValidatingAdmissionPolicy"]
    [claim] = client["spec"]["volumeClaimTemplates"]
    assert client["spec"]["replicas"] == 1
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert policy["spec"]["validations"][0]["expression"] == "object.spec.replicas <= 1"
    assert "statefulsets/scale" in policy["spec"]["matchConstraints"]["resourceRules"][0]["resources"]


def test_geth_behind_a_relay_speaks_to_nobody_else() -> None:
    [words] = [words for where, words in arguments("ethereum/client-go") if where == "with-pyrelay/geth"]
    assert {"--nodiscover", "--discovery.dns=", "--nat=none", "--netrestrict=127.0.0.0/8"} <= set(words)
    [policy] = [
        each
        for each in overlay("with-pyrelay")
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "geth"
    ]
    open_to_all = [each for each in policy["spec"]["ingress"] if "from" not in each]
    assert not open_to_all


def test_the_rules_of_the_cluster_are_those_of_a_machine(tmp_path: Path) -> None:
    """Debian's Prometheus is built without discovery in Kubernetes: promtool reads all but that."""
    text = (STACK.parent / "monitoring" / "prometheus.yaml").read_text()
    config = yaml.safe_load(text)
    jobs = {each["job_name"] for each in config["scrape_configs"]}
    here = {
        each["job_name"]
        for each in yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["scrape_configs"]
    }
    assert jobs - {"kubelet", "pyrelay-bridge"} == here - {"node"}
    for each in config["scrape_configs"]:
        if each.pop("kubernetes_sd_configs", None):
            each["static_configs"] = [{"targets": ["x:1"]}]
        each.pop("authorization", None)
        each.pop("tls_config", None)
    file = tmp_path / "prometheus.yaml"
    file.write_text(json.dumps(config))
    done = subprocess.run(
        [program("promtool"), "check", "config", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_scraped_ports_are_ports_of_pods() -> None:
    config = yaml.safe_load((STACK.parent / "monitoring" / "prometheus.yaml").read_text())
    pods = {
        (each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"], port["name"])
        for _, each in workloads() for container in containers(each) for port in container.get("ports", ())
    }  # fmt: skip
    for job in config["scrape_configs"]:
        for rule in job.get("relabel_configs", ()):
            if rule.get("action") == "keep" and job["job_name"] != "pyrelay-discovery":
                assert any(re.fullmatch(rule["regex"], ";".join(each)) for each in pods), job["job_name"]


def test_all_files_of_rules_and_dashboards_are_in_the_cluster() -> None:
    maps = {
        each["metadata"]["name"].rsplit("-", 1)[0]: each["data"]
        for _, each in everything()
        if each["kind"] == "ConfigMap"
    }
    assert set(maps["prometheus-rules"]) == {each.name for each in (MONITORING / "rules").glob("*.yaml")}
    assert set(maps["grafana-dashboards"]) == {
        each.name for each in (MONITORING / "dashboards").glob("*.json")
    }


def test_dashboards_are_what_the_tool_writes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "dashboards.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
