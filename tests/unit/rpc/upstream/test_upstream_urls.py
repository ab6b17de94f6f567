"""How upstreams are named, and what of it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.endpoint import Network
from relay.primitives.errors import DecodeError
from relay.rpc.upstream.urls import Scheme, parse_upstream, parse_upstreams

ONION = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion"


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "target"),
    [
        ("http://127.0.0.1:8545", Scheme.HTTP, "127.0.0.1", 8545, "/"),
        ("https://rpc.example/v3/KEY?a=b", Scheme.HTTPS, "rpc.example", 443, "/v3/KEY?a=b"),
        ("https://rpc.example?a=b", Scheme.HTTPS, "rpc.example", 443, "/?a=b"),
        ("ws://[::1]:8546/", Scheme.WS, "::1", 8546, "/"),
        (f"wss://{ONION}", Scheme.WSS, ONION, 443, "/"),
        ("http://Node.Example", Scheme.HTTP, "node.example", 80, "/"),
    ],
)
def test_url(text, scheme, host, port, target):
    url = parse_upstream(text)
    assert url.endpoint is not None
    assert (url.scheme, url.endpoint.host, url.endpoint.port, url.target) == (scheme, host, port, target)
    assert url.is_onion == (url.endpoint.network is Network.ONION)


@pytest.mark.parametrize("text", ["/tmp/geth.ipc", "unix:/tmp/geth.ipc", "unix:///tmp/geth.ipc"])
def test_unix_socket(text):
    url = parse_upstream(text)
    assert (url.scheme, str(url)) == (Scheme.UNIX, "unix:/tmp/geth.ipc")


def test_text_shows_no_secret():
    url = parse_upstream("https://user:pa%40ss@rpc.example:444/v3/KEY?token=1")
    assert str(url) == "https://rpc.example:444"
    assert url.authorization == "Basic dXNlcjpwYUBzcw=="
    for secret in ("KEY", "token", "ss", "dXNl"):
        assert secret not in repr(url).replace("address", "")


@pytest.mark.parametrize(
    "text",
    [
        "ftp://x", "rpc.example", "http://", "http://:80", "http://a:0", "http://a:99999", "http://a b",
        "unix:x", "http://a/ b", "http://a/\r\nHost: b", "http://x.onion", "https://a#b",
        "http://a/é", "/" + "a" * 200,
    ],
)  # fmt: skip
def test_what_is_none_is_refused_without_repeating_it(text):
    with pytest.raises(DecodeError):
        parse_upstream(text)
    with pytest.raises(DecodeError, match="upstream 2: ") as refusal:
        parse_upstreams(f"http://a,{text}")
    assert "SECRET" not in str(refusal.value)


def test_error_of_a_list_does_not_repeat_keys():
    with pytest.raises(DecodeError) as refusal:
        parse_upstreams("https://a/\tSECRET")
    assert "SECRET" not in str(refusal.value)


def test_list():
    assert parse_upstreams("") == ()
    assert [str(url) for url in parse_upstreams("http://a, http://b,http://a")] == ["http://a", "http://b"]
    with pytest.raises(DecodeError, match="17 upstreams"):
        parse_upstreams(",".join(f"http://a{number}" for number in range(17)))


@given(st.text(max_size=60) | st.text("htps:/w@[]:?.a0%", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        url = parse_upstream(text)
    except DecodeError:
        return
    assert url.target.isascii()
    assert url.socket is not None or url.endpoint is not None
