"""The manifests as they are rendered: whole, restricted, and in an order in which a pod can start."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.aids.manifests import (
    FOLDER,
    OVERLAYS,
    REFERENCE,
    containers,
    environment,
    of_kind,
    parse,
    pods,
    rendered,
)

OLDEST: Final = "1.30"
ISOLATED: Final = FOLDER / "overlays" / "isolated-tor"
kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="no kubectl here: rendered manifests are NOT compared with overlays",
)
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def kustomize(folder: Path) -> str:
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@kubectl
@overlays
def test_the_committed_output_is_what_kustomize_makes(overlay: str) -> None:
    """Compared as objects: releases of kustomize differ in how they break lines."""
    assert parse(kustomize(FOLDER / "overlays" / overlay)) == rendered(overlay), (
        "run deployment/kubernetes/render.sh"
    )


@overlays
def test_every_object_keeps_to_its_schema(overlay: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    for each in rendered(overlay):
        schemas.validate(each, OLDEST, strict=True)


def test_the_schemas_are_looked_at() -> None:
    (spread,) = of_kind(rendered("sidecar"), "StatefulSet")
    spread["spec"]["template"]["spec"]["initContainer"] = []
    schemas = pytest.importorskip("kubernetes_validate")
    with pytest.raises(schemas.ValidationError, match="initContainer"):
        schemas.validate(spread, OLDEST, strict=True)


@overlays
def test_no_two_objects_have_one_name_and_all_are_in_the_namespace(overlay: str) -> None:
    objects = rendered(overlay)
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    whole = {"Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    for each in objects:
        expected = None if each["kind"] in whole else "gethrelay"
        assert each["metadata"].get("namespace") == expected, each["metadata"]


@overlays
def test_pods_are_restricted(overlay: str) -> None:
    """The profile of Pod Security that the namespace enforces, and more."""
    (namespace,) = of_kind(rendered(overlay), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods(rendered(overlay)):
        context = pod.spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["fsGroup"] == 10001
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & pod.spec.keys()
        assert pod.spec["automountServiceAccountToken"] is False
        for volume in pod.volumes.values():
            assert volume.keys() - {"name"} <= {"emptyDir", "configMap", "secret", "projected", "claim"}, (
                volume
            )
        for each in pod.containers:
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@overlays
def test_images_have_versions_and_containers_limits(overlay: str) -> None:
    for _, each in containers(rendered(overlay)):
        _, _, tag = each["image"].partition(":")
        assert tag not in ("", "latest"), each["image"]
        assert "memory" in each["resources"]["limits"]
        assert each["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "hostPort" not in str(each.get("ports"))


@overlays
def test_tokens_and_keys_are_mounted_where_they_are_used_and_nowhere_else(overlay: str) -> None:
    may = {
        "token": {"static-nodes", "discovery", "prune"},
        "cluster-key": {"static-nodes", "discovery"},
        "keys": {"identity", "key"},
    }
    for pod, container in containers(rendered(overlay)):
        names = {each["name"] for each in container.get("volumeMounts", [])}
        assert names <= pod.volumes.keys()
        for volume, users in may.items():
            assert volume not in names or container["name"] in users, (container["name"], volume)
        assert not any(
            "secretKeyRef" in str(each) and "hostname" not in str(each) for each in container.get("env", [])
        )
    for pod in pods(rendered(overlay)):
        used = {each["name"] for c in pod.containers for each in c.get("volumeMounts", [])}
        assert used == pod.volumes.keys(), "a volume that nobody mounts"


@overlays
def test_what_is_named_exists(overlay: str) -> None:
    objects = rendered(overlay)
    accounts = {each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")}
    maps = {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")} | {"kube-root-ca.crt"}
    services = {each["metadata"]["name"]: each for each in of_kind(objects, "Service")}
    for each in of_kind(objects, "StatefulSet"):
        labels = each["spec"]["template"]["metadata"]["labels"]
        service = services[each["spec"]["serviceName"]]
        assert service["spec"]["selector"].items() <= labels.items()
        assert each["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for pod in pods(objects):
        assert pod.spec.get("serviceAccountName", "") in {*accounts, ""}
        for volume in pod.volumes.values():
            assert "configMap" not in volume or volume["configMap"]["name"] in maps
            secret = volume.get("secret", {}).get("secretName", "pyrelay-cluster-key")
            assert secret == {"keys": "gethrelay-nodekeys"}.get(volume["name"], "pyrelay-cluster-key")
    for policy in of_kind(objects, "ValidatingAdmissionPolicy"):
        (who,) = (each["expression"] for each in policy["spec"]["matchConditions"])
        assert any(f":{account}'" in who for account in accounts)


@overlays
def test_every_port_of_a_service_or_probe_is_a_container_s(overlay: str) -> None:
    objects = rendered(overlay)
    for pod, container in containers(objects):
        ports = {each["name"]: each["containerPort"] for each in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            action: dict[str, Any] = container.get(probe, {})
            for target in (action.get("httpGet"), action.get("tcpSocket")):
                assert target is None or target["port"] in ports, (container["name"], probe)
        assert pod.owner
    for service in of_kind(objects, "Service"):
        chosen = [pod for pod in pods(objects) if service["spec"]["selector"].items() <= pod.labels.items()]
        assert chosen, service["metadata"]["name"]
        for pod in chosen:
            numbers = {p["containerPort"] for c in pod.containers for p in c.get("ports", [])}
            assert {each["port"] for each in service["spec"]["ports"]} <= numbers


@overlays
def test_nothing_is_open_to_the_outside(overlay: str) -> None:
    for each in of_kind(rendered(overlay), "Service"):
        assert each["spec"].get("type", "ClusterIP") == "ClusterIP"
        assert all(port.get("protocol", "TCP") == "TCP" for port in each["spec"]["ports"])
    assert not of_kind(rendered(overlay), "HorizontalPodAutoscaler")


@overlays
def test_every_variable_of_an_argument_is_known_to_kubelet(overlay: str) -> None:
    objects = rendered(overlay)
    for pod, container in containers(objects):
        secrets = dict.fromkeys((f"gethrelay-only-onion-{n}-0-hostname" for n in (1, 2, 3)), "x.onion")
        known = environment(pod, container, objects, secrets)
        for text in container.get("args", []):
            assert set(REFERENCE.findall(text)) <= known.keys(), (container["name"], text)
        assert not any("$(" in value for value in known.values()), known


@overlays
def test_rights_are_for_the_address_book_alone(overlay: str) -> None:
    for role in of_kind(rendered(overlay), "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            (resource,) = rule["resources"]
            assert resource in ("configmaps", "leases", "events")
            assert resource != "configmaps" or rule["resourceNames"] == ["tor-peer-addresses"]
    assert not of_kind(rendered(overlay), "ClusterRole")


@overlays
def test_the_book_and_the_secrets_are_not_among_the_objects(overlay: str) -> None:
    """Whoever applies the manifests again would undo what relays wrote, or change the keys."""
    objects = rendered(overlay)
    assert "tor-peer-addresses" not in {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")}
    assert not of_kind(objects, "Secret")


@overlays
def test_why_a_program_of_ours_ended_is_in_the_pods_status(overlay: str) -> None:
    for _, each in containers(rendered(overlay)):
        if each["image"].startswith("pyrelay:") and each["name"] not in ("prune", "folder", "key"):
            assert each["terminationMessagePolicy"] == "FallbackToLogsOnError", each["name"]


def test_relays_start_in_parallel_and_keep_their_volumes() -> None:
    for overlay in OVERLAYS:
        for each in of_kind(rendered(overlay), "StatefulSet"):
            assert each["spec"].get("podManagementPolicy") == "Parallel" or each["spec"]["replicas"] == 1
            assert each["spec"]["persistentVolumeClaimRetentionPolicy"] == {
                "whenDeleted": "Retain",
                "whenScaled": "Retain",
            }


def test_pairs_are_what_their_template_makes() -> None:
    template = (ISOLATED / "relay.template.yaml").read_text()
    found = sorted((ISOLATED / "relays").iterdir())
    assert [each.name for each in found] == ["1", "2", "3"]
    for each in found:
        assert (each / "kustomization.yaml").read_text() == template.replace("@N@", each.name)


@kubectl
def test_one_more_pair(tmp_path: Path) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, copy)
    script = copy / "overlays" / "isolated-tor" / "add-relay.sh"
    for _ in range(2):  # again changes nothing
        subprocess.run([script, "4"], check=True)
    names = [each["metadata"]["name"] for each in of_kind(parse(kustomize(script.parent)), "StatefulSet")]
    assert names.count("gethrelay-only-onion-4") == names.count("gethrelay-tor-4") == 1
    assert len(names) == 8
    done = subprocess.run([script, "04"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'04'" in done.stderr


@kubectl
@pytest.mark.parametrize("network", ["sepolia", "hoodi"])
@pytest.mark.parametrize("overlay", ["bridge", "isolated-tor"])
def test_networks_are_components(overlay: str, network: str, tmp_path: Path) -> None:
    objects = with_component(tmp_path, overlay, f"network-{network}")
    for pod in pods(objects):
        if pod.labels.get("app.kubernetes.io/name") == "pyrelay":
            assert pod.container("pyrelay")["args"].count(f"--network={network}") == 1


@kubectl
@pytest.mark.parametrize("component", ["pod-monitor", "service-monitor"])
def test_monitors_scrape_ports_that_are_there(component: str, tmp_path: Path) -> None:
    objects = with_component(tmp_path, "bridge", component)
    (monitor,) = [each for each in objects if each["kind"].endswith("Monitor")]
    points = monitor["spec"].get("podMetricsEndpoints") or monitor["spec"]["endpoints"]
    ports = {each["name"] for _, c in containers(objects) for each in c.get("ports", [])}
    assert {each["port"] for each in points} == {"metrics", "discovery"}
    assert {each["port"] for each in points} <= ports
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert sum(wanted <= each["metadata"]["labels"].items() for each in of_kind(objects, "Service")) == 2


def with_component(folder: Path, overlay: str, component: str) -> list[dict[str, Any]]:
    shutil.copytree(FOLDER, folder / "kubernetes")
    own = folder / "kubernetes" / "overlays" / "own"
    own.mkdir()
    wanted = {"resources": [f"../{overlay}"], "components": [f"../../components/{component}"]}
    (own / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
    return parse(kustomize(own))
