"""A small API server of Kubernetes that can be told to misbehave: for what a real one seldom does.

It keeps ConfigMaps and Leases, applies by server-side apply (one owner a key), and streams watches. What real
rules there are (RBAC, admission, field ownership in full) tests/kubernetes asks a real kube-apiserver about.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

NAMESPACE = "relays"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status(code: int, message: str, **headers: str) -> Answer:
    """Answer with a Status, as the API server does."""

    async def answer(_: web.Request) -> web.StreamResponse:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
        text = json.dumps(body).encode()
        return web.Response(body=text, content_type="application/json", status=code, headers=headers)

    return answer


def raw(code: int, body: bytes, content_type: str = "application/json") -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=body, content_type=content_type)

    return answer


async def half(request: web.Request) -> web.StreamResponse:
    """Half an answer, then nothing."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"kind": "ConfigMap", "metadata": {"na')
    assert request.transport is not None
    request.transport.abort()
    return response


class KubernetesServer:
    """State and misbehaviour.

    Attributes:
        answers: by verb and resource, what the next requests get in place of what is right.
        always: the same, for every request while it is set.
        asked: requests by verb and resource.
        token: that requests must bear; None for any.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.managers: dict[tuple[str, str], dict[str, set[str]]] = {}
        self.version = 100
        self.oldest = 0
        self.answers: dict[tuple[str, str], deque[Answer]] = {}
        self.always: dict[tuple[str, str], Answer] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.requests: list[tuple[str, str, Any]] = []
        self.token: str | None = None
        self.events: list[dict[str, Any]] = []
        self._history: list[tuple[int, str, str, dict[str, Any]]] = []
        self._changed = asyncio.Event()
        self._cut = 0
        self.url = ""

    def next(self, verb: str, resource: str, *answers: Answer) -> None:
        self.answers.setdefault((verb, resource), deque()).extend(answers)

    def data(self, name: str = "tor-peer-addresses") -> dict[str, str]:
        return dict(self.objects.get(("configmaps", name), {}).get("data", {}))

    def put(self, data: dict[str, str], name: str = "tor-peer-addresses") -> None:
        """Edit the map by hand."""
        key = ("configmaps", name)
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self._store(kind, "configmaps", {"metadata": {"name": name, "namespace": NAMESPACE}, "data": data})

    def delete(self, resource: str, name: str) -> None:
        found = self.objects.pop((resource, name))
        self.managers.pop((resource, name), None)
        self._note("DELETED", resource, found)

    def compact(self) -> None:
        """Forget what happened: watches from before get 410."""
        self.oldest = self.version

    def cut_watches(self) -> None:
        """End every watch in good order."""
        self._cut += 1
        self._changed.set()

    # -- serving --------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        resource = request.match_info["resource"]
        name = request.match_info.get("name")
        verb = self._verb(request, name)
        self.asked[verb, resource] += 1
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return await status(401, "Unauthorized")(request)
        waiting = self.answers.get((verb, resource))
        if waiting:
            return await waiting.popleft()(request)
        if (verb, resource) in self.always:
            return await self.always[verb, resource](request)
        return await getattr(self, f"_{verb}")(request, resource, name)

    @staticmethod
    def _verb(request: web.Request, name: str | None) -> str:
        if request.method == "GET" and name is None:
            return "watch" if request.query.get("watch") == "true" else "list"
        return {"GET": "get", "PATCH": "patch", "POST": "create", "DELETE": "delete"}[request.method]

    async def _get(self, request: web.Request, resource: str, name: str) -> web.StreamResponse:
        found = self.objects.get((resource, name))
        if found is None:
            return await status(404, f'{resource} "{name}" not found')(request)
        return web.json_response(found)

    async def _list(self, request: web.Request, resource: str, _: None) -> web.StreamResponse:
        items = [each for each in self._of(resource) if self._selected(request, each)]
        return web.json_response({"items": items, "metadata": {"resourceVersion": str(self.version)}})

    async def _create(self, request: web.Request, resource: str, _: None) -> web.StreamResponse:
        body = await request.json()
        self.events.append(body)
        return web.json_response(body, status=201)

    async def _delete(self, request: web.Request, resource: str, name: str) -> web.StreamResponse:
        if (resource, name) not in self.objects:
            return await status(404, "not found")(request)
        self.delete(resource, name)
        return web.json_response({"kind": "Status", "status": "Success"})

    async def _patch(self, request: web.Request, resource: str, name: str) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.requests.append((resource, name, body))
        key = (resource, name)
        if isinstance(body, list):
            data = self.objects[key]["data"]
            entry = body[0]["path"].removeprefix("/data/")
            if data.get(entry) != body[0]["value"]:
                return await status(422, "the server rejected our request due to an error in our request")(
                    request
                )
            fresh = dict(self.objects[key], data={k: v for k, v in data.items() if k != entry})
            return web.json_response(self._store("MODIFIED", resource, fresh))
        kind = "MODIFIED" if key in self.objects else "ADDED"
        if resource == "leases":
            return web.json_response(self._store(kind, resource, body))
        manager = request.query["fieldManager"]
        owned = self.managers.setdefault(key, {})
        data = dict(self.objects.get(key, {}).get("data", {}))
        for gone in owned.get(manager, set()) - set(body["data"]):
            data.pop(gone, None)
        owned[manager] = set(body["data"])
        data.update(body["data"])
        return web.json_response(self._store(kind, resource, dict(body, data=data)))

    async def _watch(self, request: web.Request, resource: str, _: None) -> web.StreamResponse:
        position = int(request.query.get("resourceVersion") or self.version)
        cut = self._cut
        if position < self.oldest:
            return await status(410, "too old resource version")(request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        while self._cut == cut:
            self._changed.clear()
            for version, kind, of, item in list(self._history):
                if version > position and of == resource and self._selected(request, item):
                    position = version
                    await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")
            position = max(position, self.version)
            if self.oldest > position:
                await response.write(
                    json.dumps(
                        {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "gone"}}
                    ).encode()
                    + b"\n"
                )
                return response
            await self._changed.wait()
        await response.write_eof()
        return response

    # -- state ----------------------------------------------------------------------------------------

    def _of(self, resource: str) -> list[dict[str, Any]]:
        return [item for (of, _), item in self.objects.items() if of == resource]

    @staticmethod
    def _selected(request: web.Request, item: dict[str, Any]) -> bool:
        field = request.query.get("fieldSelector")
        label = request.query.get("labelSelector")
        if field is not None and item["metadata"]["name"] != field.removeprefix("metadata.name="):
            return False
        if label is not None:
            name, _, value = label.partition("=")
            return bool(item["metadata"].get("labels", {}).get(name) == value.lstrip("="))
        return True

    def _store(self, kind: str, resource: str, item: dict[str, Any]) -> dict[str, Any]:
        stored: dict[str, Any] = json.loads(json.dumps(item))
        self.version += 1
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.objects[resource, stored["metadata"]["name"]] = stored
        self._record(kind, resource, stored)
        return stored

    def _note(self, kind: str, resource: str, item: dict[str, Any]) -> None:
        self.version += 1
        item = json.loads(json.dumps(item))
        item["metadata"]["resourceVersion"] = str(self.version)
        self._record(kind, resource, item)

    def _record(self, kind: str, resource: str, item: dict[str, Any]) -> None:
        self._history.append((self.version, kind, resource, item))
        self._changed.set()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@asynccontextmanager
async def serving() -> AsyncIterator[KubernetesServer]:
    """Run one on a free port of loopback."""
    server = KubernetesServer()
    app = web.Application()
    for group in ("/api/v1", "/apis/coordination.k8s.io/v1"):
        base = f"{group}/namespaces/{NAMESPACE}/{{resource}}"
        app.router.add_route("*", base, server.handle)
        app.router.add_route("*", base + "/{name}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.cut_watches()
        with suppress(TimeoutError):
            await runner.cleanup()


def kubeconfig(folder: Path, url: str, **user: str) -> Path:
    """Write a kubeconfig for a server; user: token, tokenFile."""
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "me", "user": user or {"token": "t"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
        "current-context": "it",
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
