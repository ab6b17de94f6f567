"""Enforces NetworkPolicies on a node by nftables: a plain reading of networking.k8s.io/v1.

``python -m tests.aids.kube_policies URL FOLDER`` in the node's network; FOLDER has ca.crt and admin's
certificate. Pod and namespace selectors, ipBlock with except, ports by number, name and range, both ways,
default deny. Traffic of the node itself, such as kubelet's probes, is never filtered. It shows what policies
select, not how Calico or Cilium act.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
EVERY = 0.5  # seconds between two looks
TABLE = "pyrelay_policies"


@dataclass(frozen=True)
class State:
    """What the rules are made of: all pods that have an address, labels of namespaces, all policies."""

    pods: Sequence[Object]
    namespaces: Mapping[str, Mapping[str, str]]
    policies: Sequence[Object]


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes something with these labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(each, labels) for each in selector.get("matchExpressions") or [])


def _expression(each: Object, labels: Mapping[str, str]) -> bool:
    there, values = each["key"] in labels, each.get("values") or []
    match each["operator"]:
        case "Exists":
            return there
        case "DoesNotExist":
            return not there
        case "In":
            return there and labels[each["key"]] in values
        case _:
            return not there or labels[each["key"]] not in values


def rules(state: State) -> str:
    """The whole table; it replaces the one of before at once."""
    chains, jumps = [], {"Egress": "", "Ingress": ""}
    for number, pod in enumerate(state.pods):
        address = pod["status"]["podIP"]
        for way, own in (("Egress", "saddr"), ("Ingress", "daddr")):
            mine = [each for each in state.policies if _rules_for(each, pod, way)]
            if mine:
                name = f"{way.lower()}_{number}"
                lines = [line for each in mine for line in _allowed(state, each, pod, way)]
                body = "".join(f"    {line} return\n" for line in lines)
                chains.append(f"  chain {name} {{\n{body}    drop\n  }}\n")
                jumps[way] += f"    ip {own} {address} jump {name}\n"
    known = "    ct state established,related accept\n"
    forward, local = known + jumps["Egress"] + jumps["Ingress"], known + jumps["Egress"]
    hooks = "".join(
        f"  chain {hook} {{\n    type filter hook {hook} priority 10; policy accept;\n{text}  }}\n"
        for hook, text in (("forward", forward), ("input", local))
    )
    return (
        f"table ip {TABLE} {{}}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n{''.join(chains)}{hooks}}}\n"
    )


def _rules_for(policy: Object, pod: Object, way: str) -> bool:
    spec = policy["spec"]
    return (
        policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and way in (spec.get("policyTypes") or ["Ingress"])
        and selects(spec.get("podSelector") or {}, pod["metadata"].get("labels") or {})
    )


def _allowed(state: State, policy: Object, pod: Object, way: str) -> Iterator[str]:
    side, far = ("to", "daddr") if way == "Egress" else ("from", "saddr")
    for rule in policy["spec"].get(way.lower()) or []:
        for target, match in _peers(state, policy["metadata"]["namespace"], rule.get(side) or [{}], far):
            ported = pod if way == "Ingress" else target
            for port in _ports(rule.get("ports") or [], ported):
                yield f"{match} {port}".strip() or "meta l4proto { tcp, udp, sctp, icmp }"


def _peers(state: State, own: str, peers: Sequence[Object], far: str) -> Iterator[tuple[Object | None, str]]:
    """Each pod or block that peers mean, and how its packets are told."""
    for peer in peers:
        if not peer:
            yield None, ""
        elif block := peer.get("ipBlock"):
            if ":" not in block["cidr"]:
                but = ", ".join(block.get("except") or [])
                yield None, f"ip {far} {block['cidr']}" + (f" ip {far} != {{ {but} }}" if but else "")
        else:
            for pod in state.pods:
                namespace = pod["metadata"]["namespace"]
                wanted = peer.get("namespaceSelector")
                here = namespace == own if wanted is None else selects(wanted, state.namespaces[namespace])
                if here and selects(peer.get("podSelector") or {}, pod["metadata"].get("labels") or {}):
                    yield pod, f"ip {far} {pod['status']['podIP']}"


def _ports(ports: Sequence[Object], pod: Object | None) -> Iterator[str]:
    if not ports:
        yield ""
    for each in ports:
        protocol, port = each.get("protocol", "TCP").lower(), each.get("port")
        if port is None:
            yield f"meta l4proto {protocol}"
        elif isinstance(port, str):
            for number in _named(port, pod):
                yield f"{protocol} dport {number}"
        else:
            yield f"{protocol} dport {port}" + (f"-{each['endPort']}" if "endPort" in each else "")


def _named(name: str, pod: Object | None) -> Iterator[int]:
    spec = pod["spec"] if pod else {}
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        for port in container.get("ports") or []:
            if port.get("name") == name:
                yield int(port["containerPort"])


def _read(url: str, context: ssl.SSLContext) -> State:
    def items(path: str) -> list[Object]:
        with urllib.request.urlopen(url + path, context=context, timeout=10) as answer:
            return list(json.load(answer)["items"])

    live = [
        each
        for each in items("/api/v1/pods")
        if each["status"].get("podIP") and each["status"].get("phase") in ("Pending", "Running")
    ]
    namespaces = {
        each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in items("/api/v1/namespaces")
    }
    return State(live, namespaces, items("/apis/networking.k8s.io/v1/networkpolicies"))


def main() -> None:
    """Keep the table as the policies are, until killed."""
    url, folder = sys.argv[1:]
    context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
    context.load_cert_chain(f"{folder}/admin.crt", f"{folder}/admin.key")
    last = ""
    while True:
        try:
            text = rules(_read(url, context))
        except OSError as error:  # the API server is away: the rules stay
            print(f"not read: {error}", flush=True)
            text = last
        if text != last:
            subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
            last = text
            print(f"{time.strftime('%T')} {text.count('jump')} chains", flush=True)
        time.sleep(EVERY)


if __name__ == "__main__":
    main()
