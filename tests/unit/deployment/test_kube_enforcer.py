"""The enforcer of network policies on the tests' node: what it makes of our policies, and of odd ones."""

from __future__ import annotations

import re
from typing import Any

from tests.aids.kube_policies import State, rules, selects
from tests.aids.manifests import of_kind, rendered

NAMESPACES = {"gethrelay": {"kubernetes.io/metadata.name": "gethrelay"}, "monitoring": {}}


def pod(address: str, namespace: str = "gethrelay", **labels: str) -> dict[str, Any]:
    meta = {"namespace": namespace, "labels": {key.replace("__", "/"): each for key, each in labels.items()}}
    ports = [{"name": "web", "containerPort": 8080}]
    return {
        "metadata": meta,
        "status": {"podIP": address},
        "spec": {"containers": [{"name": "c", "ports": ports}]},
    }


def chains(state: State) -> dict[str, list[str]]:
    """Rules by the packets that they are for, such as "saddr 10.0.0.1"."""
    text = rules(state)
    bodies = dict(re.findall(r"chain (\w+) \{\n(.*?)\n  \}", text, re.S))
    jumps = re.findall(r"ip (saddr|daddr) (\S+) jump (\w+)", bodies["forward"])
    return {
        f"{way} {address}": [each.strip() for each in bodies[name].splitlines()]
        for way, address, name in jumps
    }


def test_a_relay_of_isolated_tor_gets_to_its_tor_and_the_api_server_alone() -> None:
    names = {"app.kubernetes.io__name": "pyrelay", "mode": "only-onion"}
    relay = pod("10.0.0.1", pair="1", **names)
    tor = pod("10.0.0.2", pair="1", **{"app.kubernetes.io__name": "pyrelay-tor"})
    other = pod("10.0.0.3", pair="2", **{"app.kubernetes.io__name": "pyrelay-tor"})
    found = chains(State([relay, tor, other], NAMESPACES, of_kind(rendered("isolated-tor"), "NetworkPolicy")))
    assert sorted(found["saddr 10.0.0.1"]) == [
        "drop", "ip daddr 10.0.0.2 tcp dport 9050 return", "ip daddr 192.0.2.1/32 tcp dport 6443 return",
    ]  # fmt: skip
    assert found["saddr 10.0.0.1"][-1] == "drop"
    assert "ip saddr 10.0.0.2 tcp dport 30304 return" in found["daddr 10.0.0.1"]
    assert not any("10.0.0.3" in each for each in found["saddr 10.0.0.1"] + found["daddr 10.0.0.1"])


def test_who_no_policy_selects_is_free() -> None:
    stranger = pod("10.0.0.9", namespace="monitoring")
    assert chains(State([stranger], NAMESPACES, of_kind(rendered("sidecar"), "NetworkPolicy"))) == {}


def test_ranges_names_and_empty_peers() -> None:
    spec = {
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": "web"}]}],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}],
                    "ports": [{"protocol": "UDP", "port": 1, "endPort": 9}]}, {}],
    }  # fmt: skip
    policy = {"metadata": {"namespace": "gethrelay"}, "spec": spec}
    found = chains(State([pod("10.0.0.1")], NAMESPACES, [policy]))
    assert found["daddr 10.0.0.1"] == ["tcp dport 8080 return", "drop"]
    assert found["saddr 10.0.0.1"] == [
        "ip daddr 0.0.0.0/0 ip daddr != { 10.0.0.0/8 } udp dport 1-9 return",
        "meta l4proto { tcp, udp, sctp, icmp } return", "drop",
    ]  # fmt: skip


def test_expressions_of_selectors() -> None:
    def one(operator: str, *values: str) -> bool:
        each = {"key": "a", "operator": operator, "values": list(values)}
        return selects({"matchExpressions": [each]}, {"a": "1"})

    assert one("In", "1", "2")
    assert not one("In", "2")
    assert not one("NotIn", "1")
    assert one("NotIn", "2")
    assert one("Exists")
    assert not one("DoesNotExist")
    assert selects({}, {})
