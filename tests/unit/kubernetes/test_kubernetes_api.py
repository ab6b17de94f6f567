"""What an API server can answer, and the words that come of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from relay.kubernetes import connect, transport
from relay.kubernetes.api import Api, Listed, Stored
from relay.kubernetes.connect import connected
from relay.kubernetes.failures import ApiFailed, Trouble
from relay.kubernetes.options import ApiOptions
from relay.primitives.errors import UsageError
from tests.aids.kube_certificates import certificates
from tests.aids.kubernetes_server import NAMESPACE, KubernetesServer, half, kubeconfig, raw, serving, status
from tests.aids.until import until

BOOK = "tor-peer-addresses"


@asynccontextmanager
async def meeting(
    tmp_path: Path, timeout: float = 15.0, **user: str
) -> AsyncIterator[tuple[KubernetesServer, Api]]:
    async with serving() as server:
        options = ApiOptions(kubeconfig=kubeconfig(tmp_path, server.url, **user), timeout=timeout)
        async with connected(options, NAMESPACE) as api:
            yield server, api


async def failure(call) -> ApiFailed:
    with pytest.raises(ApiFailed) as caught:
        await call
    return caught.value


async def test_a_key_is_applied_and_read(tmp_path: Path) -> None:
    async with meeting(tmp_path) as (server, api):
        assert await api.read_map(BOOK) is None
        await api.apply_map(BOOK, "relay-0", {"relay-0": "a"})
        await api.apply_map(BOOK, "relay-1", {"relay-1": "b"})
        found = await api.read_map(BOOK)
        assert found is not None
        assert found.data == {"relay-0": "a", "relay-1": "b"}
        assert server.data() == found.data
        assert api.server_time() is not None


@pytest.mark.parametrize(
    ("code", "message", "trouble", "words"),
    [
        (403, "no", Trouble.FORBIDDEN, "lacks the verb patch on configmaps named tor-peer-addresses"),
        (403, "ValidatingAdmissionPolicy 'x' denied", Trouble.REFUSED, "refused by a rule of the cluster"),
        (422, "Too long", Trouble.REFUSED, "Too long"),
        (401, "Unauthorized", Trouble.UNAUTHORIZED, "the token is not accepted"),
        (404, "namespaces not found", Trouble.MISSING, "there is none"),
        (409, "Conflict", Trouble.CONFLICT, "somebody else holds that field"),
        (410, "Expired", Trouble.GONE, "too old"),
        (500, "boom", Trouble.SERVER, "status 500"),
        (503, "", Trouble.SERVER, "status 503"),
        (504, "etcd", Trouble.SERVER, "etcd"),
        (418, "tea", Trouble.BROKEN, "status 418"),
    ],
)  # fmt: skip
async def test_each_status_has_its_words_with_verb_and_object(
    tmp_path: Path, code: int, message: str, trouble: Trouble, words: str
) -> None:
    async with meeting(tmp_path) as (server, api):
        server.next("patch", "configmaps", status(code, message))
        error = await failure(api.apply_map(BOOK, "relay-0", {"relay-0": "a"}))
        assert error.trouble is trouble
        assert words in str(error)
        assert "configmaps/tor-peer-addresses in namespace relays" in str(error)


async def test_a_busy_server_says_when_to_come_back(tmp_path: Path) -> None:
    async with meeting(tmp_path) as (server, api):
        server.next("patch", "configmaps", status(429, "slow down", **{"Retry-After": "7"}))
        error = await failure(api.apply_map(BOOK, "relay-0", {"relay-0": "a"}))
        assert (error.trouble, error.retry_after) == (Trouble.THROTTLED, 7.0)
        server.next("patch", "configmaps", status(503, "", **{"Retry-After": "99999"}))
        error = await failure(api.apply_map(BOOK, "relay-0", {"relay-0": "a"}))
        assert error.retry_after == 300.0


@pytest.mark.parametrize(
    "answer",
    [
        raw(200, b"<html>a proxy's page</html>", "text/html"),
        raw(200, b"{"),
        raw(200, b"[]"),
        raw(200, b"null"),
        raw(200, b'{"metadata": {"resourceVersion": 5}}'),
        raw(200, b'{"data": [1, 2], "metadata": {}}'),
        raw(200, b'{"metadata": {"managedFields": [{"time": "yesterday"}]}}'),
        raw(200, b"\xff\xfe"),
        raw(502, b"<html>bad gateway</html>", "text/html"),
        raw(502, b"{", "application/json"),
        raw(403, b"[]", "application/json"),
        half,
    ],
)
async def test_what_is_not_kubernetes_is_a_failure_and_nothing_else(tmp_path: Path, answer) -> None:
    async with meeting(tmp_path) as (server, api):
        server.next("get", "configmaps", answer)
        server.next("list", "configmaps", answer)
        server.next("patch", "configmaps", answer)
        calls = (api.read_map(BOOK), api.list_map(BOOK), api.apply_map(BOOK, "relay-0", {"relay-0": "a"}))
        results = await asyncio.gather(*calls, return_exceptions=True)
        # null and an empty object are a map without anything in it; all else is told of
        assert all(each is None or isinstance(each, (ApiFailed, Stored, Listed)) for each in results)
        assert any(isinstance(each, ApiFailed) for each in results)


async def test_a_server_that_is_slow_is_given_up(tmp_path: Path) -> None:
    async with meeting(tmp_path, timeout=0.2) as (server, api):

        async def slow(_):
            await asyncio.Event().wait()

        server.next("get", "configmaps", slow)
        error = await failure(api.read_map(BOOK))
        assert error.trouble is Trouble.UNREACHABLE
        server.cut_watches()


@pytest.mark.parametrize("begun", [True, False], ids=["the answer", "its beginning"])
async def test_an_answer_that_trickles_is_given_up(tmp_path: Path, monkeypatch, begun: bool) -> None:
    """Each part comes in time, and the whole never."""
    monkeypatch.setattr(transport, "SLOWEST", 0.3)
    ended = asyncio.Event()

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if begun:
            await response.prepare(request)
        while not ended.is_set():
            if begun:
                await response.write(b" ")
            await asyncio.sleep(0.02)
        return response

    async with meeting(tmp_path) as (server, api):
        server.next("get", "configmaps", trickle)
        try:
            async with asyncio.timeout(60):
                error = await failure(api.read_map(BOOK))
        finally:
            ended.set()
        assert error.trouble is Trouble.UNREACHABLE
        assert f"get configmaps/{BOOK}" in str(error)


async def test_nobody_there_is_told_without_a_trace(tmp_path: Path) -> None:
    options = ApiOptions(kubeconfig=kubeconfig(tmp_path, "http://127.0.0.1:1"))
    async with connected(options, NAMESPACE) as api:
        error = await failure(api.read_map(BOOK))
        assert error.trouble is Trouble.UNREACHABLE
        assert "the API server can not be reached: connection refused" in str(error)


async def test_an_answer_without_end_is_cut(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER", 1000)
    async with meeting(tmp_path) as (server, api):
        server.next("get", "configmaps", raw(200, b" " * 5000))
        error = await failure(api.read_map(BOOK))
        assert "more than 1000 bytes" in str(error)


async def test_a_token_that_was_renewed_is_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    async with meeting(tmp_path, tokenFile=str(token)) as (server, api):
        server.token = "first"
        await api.apply_map(BOOK, "relay-0", {"relay-0": "a"})
        server.token = "second"
        error = await failure(api.read_map(BOOK))
        assert error.trouble is Trouble.UNAUTHORIZED
        token.write_text("second\n")  # as kubelet does, long before the first one ends
        assert await api.read_map(BOOK) is not None
        token.unlink()
        server.token = "third"
        error = await failure(api.read_map(BOOK))
        assert "the token can not be read" in str(error)


async def test_a_watch_tells_changes_and_its_end(tmp_path: Path) -> None:
    async with meeting(tmp_path) as (server, api):
        await api.apply_map(BOOK, "relay-0", {"relay-0": "a"})
        listed = await api.list_map(BOOK)
        seen = []

        async def follow() -> None:
            async for change in api.watch_map(BOOK, listed.version, 60):
                seen.append((change.gone, dict(change.item.data)))

        following = asyncio.ensure_future(follow())
        await until(lambda: server.asked["watch", "configmaps"], "a watch")
        await api.apply_map(BOOK, "relay-1", {"relay-1": "b"})
        server.delete("configmaps", BOOK)
        await until(lambda: len(seen) == 2, "two events")
        server.cut_watches()
        error = await failure(following)
        assert error.trouble is Trouble.ENDED
        assert seen == [(False, {"relay-0": "a", "relay-1": "b"}), (True, {"relay-0": "a", "relay-1": "b"})]


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (raw(200, b'{"type": "ADDED", "object": {'), Trouble.ENDED),
        (raw(200, b"nonsense\n"), Trouble.BROKEN),
        (raw(200, b'{"type": "ADDED"}\n'), Trouble.BROKEN),
        (raw(200, b'{"type": "ADDED", "object": {}}\n'), Trouble.BROKEN),
        (raw(200, b'{"type": "ERROR", "object": {"code": 410, "message": "old"}}\n'), Trouble.GONE),
        (raw(200, b'{"type": "ERROR", "object": {"code": 500, "message": "x"}}\n'), Trouble.SERVER),
        (status(410, "too old"), Trouble.GONE),
        (status(403, "no"), Trouble.FORBIDDEN),
        (half, Trouble.UNREACHABLE),
    ],
)
async def test_each_way_that_a_watch_fails(tmp_path: Path, answer, trouble: Trouble) -> None:
    async with meeting(tmp_path) as (server, api):
        server.next("watch", "configmaps", answer)

        async def follow() -> None:
            async for _ in api.watch_map(BOOK, "1", 60):
                pass

        error = await failure(follow())
        assert error.trouble is trouble


async def test_an_event_without_end_is_cut(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(transport, "MAX_EVENT", 1000)
    async with meeting(tmp_path) as (server, api):
        server.next("watch", "configmaps", raw(200, b"x" * 5000))

        async def follow() -> None:
            async for _ in api.watch_map(BOOK, "1", 60):
                pass

        assert "an event has more than 1000 bytes" in str(await failure(follow()))


async def test_a_lease_belongs_to_its_pod(tmp_path: Path) -> None:
    async with meeting(tmp_path) as (server, api):
        await api.apply_lease(BOOK, "relay-0", "uid-1", "entry", {"leaseDurationSeconds": 60})
        stored = server.objects["leases", f"{BOOK}-relay-0"]
        owner = stored["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "relay-0", "uid-1")
        listed = await api.list_leases(BOOK)
        assert listed.items[0].data == {"relay-0": "entry"}
        assert (await api.list_leases("another-book")).items == ()
        await api.delete_lease(f"{BOOK}-relay-0")
        await api.delete_lease(f"{BOOK}-relay-0")
        assert (await api.list_leases(BOOK)).items == ()


async def test_only_the_api_server_can_be_connected(tmp_path: Path) -> None:
    """The client follows no redirect, and what is below it connects nowhere else."""
    async with serving() as other, meeting(tmp_path) as (server, api):

        async def redirect(request):
            from aiohttp import web

            raise web.HTTPFound(f"{other.url}{request.path_qs}")

        server.next("get", "configmaps", redirect)
        await failure(api.read_map(BOOK))
        assert not other.asked
        backend = transport._Backend(transport.SocketFactory(transport._rules("127.0.0.1", 6443)))
        with pytest.raises(transport.httpcore2.ConnectError, match="not one that the mode allows"):
            await backend.connect_tcp("127.0.0.1", int(other.url.rpartition(":")[2]))


async def test_there_is_no_other_way_to_a_socket_than_the_house_s(tmp_path: Path, monkeypatch) -> None:
    """With our backend out of order nothing of lightkube or its HTTP client reaches anybody."""

    async def refuse(*_args, **_words):
        raise transport.httpcore2.ConnectError("out of order")

    event = {"metadata": {"name": "x", "namespace": NAMESPACE}, "involvedObject": {"kind": "Pod"}}
    async with meeting(tmp_path) as (server, api):
        monkeypatch.setattr(transport._Backend, "connect_tcp", refuse)
        for call in (
            api.read_map(BOOK), api.list_map(BOOK), api.list_leases(BOOK), api.apply_map(BOOK, "a", {}),
            api.delete_lease("x"), api.create_event(event),
            anext(api.watch_map(BOOK, "1", 60)),
        ):  # fmt: skip
            assert (await failure(call)).trouble is Trouble.UNREACHABLE
        assert not server.asked


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "clusters: 5", "clusters: [{name: a}]\nusers: []\ncontexts: []", "{", "a: b: c"],
)
async def test_a_kubeconfig_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(UsageError, match="--kubeconfig") as caught:
        async with connected(ApiOptions(kubeconfig=path), NAMESPACE):
            pass
    assert "object" not in str(caught.value), "what is wrong with the file, not with our program"


async def test_outside_of_a_pod_the_way_in_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="KUBERNETES_SERVICE_HOST is not set"):
        async with connected(ApiOptions(), NAMESPACE):
            pass
    with pytest.raises(UsageError, match=f"certificate authority {tmp_path}/ca.crt"):
        async with connected(ApiOptions(host="10.0.0.1", account=tmp_path), NAMESPACE):
            pass


async def test_an_authority_without_key_identifiers_is_believed(tmp_path: Path, monkeypatch) -> None:
    """Python 3.13 alone would refuse it, and with it the servers of whole providers."""
    certificates(tmp_path)
    strict = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    monkeypatch.setattr(connect, "verify_cluster", lambda *_, **__: strict)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound", "message": "none"}'
        head = (
            f"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=own) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connected(ApiOptions(kubeconfig=kubeconfig(tmp_path, url)), NAMESPACE) as api:
            assert await api.read_map(BOOK) is None
    assert strict.verify_mode is ssl.CERT_REQUIRED
    assert strict.check_hostname


def test_tls_failures_have_words() -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "self-signed certificate"
    assert transport._words(error) == "its certificate is not believed: self-signed certificate"
