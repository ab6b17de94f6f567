"""The head that a consensus node tells, and everything else that it may say."""

from __future__ import annotations

import json

import pytest

from relay.rpc.beacon import MAX_ANSWER, BeaconNode
from relay.rpc.upstream.faults import Fault, UpstreamFault
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.urls import parse_upstream
from relay.transports.host_dialer import HostDialer
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.beacon_api import BeaconApi, blinded_block

HASH = "0x" + "ab" * 32


def node_at(url: str, **options) -> BeaconNode:
    sockets = SocketFactory(SocketRules.anywhere())
    return BeaconNode(parse_upstream(url), HostDialer(sockets, None), sockets, UpstreamOptions(**options))


async def fault_of(body: bytes, status: int = 200) -> Fault:
    async with BeaconApi(body, status) as api:
        node = node_at(api.url)
        with pytest.raises(UpstreamFault) as caught:
            await node.head()
        node.close()
    return caught.value.fault


async def test_number_and_hash_of_the_head_over_one_connection():
    async with BeaconApi(blinded_block("23000000", HASH)) as api:
        node = node_at(api.url)
        assert await node.head() == (23_000_000, b"\xab" * 32)
        api.body = blinded_block("23000001", "0x" + "cd" * 32)
        assert await node.head() == (23_000_001, b"\xcd" * 32)
        node.close()
        assert {path for path, _ in api.asked} == {"/eth/v1/beacon/blinded_blocks/head"}


async def test_a_path_stands_before_the_path_of_the_api():
    async with BeaconApi(blinded_block("7", HASH), before="/secret/key") as api:
        for url in (api.url, api.url + "/"):
            node = node_at(url)
            assert await node.head() == (7, b"\xab" * 32)
            node.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>hello</html>",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'{"data": null}',
        b'{"data": {"message": {"body": {}}}}',
        b'{"data": {"message": {"body": {"execution_payload_header": []}}}}',
        json.dumps({"code": 404, "message": "not found"}).encode(),
        blinded_block(7, HASH),
        blinded_block("-7", HASH),
        blinded_block("0x7", HASH),
        blinded_block("\u0667x", HASH),
        blinded_block("9" * 21, HASH),
        blinded_block(str(2**64), HASH),
        blinded_block("7", HASH[:-2]),
        blinded_block("7", "0x" + "zz" * 32),
        blinded_block("0", "0x" + "00" * 32),
        blinded_block("7", None),
    ],
    ids=range(19),
)
async def test_what_names_no_block_is_garbage(body):
    assert await fault_of(body) is Fault.GARBAGE


async def test_statuses_and_large_answers_are_faults():
    assert await fault_of(b"{}", 500) is Fault.STATUS
    assert await fault_of(b"{}", 429) is Fault.LIMITED
    assert await fault_of(b" " * (MAX_ANSWER + 1)) is Fault.TOO_LARGE


async def test_nobody_there_is_a_fault():
    async with BeaconApi() as api:
        url = api.url
    with pytest.raises(UpstreamFault) as caught:
        await node_at(url).head()
    assert caught.value.fault is Fault.UNREACHABLE
