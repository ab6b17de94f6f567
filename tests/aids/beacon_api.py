"""A consensus node's Beacon API on loopback, as far as a head is asked of it."""

from __future__ import annotations

import json
from typing import Self

from aiohttp import web

__all__ = ["BeaconApi", "blinded_block"]

PATH = "/eth/v1/beacon/blinded_blocks/head"


def blinded_block(number: object, block_hash: object) -> bytes:
    """Return an answer with the parts around number and hash that real ones have."""
    header = {"block_number": number, "block_hash": block_hash, "transactions_root": "0x" + "11" * 32}
    body = {"randao_reveal": "0x" + "22" * 96, "execution_payload_header": header}
    message = {"slot": "9000000", "proposer_index": "7", "body": body}
    answer = {"version": "fulu", "execution_optimistic": False, "finalized": False}
    return json.dumps({**answer, "data": {"message": message, "signature": "0x" + "33" * 96}}).encode()


class BeaconApi:
    """Answers every question with `status` and `body`.

    Attributes:
        asked: path and Host of each question.
    """

    def __init__(self, body: bytes = b"", status: int = 200, before: str = "") -> None:
        self.body, self.status = body, status
        self.asked: list[tuple[str, str]] = []
        self.url = ""
        app = web.Application()
        app.router.add_get(before + PATH, self._answer)
        self._runner = web.AppRunner(app)
        self._before = before

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}{self._before}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers["Host"]))
        return web.Response(status=self.status, body=self.body, content_type="application/json")
