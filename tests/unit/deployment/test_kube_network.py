"""Network policies, as an enforcer reads them: who may reach whom in each overlay."""

from __future__ import annotations

from typing import Final

import pytest

from tests.aids.manifests import OVERLAYS, End, Object, Pod, may_connect, pods, rendered

GUARD: Final = End(address="198.51.100.7")
PRIVATE: Final = [
    End(address=each)
    for each in ("10.0.0.1", "10.255.0.1", "100.127.0.1", "127.0.0.1", "169.254.169.254", "172.31.0.1",
                 "192.168.255.1", "192.0.0.8", "198.19.0.1", "224.0.0.251", "250.0.0.1", "0.0.0.1")
]  # fmt: skip
API: Final = End(address="192.0.2.1")
DNS: Final = End({"k8s-app": "kube-dns"}, "kube-system")
PROMETHEUS: Final = End({"app": "prometheus"}, "monitoring")
STRANGER: Final = End({"app.kubernetes.io/name": "pyrelay-tor", "pair": "1"}, "elsewhere")
overlays = pytest.mark.parametrize("overlay", OVERLAYS)


def end(pod: Pod) -> End:
    return End(pod.labels)


def named(objects: list[Object], owner: str) -> End:
    return next(end(pod) for pod in pods(objects) if pod.owner == owner)


def only_onion(objects: list[Object]) -> list[End]:
    return [end(pod) for pod in pods(objects) if pod.labels.get("mode") == "only-onion"]


@overlays
def test_an_only_onion_pod_reaches_no_resolver_no_private_address_and_nothing_by_udp(overlay: str) -> None:
    objects = rendered(overlay)
    for relay in only_onion(objects):
        for port in (53, 443, 30303):
            assert not may_connect(objects, relay, DNS, port)
            assert not may_connect(objects, relay, DNS, port, "UDP")
            assert not any(may_connect(objects, relay, each, port) for each in PRIVATE)
            assert not may_connect(objects, relay, GUARD, port, "UDP")
        assert may_connect(objects, relay, API, 6443)


@overlays
def test_nobody_comes_in_but_prometheus(overlay: str) -> None:
    objects = rendered(overlay)
    for pod in pods(objects):
        relay = pod.labels["app.kubernetes.io/name"] == "pyrelay"
        for port in (6060, 6061):
            assert may_connect(objects, PROMETHEUS, end(pod), port) is relay
        for port in (9050, 9051, 9035, 30303, 30304, 8545):
            for other in (GUARD, PROMETHEUS, STRANGER):
                assert not may_connect(objects, other, end(pod), port), (pod.owner, port)


def test_a_sidecar_pod_reaches_the_internet_by_tcp() -> None:
    objects = rendered("sidecar")
    (relay,) = only_onion(objects)
    assert may_connect(objects, relay, GUARD, 9001)


def test_an_isolated_relay_reaches_its_own_tor_and_no_guard() -> None:
    objects = rendered("isolated-tor")
    for number in "123":
        relay, tor = (
            named(objects, f"gethrelay-only-onion-{number}"),
            named(objects, f"gethrelay-tor-{number}"),
        )
        assert not may_connect(objects, relay, GUARD, 9001)
        assert not may_connect(objects, relay, GUARD, 443)
        assert may_connect(objects, tor, GUARD, 9001)
        assert not any(may_connect(objects, tor, each, 9001) for each in PRIVATE)
        for other in "123":
            theirs = named(objects, f"gethrelay-tor-{other}")
            assert may_connect(objects, relay, theirs, 9050) is (number == other)
            assert not may_connect(objects, relay, theirs, 9051)
            assert may_connect(objects, theirs, relay, 30304) is (number == other)
            if number != other:
                assert not may_connect(objects, relay, named(objects, f"gethrelay-only-onion-{other}"), 30304)


def test_the_bridge_alone_sends_udp_and_asks_names() -> None:
    objects = rendered("bridge")
    bridge = named(objects, "gethrelay-bridge")
    assert may_connect(objects, bridge, GUARD, 30303, "UDP")
    assert may_connect(objects, bridge, DNS, 53, "UDP")
    assert not any(may_connect(objects, bridge, each, 443) for each in PRIVATE)
    (relay,) = only_onion(objects)
    assert not may_connect(objects, bridge, relay, 30304)


def test_the_prune_job_reaches_the_api_server_alone() -> None:
    objects = rendered("sidecar")
    job = named(objects, "tor-peer-prune")
    assert may_connect(objects, job, API, 6443)
    assert not may_connect(objects, job, GUARD, 443)


def test_without_its_policy_a_relay_would_reach_what_is_forbidden() -> None:
    """The evaluator says no because of the policies, and not whatever they say."""
    objects = [each for each in rendered("isolated-tor") if each["kind"] != "NetworkPolicy"]
    assert may_connect(objects, only_onion(objects)[0], GUARD, 443)
