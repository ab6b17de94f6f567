"""A consensus node's head becomes the anchor of our block range."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from relay.app.anchor import follow_beacon
from relay.app.outward import ways_out
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.beacon_api import BeaconApi, blinded_block
from tests.aids.until import until


class Anchored:
    def __init__(self):
        self.told = []

    def anchor(self, number, block_hash, now):
        self.told.append((number, block_hash))


def around():
    sockets = SocketFactory(SocketRules.anywhere())
    return sockets, ways_out(Mode.NO_TOR, sockets, None, tuple)


async def test_without_a_consensus_node_there_is_nothing_to_do(settings_of):
    ranges = Anchored()
    await follow_beacon(settings_of(), *around(), ranges)
    assert ranges.told == []


async def test_each_head_is_told_and_a_failing_node_named_once(settings_of):
    ranges = Anchored()
    with capture_logs() as logs:
        async with BeaconApi(b"", 500) as api, asyncio.TaskGroup() as tasks:
            settings = settings_of(**{"beacon-api": api.url})
            following = tasks.create_task(follow_beacon(settings, *around(), ranges, pause=0.001))
            await until(lambda: len(api.asked) > 3, "it is asked again and again")
            assert ranges.told == []
            api.status, api.body = 200, blinded_block("11", "0x" + "0b" * 32)
            await until(lambda: len(ranges.told) > 2, "the head is told")
            api.body = blinded_block("12", "0x" + "0c" * 32)
            await until(lambda: ranges.told[-1][0] == 12, "the next one is told")
            following.cancel()
    assert set(ranges.told) == {(11, b"\x0b" * 32), (12, b"\x0c" * 32)}
    events = [each["event"] for each in logs]
    assert events.count("the consensus node does not tell its head") == 1
    assert events.count("following a consensus node") == 1
