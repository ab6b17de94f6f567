"""A program that is called like tor: a version, and a control port on the socket that its torrc names."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from pathlib import Path

from tests.aids.control_server import ControlServer


def write_fake_tor(folder: Path, *, version: str = "Tor version 0.4.9.11.", body: str | None = None) -> str:
    """Make the program. body: shell lines to run in place of the control port."""
    root = Path(__file__).parents[2]
    serve = body or f'cd "{root}" && exec "{sys.executable}" -m tests.aids.fake_tor "$@"'
    path = folder / "fake-tor"
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{version}"; exit 0; fi\n{serve}\n')
    path.chmod(0o700)
    return str(path)


async def _serve(torrc: str) -> None:
    def option(pattern: str) -> Path:
        found = re.search(pattern, torrc, re.MULTILINE)
        assert found is not None
        return Path(found.group(1))

    socket = option(r'^ControlPort unix:"(.*)"$')
    server = ControlServer(option(r'^CookieAuthFile "(.*)"$'))
    server.cookie_path.write_bytes(server.cookie)
    socket.unlink(missing_ok=True)
    ended = asyncio.Event()

    async def owned(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.serve(reader, writer)
        if "TAKEOWNERSHIP" in server.commands:
            ended.set()

    async with asyncio.TaskGroup() as tasks:
        listening = await asyncio.start_unix_server(
            lambda reader, writer: tasks.create_task(owned(reader, writer)), socket
        )
        await ended.wait()
        listening.close()


if __name__ == "__main__":
    print("[notice] fake tor runs", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(Path(sys.argv[sys.argv.index("-f") + 1]).read_text()))
