"""The rendered Kubernetes manifests, and what kubelet and a network enforcer would make of them."""

from __future__ import annotations

import copy
import functools
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

Object: TypeAlias = dict[str, Any]

FOLDER: Final = Path(__file__).parents[2] / "deployment" / "kubernetes"
OVERLAYS: Final = ("sidecar", "pre-generated-keys", "bridge", "federated", "isolated-tor")
REFERENCE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def rendered(overlay: str) -> list[Object]:
    """Read the committed output of an overlay; each call gives objects of its own."""
    return copy.deepcopy(_read(overlay))


@functools.cache
def _read(overlay: str) -> list[Object]:
    return parse((FOLDER / "rendered" / f"{overlay}.yaml").read_text())


def parse(text: str) -> list[Object]:
    """Read all documents of a stream."""
    # PyYAML's own loader takes seconds for an overlay.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all(text, loader) if each]


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    """Pick one kind."""
    return [each for each in objects if each["kind"] == kind]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as its template makes it. name: of the first pod of the set."""

    owner: str
    name: str
    labels: Mapping[str, str]
    spec: Object

    @property
    def containers(self) -> list[Object]:
        """All, in the order in which they start."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def container(self, name: str) -> Object:
        """Find one by its name."""
        return next(each for each in self.containers if each["name"] == name)

    @property
    def volumes(self) -> dict[str, Object]:
        """By name, with those of the claim templates."""
        return {each["name"]: each for each in self.spec.get("volumes", [])}


def pods(objects: Sequence[Object]) -> list[Pod]:
    """One pod of each workload."""
    found = []
    for each in objects:
        if each["kind"] == "StatefulSet":
            template = each["spec"]["template"]
            spec = dict(template["spec"])
            claims = [
                {"name": claim["metadata"]["name"], "claim": claim}
                for claim in each["spec"]["volumeClaimTemplates"]
            ]
            spec["volumes"] = [*spec["volumes"], *claims]
            name = f"{each['metadata']['name']}-0"
        elif each["kind"] == "CronJob":
            template = each["spec"]["jobTemplate"]["spec"]["template"]
            spec, name = template["spec"], f"{each['metadata']['name']}-1"
        else:
            continue
        found.append(Pod(each["metadata"]["name"], name, template["metadata"]["labels"], spec))
    return found


def service_variables(objects: Sequence[Object]) -> dict[str, str]:
    """What kubelet tells pods with enableServiceLinks: an address for each Service that has one."""
    found = {}
    for number, each in enumerate(of_kind(objects, "Service"), start=1):
        if each["spec"].get("clusterIP") != "None":
            name = each["metadata"]["name"].upper().replace("-", "_")
            found[f"{name}_SERVICE_HOST"] = f"10.96.0.{number}"
    return found


def environment(
    pod: Pod, container: Object, objects: Sequence[Object], secrets: Mapping[str, str]
) -> dict[str, str]:
    """Give a container's variables as kubelet makes them. secrets: by key."""
    links = service_variables(objects) if pod.spec.get("enableServiceLinks", True) else {}
    fields = {
        "metadata.name": pod.name, "metadata.namespace": "gethrelay", "metadata.uid": "c0ffee",
        "status.podIP": "10.244.0.7",
    }  # fmt: skip
    found = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", **links}
    for each in container.get("env", []):
        source = each.get("valueFrom", {})
        if "fieldRef" in source:
            found[each["name"]] = fields[source["fieldRef"]["fieldPath"]]
        elif "secretKeyRef" in source:
            found[each["name"]] = secrets[source["secretKeyRef"]["key"]]
        elif "configMapKeyRef" in source:
            wanted = source["configMapKeyRef"]
            (data,) = (
                m["data"] for m in of_kind(objects, "ConfigMap") if m["metadata"]["name"] == wanted["name"]
            )
            found[each["name"]] = data[wanted["key"]]
        else:
            found[each["name"]] = expand(each["value"], found)
    return found


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME); kubelet leaves what it does not know."""
    return REFERENCE.sub(lambda match: variables.get(match[1], match[0]), text)


# -- network policies ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection: a pod by its labels, or an address outside."""

    labels: Mapping[str, str] | None = None
    namespace: str = "gethrelay"
    address: str = ""


def may_connect(
    objects: Sequence[Object], source: End, target: End, port: int, protocol: str = "TCP"
) -> bool:
    """Tell whether all policies together let one end open a connection to the other."""
    return _allowed(objects, source, target, port, protocol, "egress") and _allowed(
        objects, target, source, port, protocol, "ingress"
    )


def _allowed(objects: Sequence[Object], own: End, other: End, port: int, protocol: str, way: str) -> bool:
    if own.labels is None or own.namespace != "gethrelay":
        return True
    selecting = [
        each["spec"]
        for each in of_kind(objects, "NetworkPolicy")
        if _selects(each["spec"]["podSelector"], own.labels)
        and way.capitalize() in each["spec"]["policyTypes"]
    ]
    rules = [rule for spec in selecting for rule in spec.get(way, [])]
    side = "to" if way == "egress" else "from"
    return not selecting or any(
        any(_peer(peer, other) for peer in rule[side]) and _port(rule["ports"], port, protocol)
        for rule in rules
    )


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
    )


def _peer(peer: Object, end: End) -> bool:
    if "ipBlock" in peer:
        if not end.address:
            return False
        address, block = ipaddress.ip_address(end.address), peer["ipBlock"]
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(each) for each in block.get("except", []))
    if end.labels is None:
        return False
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace}):
            return False
    elif end.namespace != "gethrelay":
        return False
    return _selects(peer.get("podSelector", {}), end.labels)


def _port(ports: Sequence[Object], port: int, protocol: str) -> bool:
    return any(
        each.get("protocol", "TCP") == protocol
        and int(each["port"]) <= port <= int(each.get("endPort") or each["port"])
        for each in ports
    )


def mounted(pod: Pod, container: Object, path: str) -> Object | None:
    """Find the mount that holds a path."""
    fitting = [
        each
        for each in container.get("volumeMounts", [])
        if path == each["mountPath"] or path.startswith(each["mountPath"] + "/")
    ]
    return max(fitting, key=lambda each: len(each["mountPath"]), default=None)


def containers(objects: Sequence[Object]) -> Iterator[tuple[Pod, Object]]:
    """All containers with their pods."""
    for pod in pods(objects):
        for each in pod.containers:
            yield pod, each
