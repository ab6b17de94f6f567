"""The calls to the API server that an address book needs, on lightkube.

Each failure is an ApiFailed that names the verb and the object. lightkube's own watch is used for one
connection at a time: relay.kubernetes.following decides what comes after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx2
import msgspec
from lightkube import ApiError, AsyncClient
from lightkube.core.exceptions import ConfigError
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import ConfigMap, Event
from lightkube.types import PatchType

from relay.kubernetes.failures import ApiFailed, Asked, Trouble, failure_of_status
from relay.kubernetes.transport import ApiTransport, WatchEnded

__all__ = ["Api", "Change", "Listed", "Stored"]

ENTRY: Final = "pyrelay/entry"
"""The annotation of a Lease that holds an entry."""
BOOK_LABEL: Final = "pyrelay/address-book"
PAGE: Final = 250  # objects of one answer to a list
LONGEST_RETRY: Final = 300.0  # seconds of a Retry-After that we heed


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of the address book: the shared map, or one relay's Lease.

    Attributes:
        name: of the object.
        version: resourceVersion.
        data: of the map; of a Lease its entry, under the pod's name.
        managers: who wrote which key, and when by the API server's clock: the latest of each key.
    """

    name: str
    version: str
    data: Mapping[str, str]
    managers: Mapping[str, datetime]


@dataclass(frozen=True, slots=True)
class Listed:
    """All there is, and the version to watch from."""

    version: str
    items: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """An event of a watch. gone: the object was deleted."""

    item: Stored
    gone: bool


class Api:
    """Asks one API server about one namespace.

    Args:
        client: of lightkube, over `transport`.
        transport: knows the server's clock.
        namespace: of all objects.
    """

    def __init__(self, client: AsyncClient, transport: ApiTransport, namespace: str) -> None:
        self._client, self._transport = client, transport
        self.namespace = namespace

    def server_time(self) -> datetime | None:
        """The API server's clock at its latest answer; None before one."""
        try:
            return parsedate_to_datetime(self._transport.server_date)
        except (ValueError, TypeError):
            return None

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    # -- the shared map ---------------------------------------------------------------------------

    async def read_map(self, name: str) -> Stored | None:
        """Return the map; None where there is none.

        Raises:
            ApiFailed: it can not be told.
        """
        try:
            with _told(self._asked("get", "configmaps", name)):
                return _of_map(await self._client.get(ConfigMap, name, namespace=self.namespace))
        except ApiFailed as error:
            if error.trouble is not Trouble.MISSING:
                raise
            return None

    async def list_map(self, name: str) -> Listed:
        """List the map alone, which may be absent."""
        with _told(self._asked("list", "configmaps", name)):
            found = self._client.list(ConfigMap, namespace=self.namespace, fields={"metadata.name": name})
            items = tuple([_of_map(each) async for each in found])
            return Listed(found.resourceVersion, items)

    async def watch_map(self, name: str, version: str, seconds: int) -> AsyncIterator[Change]:
        """Follow the map for a while; ends with an ApiFailed, ENDED in good order."""
        asked = self._asked("watch", "configmaps", name)
        watch = self._client.watch(
            ConfigMap,
            namespace=self.namespace,
            fields={"metadata.name": name},
            server_timeout=seconds,
            resource_version=version,
        )
        async for kind, item in _steps(watch, asked, seconds):
            yield Change(_of_map(item), kind == "DELETED")

    async def apply_map(self, name: str, manager: str, data: Mapping[str, str]) -> None:
        """Own these keys of the map, by server-side apply; it is made where it is absent."""
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace},
            "data": dict(data),
        }
        with _told(self._asked("patch", "configmaps", name)):
            # By force: a key that somebody edited by hand is taken back by the pod that it is about.
            await self._client.patch(
                ConfigMap, name, body, namespace=self.namespace,
                patch_type=PatchType.APPLY, field_manager=manager, force=True,
            )  # fmt: skip

    async def remove_key(self, name: str, key: str, value: str, manager: str) -> None:
        """Take a key out of the map, unless its value has changed meanwhile."""
        patch = [
            {"op": "test", "path": f"/data/{key}", "value": value},
            {"op": "remove", "path": f"/data/{key}"},
        ]
        with _told(self._asked("patch", "configmaps", name)):
            await self._client.patch(
                ConfigMap, name, patch, namespace=self.namespace,
                patch_type=PatchType.JSON, field_manager=manager,
            )  # fmt: skip

    # -- one object a pod -------------------------------------------------------------------------

    async def list_leases(self, book: str) -> Listed:
        """List the Leases of a book."""
        with _told(self._asked("list", "leases")):
            found = self._client.list(
                Lease, namespace=self.namespace, labels={BOOK_LABEL: book}, chunk_size=PAGE
            )
            items = tuple([_of_lease(each) async for each in found])
            return Listed(found.resourceVersion, items)

    async def watch_leases(self, book: str, version: str, seconds: int) -> AsyncIterator[Change]:
        """Follow the Leases of a book for a while; ends as `watch_map` does."""
        asked = self._asked("watch", "leases")
        watch = self._client.watch(
            Lease,
            namespace=self.namespace,
            labels={BOOK_LABEL: book},
            server_timeout=seconds,
            resource_version=version,
        )
        async for kind, item in _steps(watch, asked, seconds):
            yield Change(_of_lease(item), kind == "DELETED")

    async def apply_lease(self, book: str, pod: str, uid: str, text: str, spec: Mapping[str, object]) -> None:
        """Write a pod's own Lease. uid: of the pod, which the Lease goes with; empty: it is not known."""
        name = f"{book}-{pod}"
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": self.namespace,
            "labels": {BOOK_LABEL: book},
            "annotations": {ENTRY: text},
        }
        if uid:
            metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}]
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {"holderIdentity": pod, **spec},
        }
        with _told(self._asked("patch", "leases", name)):
            await self._client.patch(
                Lease, name, body, namespace=self.namespace,
                patch_type=PatchType.APPLY, field_manager=pod, force=True,
            )  # fmt: skip

    async def delete_lease(self, name: str) -> None:
        """Delete a Lease; gone already is fine."""
        try:
            with _told(self._asked("delete", "leases", name)):
                await self._client.delete(Lease, name, namespace=self.namespace)
        except ApiFailed as error:
            if error.trouble is not Trouble.MISSING:
                raise

    async def create_event(self, event: Mapping[str, Any]) -> None:
        """Write an Event, for whoever runs `kubectl describe` or `kubectl get events`."""
        with _told(self._asked("create", "events")):
            await self._client.create(msgspec.convert(event, Event))

    def _asked(self, verb: str, resource: str, name: str | None = None) -> Asked:
        return Asked(verb, resource, self.namespace, name)


async def _steps(watch: Any, asked: Asked, seconds: int) -> AsyncIterator[tuple[str, Any]]:  # noqa: ANN401
    """Hand on the events of one watch; a connection that says nothing for too long is dead."""
    with _told(asked):
        async with aclosing(watch) as events:
            while True:
                # The server ends a watch after `seconds` by itself; who does not is not there any more.
                async with asyncio.timeout(seconds + 30):
                    kind, item = await anext(events)
                yield kind, item


@contextmanager
def _told(asked: Asked) -> Iterator[None]:
    """Turn all that lightkube and its HTTP client raise into ApiFailed."""
    try:
        yield
    except WatchEnded as error:
        raise ApiFailed(Trouble.ENDED, f"{asked}: {error}") from None
    except httpx2.HTTPStatusError as error:
        raise _of_status(asked, error) from error
    except (httpx2.TransportError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise ApiFailed(Trouble.UNREACHABLE, f"{asked}: the API server can not be reached: {why}") from error
    except (ConfigError, OSError) as error:
        raise ApiFailed(Trouble.UNAUTHORIZED, f"{asked}: the token can not be read: {error}") from error
    except (httpx2.HTTPError, httpx2.StreamError, msgspec.MsgspecError, LookupError, ValueError, TypeError,
            AttributeError, StopAsyncIteration) as error:  # fmt: skip
        # lightkube trusts the shape of answers; what stands between may send anything.
        why = f"{type(error).__name__}: {str(error)[:100]}"
        raise ApiFailed(Trouble.BROKEN, f"{asked}: the answer is not one of Kubernetes ({why})") from error


def _of_status(asked: Asked, error: httpx2.HTTPStatusError) -> ApiFailed:
    response = getattr(error, "response", None)
    if isinstance(error, ApiError) and error.status is not None and error.status.code:
        return failure_of_status(
            asked, error.status.code, error.status.message or "", retry_after=_retry(response)
        )
    status = 0 if response is None else response.status_code
    return failure_of_status(asked, status, "", retry_after=_retry(response))


def _retry(response: httpx2.Response | None) -> float | None:
    text = "" if response is None else response.headers.get("Retry-After", "")
    return min(float(text), LONGEST_RETRY) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _of_map(item: ConfigMap) -> Stored:
    metadata = item.metadata or ObjectMeta()
    return Stored(
        metadata.name or "", metadata.resourceVersion or "", dict(item.data or {}), _managers(metadata)
    )


def _of_lease(item: Lease) -> Stored:
    metadata = item.metadata or ObjectMeta()
    name, text = metadata.name or "", (metadata.annotations or {}).get(ENTRY)
    pod = "" if item.spec is None else item.spec.holderIdentity or ""
    data = {} if text is None else {pod: text}
    managers = {pod: max(times)} if (times := list(_managers(metadata, "f:metadata").values())) else {}
    return Stored(name, metadata.resourceVersion or "", data, managers)


def _managers(metadata: ObjectMeta, part: str = "f:data") -> dict[str, datetime]:
    """Return when each key was last written. Spec: managedFields of server-side apply, FieldsV1."""
    found: dict[str, datetime] = {}
    for each in metadata.managedFields or []:
        fields = each.fieldsV1
        owned = fields.get(part) if isinstance(fields, dict) else None
        if each.time is None or not isinstance(owned, dict):
            continue
        for key in owned:
            name = key.removeprefix("f:")
            found[name] = max(each.time, found.get(name, each.time))
    return found
