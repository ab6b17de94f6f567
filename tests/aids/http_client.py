"""A plain HTTP/1.1 client for tests that send what a well-behaved library would not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Names in small letters."""
    body: bytes


def request(
    method: str = "GET", path: str = "/", *, body: bytes | str = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Build a request; Host and Content-Length are added where they are not given."""
    data = body.encode() if isinstance(body, str) else body
    given = {"Host": "localhost", "Content-Length": str(len(data)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data


async def read_reply(reader: asyncio.StreamReader, *, head_only: bool = False) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {}
    for line in head[1:]:
        if line:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
    status = int(head[0].split()[1])
    length = 0 if head_only or status == 100 else int(headers.get("content-length", "0"))
    return Reply(status, headers, await reader.readexactly(length))


async def exchange(where: int | Path, raw: bytes, *, head_only: bool = False, seconds: float = 5.0) -> Reply:
    """Send bytes over a connection of their own, to a port of loopback or a unix socket; read one reply."""
    async with asyncio.timeout(seconds):
        if isinstance(where, Path):
            reader, writer = await asyncio.open_unix_connection(where)
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", where)
        try:
            writer.write(raw)
            return await read_reply(reader, head_only=head_only)
        finally:
            writer.close()
            await writer.wait_closed()
