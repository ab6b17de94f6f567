"""Relays of a cluster as processes: what a pod's containers run, against the cluster's own API server."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, Any

from relay.kubernetes.identity import load_identity
from relay.localnet.client import ClientHandle
from tests.aids.daemon import ROOT
from tests.aids.kube_apiserver import ApiServer
from tests.aids.kube_pods import RELAYS, create_pod, token
from tests.aids.lab import OnionRelay, through
from tests.aids.until import until

BOOK = "tor-peer-addresses"
SECONDS = 240.0


class Cluster:
    """A cluster: an API server, a Secret, a Tor for its pods.

    Args:
        name: of the cluster; pods of all clusters have the same names.
        server: with rights and policies in force.
        folder: for volumes; its path is short, sockets are below it.
        network: the chain's genesis.json.
        tor: of the pods.
        stack: ends what runs.

    Attributes:
        relays: in the order of their pods.
    """

    namespace = "gethrelay"

    def __init__(
        self,
        name: str,
        server: ApiServer,
        folder: Path,
        network: Path,
        tor: ClientHandle,
        stack: AsyncExitStack,
    ) -> None:
        self.name, self.server, self.tor, self.network = name, server, tor, network
        self.folder, self._stack = folder / name, stack
        self.folder.mkdir()
        self.secret = self.folder / "cluster-key"
        self.secret.write_text(secrets.token_hex(32))
        self.relays: list[PodRelay] = []

    async def scale(self, replicas: int, *flags: str, sidecar: tuple[str, ...] = ()) -> None:
        """Start pods until there are so many, all at once; return when all are ready."""
        more = [self._pod(number, flags, sidecar) for number in range(len(self.relays), replicas)]
        self.relays += more
        async with asyncio.TaskGroup() as starts:
            for each in more:
                starts.create_task(each.begin())

    def _pod(self, number: int, flags: tuple[str, ...], sidecar: tuple[str, ...]) -> PodRelay:
        found = PodRelay(self, f"gethrelay-only-onion-{number}", flags, sidecar)
        self._stack.push_async_callback(found.end)
        return found

    def book(self) -> dict[str, dict[str, Any]]:
        """Entries by pod."""
        with self.server.admin() as admin:
            answer = admin.get(f"/api/v1/namespaces/{self.namespace}/configmaps/{BOOK}")
        data = answer.json().get("data", {}) if answer.status_code == 200 else {}
        return {pod: json.loads(text) for pod, text in data.items()}

    async def records(self) -> list[str]:
        """What the entries say once every daemon has published its service: enr:..."""

        def told() -> list[str]:
            found = [each["enr"] for each in self.book().values() if "enr" in each]
            return found if len(found) == len(self.relays) else []

        found: list[str] = await until(told, lambda: f"records in {self.name}'s book: {self.book()}", SECONDS)
        return found

    def empty(self) -> None:
        """Remove the pods and the book."""
        with self.server.admin() as admin:
            admin.delete(f"/api/v1/namespaces/{self.namespace}/configmaps/{BOOK}")
            admin.delete(f"/api/v1/namespaces/{self.namespace}/pods", params={"gracePeriodSeconds": 0})


class PodRelay(OnionRelay):
    """One pod: identity, static-nodes, discovery and the daemon, as the rendered manifests order them."""

    def __init__(self, cluster: Cluster, pod: str, flags: tuple[str, ...], sidecar: tuple[str, ...]) -> None:
        mode = ("--only-onion", *through(cluster.tor))
        super().__init__(cluster.folder / pod[-7:], cluster.network, *mode, *flags)
        for name in ("nodekey", "onion_key"):
            (self.directory / name).unlink()  # `identity` makes them
        self.pod, self._cluster, self._sidecar = pod, cluster, sidecar
        self._said: IO[bytes] = (self.directory.parent / f"{self.directory.name}.log").open("w+b")
        self._discovery: asyncio.subprocess.Process | None = None
        self._account, self._uid = self.directory.parent / f"{self.directory.name}-account", ""

    async def begin(self) -> None:
        """Start the containers one after the other; return when the pod is ready."""
        server, namespace = self._cluster.server, self._cluster.namespace
        with server.admin() as admin:
            self._uid = create_pod(admin, namespace, self.pod, RELAYS)
            bound = token(admin, namespace, RELAYS, self.pod, self._uid)
        server.account(self._account, bound, namespace)
        await self._ended("identity", "--no-publish")
        identity = load_identity(self.directory)
        self.key, self.onion_key = identity.node, identity.onion
        await self._ended("static-nodes", "--cluster-key-file", str(self._cluster.secret))
        await self.start_discovery(*self._sidecar)
        await self.start(SECONDS)

    async def start_discovery(self, *flags: str) -> None:
        """Start the sidecar."""
        key = ("--cluster-key-file", str(self._cluster.secret))
        self._discovery = await self._program("discovery", "--metrics", "off", *key, *flags)

    async def join(self, url: str) -> int:
        """Run `pyrelay kubernetes join` beside this daemon; return the exit code."""
        program = await self._program("join", url, beside=False)
        return await program.wait()

    async def end(self) -> None:
        """End both, the sidecar in good order."""
        await self.stop()
        if self._discovery is not None:
            if self._discovery.returncode is None:
                self._discovery.send_signal(signal.SIGTERM)
            code = await self._discovery.wait()
            assert code == 0, self.said()
        self._said.close()

    def said(self) -> str:
        """What the programs beside the daemon said."""
        return Path(self._said.name).read_text(errors="replace")[-4000:]

    async def _ended(self, action: str, *flags: str) -> None:
        code = await (await self._program(action, *flags)).wait()
        assert code == 0, self.said()

    async def _program(self, action: str, *flags: str, beside: bool = True) -> asyncio.subprocess.Process:
        host, _, port = self._cluster.server.url.removeprefix("https://").partition(":")
        env = {
            "PATH": os.environ["PATH"], "HOME": str(self._cluster.folder), "POD_NAME": self.pod,
            "POD_UID": self._uid, "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port,
        }  # fmt: skip
        where = ("--account", str(self._account)) if beside else ()
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relay.localnet.leash", "relay.cli.main",
            "kubernetes", action, *flags, *where,
            "--datadir", str(self.directory), "--only-onion", "--tor-proxy", str(self._cluster.tor.socks),
            "--log-format", "text",
            cwd=ROOT, env=env, stdin=asyncio.subprocess.PIPE, stdout=self._said, stderr=self._said,
        )  # fmt: skip
