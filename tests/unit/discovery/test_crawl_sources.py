"""Crawls over real cores that reach each other without sockets."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from relay.discovery.crawl_sources import CoreSource
from relay.discovery.crawled import NodeSet
from relay.discovery.crawler import Crawler, CrawlOptions
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.node import Node
from tests.aids.discv5 import make_node, node_key, onion_record, udp_record
from tests.aids.discv5_drivers import QUICK, QUICK_ONION, DriverNet
from tests.aids.until import until

BRISK = CrawlOptions(per_second=10_000.0, walk_pause=0.05, quiet_walks=2, retry=0.05)
US = 999


async def crawl(net: DriverNet, driver, entry, *, budgeted: bool = False, wait: int = 0) -> NodeSet:
    source = CoreSource(
        "onion" if net.onion else "v5", driver, entry, rand=random.Random(1).randbytes, budgeted=budgeted
    )
    nodes = NodeSet(lambda: 1000.0)
    crawler = Crawler([(source, BRISK)], nodes, clock=asyncio.get_running_loop(), forever=bool(wait))
    net.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(crawler.run())
            if wait:
                await until(lambda: nodes.alive >= wait, lambda: f"{wait} nodes, found {nodes.alive}")
                crawler.stop()
    finally:
        net.stop()
    return nodes


async def test_a_line_of_nodes_is_found_from_its_first():
    net = DriverNet()
    for number in range(24):
        net.add(number, knows=number - 1 if number else None)
    us = net.add(US, knows=0)
    nodes = await crawl(net, us, [us.core.contact(udp_record(0))], wait=24)
    assert {node.node_id for node in nodes.answered()} == {node_key(number).node_id for number in range(24)}
    assert all(node.record is not None and node.answered == {"v5"} for node in nodes.answered())
    assert nodes.get(node_key(US).node_id) is None


async def test_a_crawl_ends_by_itself_when_all_are_visited():
    net = DriverNet()
    net.add(0)
    us = net.add(US, knows=0)
    async with asyncio.timeout(5):
        nodes = await crawl(net, us, [us.core.contact(udp_record(0))])
    assert nodes.alive == 1


async def test_the_newest_record_is_taken_from_the_node_itself():
    net = DriverNet()
    net.add(0)
    next(iter(net.nodes.values()))[0].record = udp_record(0, seq=9)
    us = net.add(US, knows=0)
    nodes = await crawl(net, us, [us.core.contact(udp_record(0))])
    assert [node.seq for node in nodes.answered()] == [9]


async def test_a_dead_entry_node_is_heard_of_and_never_answers():
    net = DriverNet(replace(QUICK, response_timeout=0.05, connect_timeout=0.05))
    us = net.add(US)
    async with asyncio.timeout(5):
        nodes = await crawl(net, us, [us.core.contact(udp_record(0))])
    assert (len(nodes), nodes.alive) == (1, 0)


async def test_onion_nodes_are_found_and_entered_by_key_and_address_alone():
    net = DriverNet(QUICK_ONION, onion=True)
    for number in range(6):
        net.add(number, knows=number - 1 if number else None)
    us = net.add(US)
    record = onion_record(0)
    entry = Node(record.public_key, (Endpoint(Network.ONION, record.onion3, record.tcp),))
    nodes = await crawl(net, us, [us.core.contact(entry)], budgeted=True, wait=6)
    assert all(node.record is not None and Network.ONION in node.addresses for node in nodes.answered())
    assert all(node.answered == {"onion"} for node in nodes.answered())


async def test_an_onion_that_many_keys_claim_is_called_only_as_often_as_the_budget_says():
    net = DriverNet(replace(QUICK_ONION, dials_per_host=2), onion=True)
    us = net.add(US)
    victim = [us.core.contact(onion_record(number, onion=5000)) for number in range(10)]
    async with asyncio.timeout(10):
        nodes = await crawl(net, us, victim, budgeted=True)
    assert len(nodes) == 10
    sent = sum(us.core.traffic.sent.values())
    assert sent <= 2, sent


def test_a_contact_without_an_address_here_is_no_node_of_this_network():
    node = make_node(3, QUICK)
    heard = []

    class Driver:
        core = node.core

        def listen(self, listener) -> None:
            pass

    source = CoreSource("v5", Driver(), [node.core.contact(onion_record(4))], rand=bytes)
    source.listen(lambda found: bool(heard.append(found)) or True)
    assert heard == []


@pytest.mark.parametrize("room", [True, False])
async def test_a_node_without_room_is_forgotten(room):
    net = DriverNet()
    us = net.add(US)
    source = CoreSource("v5", us, [us.core.contact(udp_record(0))], rand=bytes)
    source.listen(lambda found: room)
    assert (node_key(0).node_id in source._contacts) is room
