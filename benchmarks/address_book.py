"""What an address book costs a real API server: ``python -m benchmarks.address_book --pods 50 200``.

PYRELAY_TEST_KUBERNETES: the folder that tools/install-kubernetes.sh prints. Each pod writes one heartbeat, as
its sidecar does, while watchers count what they are sent; once into the shared map, once as an object a pod.
--at-once 200: that many pods start at the same moment with no book yet, as their init containers do.
--switch 60: whole sidecars in place of that; the last ten come when the others have filled the map.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import httpx2
import structlog

from relay.kubernetes.api import Api
from relay.kubernetes.failures import ApiFailed
from relay.kubernetes.following import BackOff
from relay.kubernetes.once import count_pods
from relay.kubernetes.options import BookMode, BookOptions
from relay.kubernetes.publisher import Publisher
from tests.aids.kube_apiserver import ApiServer, api_server
from tests.aids.kube_pods import RunningPod, api_of, make_pods, real_seams
from tests.aids.kube_sidecars import Sidecar, met, running

NAMESPACE = "gethrelay"
BOOK = "tor-peer-addresses"
BASE = Path(__file__).parents[1] / "deployment" / "kubernetes" / "base"
HEARTBEAT = 300.0  # seconds
WATCHERS = 5
WRITERS = 1  # at a time: heartbeats are spread over five minutes
SAMPLE = 20  # heartbeats that are measured, once every pod has written
SOURCES = {
    BookMode.CONFIGMAP: (
        f"/api/v1/namespaces/{NAMESPACE}/configmaps",
        {"fieldSelector": f"metadata.name={BOOK}"},
    ),
    BookMode.OBJECTS: (
        f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases",
        {"labelSelector": f"pyrelay/address-book={BOOK}"},
    ),
}


def install(server: ApiServer, *, policies: bool = True) -> None:
    with server.admin() as admin:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        admin.post("/api/v1/namespaces", json=body).raise_for_status()
    for name in ("rbac.yaml", "admission.yaml") if policies else ("rbac.yaml",):
        server.kubectl("apply", "-f", str(BASE / name))


async def watch(server: ApiServer, mode: BookMode, counted: list[int]) -> None:
    """Count the bytes of a watch, from now on."""
    path, selector = SOURCES[mode]
    context = ssl.create_default_context(cafile=str(server.ca))
    context.load_cert_chain(str(server.folder / "admin.crt"), str(server.folder / "admin.key"))
    async with httpx2.AsyncClient(base_url=server.url, verify=context, timeout=None) as client:
        listed = (await client.get(path, params=selector)).json()["metadata"]["resourceVersion"]
        params = {**selector, "watch": "true", "resourceVersion": listed}
        async with client.stream("GET", path, params=params) as response:
            counted.append(0)
            place = len(counted) - 1
            async for part in response.aiter_bytes():
                counted[place] += len(part)


async def beat(
    pods: list[RunningPod], mode: BookMode, publishers: dict[str, Publisher], stack: AsyncExitStack
) -> list[float]:
    """Write each pod's entry once; return the seconds that each took."""
    gate = asyncio.Semaphore(WRITERS)
    seams = real_seams()

    async def one(it: RunningPod) -> float:
        async with gate:
            if it.relay.name not in publishers:
                api = await stack.enter_async_context(api_of(it))
                publishers[it.relay.name] = Publisher(
                    api,
                    it.own,
                    it.relay.identity,
                    BookOptions(mode=mode),
                    wall=seams.wall,
                    random=seams.random,
                )
            start = time.perf_counter()
            await publishers[it.relay.name].publish()
            return time.perf_counter() - start

    return list(await asyncio.gather(*map(one, pods)))


async def start_at_once(server: ApiServer, pods: list[RunningPod]) -> dict[str, object]:
    """Let each look how many there are, and write its entry until it is taken."""
    seams = real_seams()
    publishers: list[Publisher] = []
    refusals: Counter[str] = Counter()

    async def begin(api: Api, it: RunningPod) -> float:
        backoff, book = BackOff(seams.random), BookOptions()
        while True:
            size = await count_pods(api, book, seconds=60.0)
            its = Publisher(
                api,
                it.own,
                it.relay.identity,
                book,
                wall=seams.wall,
                random=seams.random,
                size=partial(int, size),
            )
            publishers.append(its)
            try:
                await its.publish()
            except ApiFailed as error:
                refusals[error.trouble.value] += 1
                await asyncio.sleep(backoff.pause(error))
            else:
                return time.perf_counter() - start

    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(api_of(it)) for it in pods]
        cpu, start = _cpu(server), time.perf_counter()
        seconds = sorted(await asyncio.gather(*map(begin, apis, pods)))
    found = {mode: _count_of(server, mode) for mode in SOURCES}
    return {
        "pods": len(pods), "seconds_median": round(seconds[len(seconds) // 2], 1),
        "seconds_last": round(seconds[-1], 1), "server_cpu_s": round(_cpu(server) - cpu, 1),
        "in_map": found[BookMode.CONFIGMAP], "leases": found[BookMode.OBJECTS],
        "conflicts": sum(each.failed for each in publishers), "given_up": dict(refusals),
    }  # fmt: skip


def _count_of(server: ApiServer, mode: BookMode) -> int:
    """Count entries in the map, or Leases."""
    path, selector = SOURCES[mode]
    with server.admin() as admin:
        items = admin.get(path, params=selector).json()["items"]
    if mode is BookMode.OBJECTS:
        return len(items)
    return sum("signatures" in text for each in items for text in each.get("data", {}).values())


async def switch_over(server: ApiServer, folder: Path, count: int, heartbeat: float) -> dict[str, float]:
    """Let the last ten pods come, and look at all files until each entry is an object of its own."""
    names = [f"gethrelay-only-onion-{number}" for number in range(count)]
    limit = count - 10
    pods = make_pods(server, folder, NAMESPACE, names)
    options = {"objects_from": limit, "heartbeat": heartbeat, "stale_after": 40 * heartbeat}
    sidecars = [Sidecar(it, **options) for it in pods]
    first, last = sidecars[:limit], sidecars[limit:]
    counted: dict[BookMode, list[int]] = {mode: [] for mode in SOURCES}
    fewest = count
    async with running(*first, patience=60.0):
        await met(*first, deadline=600.0)
        watching = [asyncio.ensure_future(watch(server, mode, counted[mode])) for mode in SOURCES]
        before = sum(each.discovery.publisher.written for each in first)
        start = time.perf_counter()
        async with running(*last, patience=60.0):
            while not all(
                hasattr(each, "discovery") and each.discovery.publisher.objects for each in sidecars
            ):
                fewest = min(fewest, *(len(each.peers()) for each in first))
                await asyncio.sleep(0.5)
            seconds = time.perf_counter() - start
            await met(*sidecars, deadline=600.0)
            written = sum(each.discovery.publisher.written for each in sidecars)
            failed = sum(each.discovery.publisher.failed for each in sidecars)
        for each in watching:
            each.cancel()
            with suppress(asyncio.CancelledError):
                await each
    return {
        "pods": count, "limit": limit, "heartbeat": heartbeat, "seconds": round(seconds, 1),
        "writes": written - before, "tries_failed": failed, "fewest_peers_of_a_file": fewest,
        "map_bytes_to_one": sum(counted[BookMode.CONFIGMAP]),
        "lease_bytes_to_one": sum(counted[BookMode.OBJECTS]),
    }  # fmt: skip


async def measure(server: ApiServer, pods: list[RunningPod], mode: BookMode) -> dict[str, float]:
    publishers: dict[str, Publisher] = {}
    counted: list[int] = []
    async with AsyncExitStack() as stack:
        await beat(pods, mode, publishers, stack)
        watching = [asyncio.ensure_future(watch(server, mode, counted)) for _ in range(WATCHERS)]
        while len(counted) < WATCHERS:
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        cpu = _cpu(server)
        sample = pods[:: max(len(pods) // SAMPLE, 1)]
        seconds = sorted(await beat(sample, mode, publishers, stack))
        cpu = _cpu(server) - cpu
        await asyncio.sleep(3)
        for each in watching:
            each.cancel()
            with suppress(asyncio.CancelledError):
                await each
    with server.admin() as admin:
        found = admin.get(f"{SOURCES[BookMode.CONFIGMAP][0]}/{BOOK}").json()
    count = len(pods)
    per_minute = 60 / HEARTBEAT * count
    received = sum(counted) / WATCHERS / len(sample)
    return {
        "pods": count,
        "map_bytes": len(json.dumps(found, separators=(",", ":"))),
        "data_bytes": len(json.dumps(found.get("data", {}), separators=(",", ":"))),
        "event_bytes": round(received),
        "writes_per_minute": round(per_minute),
        "bytes_per_minute_each": round(received * per_minute),
        "bytes_per_minute_all": round(received * per_minute * count),
        "write_ms_median": round(seconds[len(seconds) // 2] * 1000, 1),
        "server_cpu_ms_per_write": round(cpu / len(sample) * 1000, 1),
        "tries_failed": sum(each.failed for each in publishers.values()),
    }


def _cpu(server: ApiServer) -> float:
    ticks = 0
    for process in server.processes.values():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", nargs="+", type=int, default=[10, 50, 200])
    parser.add_argument("--modes", nargs="+", type=BookMode, default=list(SOURCES))
    parser.add_argument("--without-policies", action="store_true")
    parser.add_argument("--at-once", type=int, metavar="PODS", help="measure a cold start of all together")
    parser.add_argument("--switch", type=int, metavar="PODS", help="measure the switch-over to objects")
    parser.add_argument("--heartbeat", type=float, default=60.0, help="seconds, for --switch")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if arguments.switch or arguments.at_once:
        with tempfile.TemporaryDirectory(prefix="book") as folder:
            path = Path(folder) / "kube"
            path.mkdir()
            with api_server(Path(os.environ["PYRELAY_TEST_KUBERNETES"]), path) as server:
                install(server)
                if arguments.at_once:
                    names = [f"gethrelay-only-onion-{number}" for number in range(arguments.at_once)]
                    pods = make_pods(server, Path(folder), NAMESPACE, names)
                    print(json.dumps(asyncio.run(start_at_once(server, pods))))
                else:
                    made = switch_over(server, Path(folder), arguments.switch, arguments.heartbeat)
                    print(json.dumps(asyncio.run(made)))
        return
    results = []
    for count in arguments.pods:
        with tempfile.TemporaryDirectory(prefix="book") as folder:
            path = Path(folder) / "kube"
            path.mkdir()
            with api_server(Path(os.environ["PYRELAY_TEST_KUBERNETES"]), path) as server:
                install(server, policies=not arguments.without_policies)
                for mode in arguments.modes:
                    with server.admin() as admin:
                        admin.delete(f"{SOURCES[BookMode.CONFIGMAP][0]}/{BOOK}")
                        admin.delete(f"/api/v1/namespaces/{NAMESPACE}/pods", params={"gracePeriodSeconds": 0})
                    names = [f"gethrelay-only-onion-{number}" for number in range(count)]
                    pods = make_pods(server, Path(folder) / mode.value, NAMESPACE, names)
                    found = {"mode": mode.value, **asyncio.run(measure(server, pods, mode))}
                    print(json.dumps(found), flush=True)
                    results.append(found)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
