"""JSON-RPC by HTTP, with geth's rules of what is let in (v1.17.8, rpc/http.go and node/rpcstack.go)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from relay.primitives.errors import RelayError
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.errors import parse_error
from relay.rpc.messages import NULL, encode_error
from relay.rpc.meters import Meters
from relay.rpc.methods import DEFAULT_HTTP_MODULES
from relay.rpc.origins import Cors

__all__ = ["HttpAnswer", "HttpRequest", "JsonRpcOverHttp", "RpcHttpOptions"]

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
ACCEPTED: Final = (JSON, "application/json-rpc", "application/jsonrequest")


@dataclass(frozen=True, slots=True)
class RpcHttpOptions:
    """What geth sets by --http.api and its configuration.

    Attributes:
        modules: offered by HTTP; admin only when it is named here.
        body_bytes: of a request (geth: HTTPBodyLimit).
        cors_origins: of pages that may read answers (geth: --http.corsdomain).
    """

    modules: tuple[str, ...] = DEFAULT_HTTP_MODULES
    body_bytes: int = 5 * 1024 * 1024
    cors_origins: tuple[str, ...] = ()


class HttpRequest(Protocol):
    """The part of a request that is looked at (`relay.rpc.httpd.Request`)."""

    @property
    def method(self) -> str:
        """In capitals."""
        ...

    @property
    def query(self) -> str:
        """After the question mark."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in any case."""
        ...

    @property
    def client(self) -> str:
        """IP address of who asks."""
        ...

    @property
    def content_length(self) -> int | None:
        """As announced."""
        ...

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        ...

    async def read(self, limit: int, /) -> bytes:
        """Read the body; raises RelayError when it is too large or does not come."""
        ...


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, body and what it is."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class JsonRpcOverHttp:
    """Answers HTTP requests by a dispatcher.

    Args:
        dispatcher: of the modules that are offered.
        options: limits, and pages that may read answers: without any no page of another origin can.
        meters: count the calls of each address; None for no limit.
    """

    def __init__(
        self, dispatcher: Dispatcher, *, options: RpcHttpOptions | None = None, meters: Meters | None = None
    ) -> None:
        self._dispatcher = dispatcher
        self._options = options or RpcHttpOptions()
        self._cors = Cors(self._options.cors_origins)
        self._meters = meters

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        """Answer one request."""
        if not self._cors.is_on:
            return await self._answer(request)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return HttpAnswer(204, content_type="", headers=self._cors.preflight(request.headers))
        answer = await self._answer(request)
        headers = {**answer.headers, **self._cors.headers(request.method, request.headers)}
        return replace(answer, headers=headers)

    async def _answer(self, request: HttpRequest) -> HttpAnswer:
        refusal = self._refuse(request)
        if refusal is not None:
            return refusal
        try:
            body = await request.read(self._options.body_bytes)
        except RelayError as error:
            return HttpAnswer(200, encode_error(NULL, parse_error(str(error))).encode())
        meter = None if self._meters is None else self._meters.of_address(request.client)
        return HttpAnswer(200, await self._dispatcher.answer(body, meter))

    def _refuse(self, request: HttpRequest) -> HttpAnswer | None:
        """Return the answer to what gets no further, or None."""
        if request.method in ("GET", "HEAD") and not request.has_body and not request.query:
            return HttpAnswer(200, content_type="")  # a load balancer asks whether we are there
        if request.method not in ("POST", "OPTIONS"):
            return _plain(405, "method not allowed", {"Allow": "POST"})
        return self._refuse_content(request)

    def _refuse_content(self, request: HttpRequest) -> HttpAnswer | None:
        limit = self._options.body_bytes
        length = request.content_length or 0
        if length > limit:
            # Closed, since what follows is not read.
            return _plain(413, f"content length too large ({length}>{limit})", {"Connection": "close"})
        if request.method == "OPTIONS":
            return HttpAnswer(200)
        if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() not in ACCEPTED:
            return _plain(415, f"invalid content type, only {JSON} is supported")
        return None


def _plain(status: int, words: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    always = {"X-Content-Type-Options": "nosniff", **(headers or {})}
    return HttpAnswer(status, f"{words}\n".encode(), TEXT, always)
