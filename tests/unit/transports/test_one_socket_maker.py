"""One module makes sockets and resolves names: no other in relay/ calls what would."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "relay"
MAKERS = {"transports/sockets.py"}
MAKES = {  # attribute or name: always a socket or a look-up
    "socket", "socketpair", "fromfd", "create_server", "getaddrinfo", "gethostbyname", "gethostbyname_ex",
    "gethostbyaddr", "getnameinfo", "getfqdn", "open_unix_connection", "create_unix_connection",
}  # fmt: skip
WITH_SOCK = {  # fine with sock=, which somebody has made
    "open_connection", "start_server", "start_unix_server", "create_connection", "create_datagram_endpoint",
    "create_unix_server", "create_server",
}  # fmt: skip
LIBRARIES = {
    "aiodns", "anyio", "ftplib", "httpcore2", "httpx",
    "httpx2", "imaplib", "lightkube", "poplib", "pycares", "requests", "smtplib", "socketserver",
    "telnetlib", "urllib.request", "urllib3", "uvloop", "xmlrpc",
}  # fmt: skip
# Below lightkube's client is a backend of ours that takes sockets from the one maker, and connects the API
# server only: tests/unit/kubernetes/test_kubernetes_api.py shows that there is no other way.
OVER_OUR_BACKEND = {
    "kubernetes/api.py": {"httpx2", "lightkube"},
    "kubernetes/connect.py": {"httpx2", "lightkube"},
    "kubernetes/transport.py": {"httpx2", "httpcore2"},
}
CLIENTS = {
    "ClientSession", "HTTPConnection", "HTTPSConnection", "TCPConnector", "TCPSite", "UnixConnector",
    "UnixSite",
}  # fmt: skip


def violations(source: str, name: str = "x.py") -> list[str]:
    """Lines of a module that make a socket, or bring somebody who does."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            base = node.func.value if isinstance(node.func, ast.Attribute) else None
            of_socket = isinstance(base, ast.Name) and base.id in ("socket", "_socket")
            given = any(word.arg == "sock" and not _is_none(word.value) for word in node.keywords)
            if (called in WITH_SOCK and not given) or (called in MAKES and of_socket) or called in CLIENTS:
                found.append(f"{name}:{node.lineno} calls {called}")
            if (
                called in ("getaddrinfo", "getnameinfo", "open_unix_connection", "create_unix_connection")
                and not of_socket
            ):
                found.append(f"{name}:{node.lineno} calls {called}")
        names = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{each.name}" for each in node.names] + [str(node.module)]
        for each in names:
            forbidden = LIBRARIES - OVER_OUR_BACKEND.get(name, set())
            if any(each == library or each.startswith(library + ".") for library in forbidden):
                found.append(f"{name}:{node.lineno} imports {each}")
            if each in {f"socket.{word}" for word in MAKES}:
                found.append(f"{name}:{node.lineno} imports {each}")
    return found


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def test_no_other_module_makes_one() -> None:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name not in MAKERS:
            found += violations(path.read_text(encoding="utf-8"), name)
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "from socket import socket",
        "socket.create_connection(('x', 1))",
        "asyncio.open_connection('127.0.0.1', 1)",
        "asyncio.open_connection(sock=None, host='x')",
        "loop.create_connection(factory, host='x', port=1)",
        "loop.create_datagram_endpoint(factory, remote_addr=('x', 1))",
        "asyncio.start_server(take, '0.0.0.0', 1)",
        "loop.getaddrinfo('x', 1)",
        "asyncio.open_unix_connection('/x')",
        "import urllib.request",
        "from urllib import request",
        "import uvloop",
        "from lightkube import AsyncClient",
        "import httpx2",
        "aiohttp.ClientSession()",
    ],
)
def test_each_way_to_one_is_noticed(line: str) -> None:
    assert violations(line)


@pytest.mark.parametrize(
    "line",
    ["asyncio.open_connection(sock=made)", "loop.create_connection(f, sock=made)", "sockets.socket_rules()"],
)
def test_a_socket_that_was_made_is_fine(line: str) -> None:
    assert violations(line) == []
