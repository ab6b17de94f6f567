"""Which pages may call: CORS as rs/cors answers for geth, origins of WebSocket as geth checks them."""

from __future__ import annotations

import pytest

from relay.rpc.origins import Cors, SocketOrigins

VARY = {"Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}


def test_page_that_is_named_may_read_and_others_may_not():
    cors = Cors(["https://Wallet.example", "http://*.test"])
    assert cors.headers("POST", {"Origin": "https://wallet.example"}) == {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": "https://wallet.example",
    }
    assert cors.headers("POST", {"Origin": "http://a.test"})["Access-Control-Allow-Origin"] == "http://a.test"
    for origin in ("https://wallet.example.evil", "https://evil", "null", "", "http://a.test:80"):
        assert cors.headers("POST", {"Origin": origin}) == {"Vary": "Origin"}
    assert cors.headers("DELETE", {"Origin": "https://wallet.example"}) == {"Vary": "Origin"}
    assert Cors(["*"]).headers("GET", {"Origin": "https://evil"})["Access-Control-Allow-Origin"] == "*"
    assert not Cors([]).is_on


def test_preflight_allows_the_headers_that_are_asked_for():
    asked = {
        "Origin": "http://a",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, x-thing,\r\nbad name",
    }
    assert Cors(["http://a"]).preflight(asked) == {
        **VARY,
        "Access-Control-Allow-Origin": "http://a",
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": "Content-Type, X-Thing",
        "Access-Control-Max-Age": "600",
    }
    assert Cors(["http://b"]).preflight(asked) == VARY
    assert Cors(["http://a"]).preflight({**asked, "Access-Control-Request-Method": "PUT"}) == VARY


@pytest.mark.parametrize(
    ("allowed", "origin", "answer"),
    [
        ((), None, True),
        ((), "http://localhost", True),
        ((), "http://localhost:3000", True),
        ((), "https://localhost", False),
        ((), "http://evil.example", False),
        (("*",), "http://evil.example", True),
        (("https://a.example",), "https://A.example:8443", True),
        (("https://a.example:1",), "https://a.example:2", False),
        (("a.example",), "http://a.example", True),
        (("a.example",), "http://b.example", False),
        (("a.example:1",), "wss://a.example:1", True),
        (("http://localhost",), "null", False),
        (("https://a.example",), "http://[", False),
        (("https://a.example",), "", False),
    ],
)
def test_origin_of_a_websocket(allowed, origin, answer):
    assert SocketOrigins(allowed).allows(origin) is answer
