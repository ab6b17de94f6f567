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
from tests.aids.manifests import parse
from tests.aids.stack_monitoring import MONITORING, ROOT, alerts, program
from tests.aids.stack_scrapes import FIXTURES

STACK = ROOT / "deployment" / "kubernetes" / "ethereum"
NETWORKS = ("mainnet", "sepolia", "hoodi")
RENDERED = STACK.parent / "rendered" / "stack"
OVERLAYS = (*NETWORKS, "ha", "validator", "diversity", "with-pyrelay")
GETH = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrelay" / "geth-v1.17.8" / "geth"
WORKLOADS = ("StatefulSet", "Deployment")


@cache
def made(folder: Path) -> tuple[dict[str, Any], ...]:
    """Render a folder by kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not here")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(parse(done.stdout))


@cache
def overlay(name: str) -> tuple[dict[str, Any], ...]:
    """Read what deployment/kubernetes/render-stack.sh wrote."""
    return tuple(parse((RENDERED / f"{name}.yaml").read_text()))


def everything() -> list[tuple[str, dict[str, Any]]]:
    return [(name, each) for name in (*OVERLAYS, "monitoring") for each in overlay(name)]


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


@pytest.mark.parametrize("name", [*OVERLAYS, "monitoring"])
def test_what_is_committed_is_what_kubectl_makes(name: str) -> None:
    folder = STACK.parent / name if name == "monitoring" else STACK / "overlays" / name
    assert overlay(name) == made(folder), "deployment/kubernetes/render-stack.sh writes it anew"


def test_every_overlay_is_looked_at() -> None:
    assert set(OVERLAYS) == {each.name for each in (STACK / "overlays").iterdir()}
    assert {each.stem for each in RENDERED.iterdir()} == {*OVERLAYS, "monitoring"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_renders_and_is_in_its_namespace(name: str) -> None:
    objects = overlay(name)
    assert {"Namespace", "StatefulSet", "NetworkPolicy", "PodDisruptionBudget"} <= {
        each["kind"] for each in objects
    }
    for each in objects:
        if each["kind"] not in ("Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
            assert each["metadata"].get("namespace") == "ethereum", each["metadata"]


def with_components(folder: Path, over: str, *names: str) -> tuple[dict[str, Any], ...]:
    shutil.copytree(STACK, folder / "ethereum")
    own = folder / "ethereum" / "overlays" / "mine"
    own.mkdir()
    wanted = {"resources": [f"../{over}"], "components": [f"../../components/{each}" for each in names]}
    (own / "kustomization.yaml").write_text(json.dumps(wanted))
    return made(own)


@pytest.mark.parametrize("component", sorted(each.name for each in (STACK / "components").iterdir()))
def test_a_component_renders_and_changes_something(component: str, tmp_path: Path) -> None:
    of_rpc = component in ("gateway", "rpc-jwt")
    over = "ha" if of_rpc else "hoodi"
    assert with_components(tmp_path, over, component) != overlay(over)


def one(objects: tuple[dict[str, Any], ...], kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("network", NETWORKS)
def test_the_rpc_in_front_is_of_the_nodes_network(network: str, tmp_path: Path) -> None:
    words = containers(one(with_components(tmp_path, network, "rpc"), "Deployment", "rpc"))[0]["args"]
    assert f"--network={network}" in words
    load_settings(given_options(daemon_parser().parse_args(words)), env={})


def test_the_rpc_of_ha_asks_all_three() -> None:
    words = containers(one(overlay("ha"), "Deployment", "rpc"))[0]["args"]
    assert [each for each in words if each.startswith("--rpc-upstream=")] == [
        "--rpc-upstream=" + ",".join(f"http://geth-{each}.geth:8545" for each in range(3))
    ]
    assert "--rpc-balance=balanced" in words


def test_the_rpc_is_no_relay_without_peers() -> None:
    [(_, rpc)] = [(name, each) for name, each in workloads() if each["metadata"]["name"] == "rpc"]
    assert "--discovery=off" in containers(rpc)[0]["args"]
    assert rpc["spec"]["template"]["metadata"]["labels"]["mode"] == "rpc"
    assert 'mode!="rpc"' in alerts()["RelayNoPeers"]["expr"]


def test_callers_of_the_rpc_can_be_asked_for_a_token(tmp_path: Path) -> None:
    rpc = one(with_components(tmp_path, "hoodi", "rpc", "rpc-jwt"), "Deployment", "rpc")
    [container] = containers(rpc)
    settings = load_settings(given_options(daemon_parser().parse_args(container["args"])), env={})
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "rpc-jwt"]
    [volume] = [each for each in pod(rpc)["volumes"] if each["name"] == "rpc-jwt"]
    assert str(settings.http_jwtsecret) == f"{mount['mountPath']}/jwt.hex"
    assert volume["secret"]["secretName"] == "rpc-jwt"
    assert pod(rpc)["securityContext"]["fsGroup"] == 10001, "the file is readable by its group alone"


def test_a_gateway_asks_for_certificates_and_leads_to_the_rpc_alone(tmp_path: Path) -> None:
    objects = with_components(tmp_path, "hoodi", "rpc", "gateway")
    gateway, route = one(objects, "Gateway", "rpc")["spec"], one(objects, "HTTPRoute", "rpc")
    assert gateway["tls"]["frontend"]["default"]["validation"]["mode"] == "AllowValidOnly"
    [listener] = gateway["listeners"]
    assert (listener["protocol"], listener["tls"]["mode"]) == ("HTTPS", "Terminate")
    [parent] = route["spec"]["parentRefs"]
    assert (parent["name"], parent["namespace"]) == ("rpc", "ethereum-gateway")
    assert parent["sectionName"] == listener["name"]
    selected = listener["allowedRoutes"]["namespaces"]["selector"]["matchLabels"]
    assert selected == {"kubernetes.io/metadata.name": route["metadata"]["namespace"]}
    [rule] = route["spec"]["rules"]
    [backend] = rule["backendRefs"]
    [port] = one(objects, "Service", backend["name"])["spec"]["ports"]
    assert backend["port"] == port["port"]
    words = containers(one(objects, "Deployment", "rpc"))[0]["args"]
    [names] = [each.partition("=")[2].split(",") for each in words if each.startswith("--http.vhosts=")]
    assert rule["filters"][0]["urlRewrite"]["hostname"] in names
    rate = load_settings(given_options(daemon_parser().parse_args(words)), env={}).rpc_rate
    assert rate is not None
    assert (rate.calls, rate.seconds) == (200, 1)
    namespace = one(objects, "Namespace", "ethereum-gateway")["metadata"]["labels"]
    assert namespace["ethereum.pyrelay/rpc"] == "true"


def test_the_authority_of_clients_is_not_that_of_the_server(tmp_path: Path) -> None:
    objects = with_components(tmp_path, "hoodi", "rpc", "gateway")
    made = {each["spec"]["secretName"]: each["spec"] for each in objects if each["kind"] == "Certificate"}
    by = {
        each["metadata"]["name"]: each["spec"].get("ca", {}).get("secretName")
        for each in objects
        if each["kind"] == "Issuer"
    }
    authority = {name: by[each["issuerRef"]["name"]] for name, each in made.items()}
    assert authority == {
        "rpc-server-ca": None, "rpc-client-ca": None,
        "rpc-tls": "rpc-server-ca", "rpc-client-wallet": "rpc-client-ca",
    }  # fmt: skip
    assert "server auth" in made["rpc-tls"]["usages"]
    assert "server auth" not in made["rpc-client-wallet"]["usages"]
    listener = one(objects, "Gateway", "rpc")["spec"]["listeners"][0]
    assert made["rpc-tls"]["dnsNames"] == [listener["hostname"]]


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
    assert sizes(overlay("monitoring")) == {
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


@pytest.mark.parametrize(
    ("image", "name", "commands"),
    [
        ("nethermind/nethermind", "nethermind", {}),
        ("sigp/lighthouse", "lighthouse", {"lighthouse": "", "beacon_node": "lighthouse"}),
        ("consensys/web3signer", "web3signer", {"eth2": "web3signer-eth2"}),
        ("flashbots/mev-boost", "mev-boost", {}),
    ],
)
def test_a_client_that_can_not_run_here_publishes_its_flags(
    image: str, name: str, commands: dict[str, str]
) -> None:
    """The lists are of their sources and manuals, with version. A subcommand has a list of its own."""
    found = arguments(image)
    assert found
    for where, words in found:
        known = published_flags(name)
        for word in words:
            if word in commands:
                known = published_flags(commands[word]) if commands[word] else known
                continue
            assert word.startswith("--"), f"{where}: {word}"
            assert word.removeprefix("--").partition("=")[0] in known, f"{where}: {name} has no {word}"


def published_flags(name: str) -> frozenset[str]:
    read = json.loads((FIXTURES / f"{name}-flags.json").read_text())
    assert read["version"]
    assert read["source"]
    return frozenset(read["flags"])


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_prometheus_and_alertmanager_take_their_flags(name: str) -> None:
    [(_, words)] = arguments(f"prom/{name}")
    done = subprocess.run([program(name), *words, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([program(name), *words, "--no-such"], capture_output=True, text=True, check=False)
    assert "unknown long flag" in done.stderr


@pytest.mark.skipif(shutil.which("tor") is None, reason="tor is not here")
def test_tor_takes_its_configuration(tmp_path: Path) -> None:
    text = (STACK / "overlays" / "with-pyrelay" / "torrc").read_text()
    (tmp_path / "data").mkdir()
    here = text.replace("/data/tor", str(tmp_path / "data")).replace("/sockets", str(tmp_path))
    (tmp_path / "torrc").write_text(here)
    asked = ["tor", "--verify-config", "--defaults-torrc", "/dev/null", "-f", tmp_path / "torrc"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    warnings = [each for each in done.stdout.splitlines() if "[warn]" in each and "as root" not in each]
    assert not warnings


def test_tor_makes_its_folder_itself() -> None:
    """A kubelet makes the folder of a subPath, root's; Tor takes none that is another user's."""
    text = (STACK / "overlays" / "with-pyrelay" / "torrc").read_text()
    [folder] = re.findall(r"^DataDirectory (\S+)$", text, re.MULTILINE)
    [geth] = [
        each for name, each in workloads() if (name, each["metadata"]["name"]) == ("with-pyrelay", "geth")
    ]
    [tor] = [each for each in containers(geth) if each["name"] == "tor"]
    assert str(Path(folder).parent) in {each["mountPath"] for each in tor["volumeMounts"]}


def test_every_image_of_the_stack_has_its_flags_checked() -> None:
    checked = {
        "ethereum/client-go", "pyrelay", "nethermind/nethermind", "sigp/lighthouse", "consensys/web3signer",
        "flashbots/mev-boost", "gcr.io/offchainlabs/prysm/beacon-chain",
        "gcr.io/offchainlabs/prysm/validator", "prom/prometheus", "prom/alertmanager",
    }  # fmt: skip
    without = {"grafana/grafana", "pyrelay-tor"}  # by variables; by a file
    images = {
        container["image"].rsplit(":", 1)[0]
        for _, workload in workloads() for container in containers(workload)
    }  # fmt: skip
    assert images == checked | without


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
    assert jobs - {"kubelet", "pyrelay-bridge", "nethermind", "lighthouse"} == here - {"node"}
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


def test_prometheus_is_let_in_where_it_scrapes() -> None:
    """By a number, or a name of no sidecar: who enforces policies may not know names of those."""
    config = yaml.safe_load((STACK.parent / "monitoring" / "prometheus.yaml").read_text())
    scraped = [
        re.compile(rule["regex"])
        for job in config["scrape_configs"] for rule in job.get("relabel_configs", ())
        if rule.get("action") == "keep"
    ]  # fmt: skip
    for name in OVERLAYS:
        policies = [each for each in overlay(name) if each["kind"] == "NetworkPolicy"]
        [policy] = [each for each in policies if each["metadata"]["name"] == "metrics"]
        [rule] = policy["spec"]["ingress"]
        let_in = {port["port"] for port in rule["ports"]}
        for workload in (each for each in overlay(name) if each["kind"] in WORKLOADS):
            label = workload["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
            own = pod(workload)["containers"]
            for port in (port for each in containers(workload) for port in each.get("ports", ())):
                if any(regex.fullmatch(f"{label};{port['name']}") for regex in scraped):
                    known = {each["name"] for one in own for each in one.get("ports", ())} & {port["name"]}
                    assert let_in & {port["containerPort"], *known}, f"{name}: {label} {port['name']}"


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_beacon_node_is_watched_while_it_syncs(name: str) -> None:
    """It is not ready then, and a Service without pods has no name: its monitor would call somebody."""
    [(_, words)] = [
        (where, each) for where, each in arguments("pyrelay") if where == f"{name}/peermon-beacon"
    ]
    client, service = words[2].removeprefix("http://").partition(":")[0].split(".")
    [found] = [
        each for each in overlay(name) if (each["kind"], each["metadata"]["name"]) == ("Service", service)
    ]
    assert client == f"{service}-0"
    assert found["spec"]["publishNotReadyAddresses"] is True


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


def test_every_overlay_and_component_is_told_of() -> None:
    rows = re.findall(
        r"^\| ([a-z0-9, -]+) \|", (ROOT / "docs" / "operations-stack.md").read_text(), re.MULTILINE
    )
    told = {name for row in rows for name in row.split(", ")}
    assert {each.name for each in (STACK / "components").iterdir()} <= told
    assert set(OVERLAYS) <= told


def test_the_overlay_in_the_manual_puts_your_name_everywhere(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "operations-stack.md").read_text()
    [block] = re.findall(r"\n((?:    .*\n)*    components: .*gateway.*\n(?:    .*\n)*)", text)
    shutil.copytree(STACK, tmp_path / "ethereum")
    own = tmp_path / "ethereum" / "overlays" / "mine"
    own.mkdir()
    (own / "kustomization.yaml").write_text(block)
    objects = made(own)
    assert "example.org" not in json.dumps(objects)
    assert one(objects, "Certificate", "rpc-tls")["spec"]["dnsNames"] == ["rpc.your.domain"]
    assert one(objects, "Gateway", "rpc")["spec"]["gatewayClassName"] == "YOURS"
    assert "--network=hoodi" in containers(one(objects, "Deployment", "rpc"))[0]["args"]
