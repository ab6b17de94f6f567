"""The crawler's queue and pace, with sources that follow a script."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import chain

import pytest

from relay.discovery.crawled import Found, NodeSet
from relay.discovery.crawler import Crawler, CrawlOptions, Tell
from relay.discovery.driver import NoAnswer
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.keys import NodeId
from relay.protocols.discv5 import Failure
from tests.aids.discv5 import node_key, udp_record
from tests.aids.until import stays, until

BRISK = CrawlOptions(per_second=10_000.0, walk_pause=0.001, quiet_walks=2, retry=0.001, revisit=60.0)


def found(number: int, seq: int = 1) -> Found:
    key, record = node_key(number), udp_record(number, seq=seq)
    return Found(key.public_key, key.node_id, record, Endpoint(Network.IPV4, record.ip, record.udp), 0)


class Script:
    """A network: who tells of whom; those in `dead` never answer."""

    def __init__(self, told: dict[int, list[int]], dead: set[int] = frozenset(), name: str = "v5") -> None:
        self.name = name
        self.told, self.dead = told, dead
        self.numbers = {node_key(number).node_id: number for number in {0, *told, *chain(*told.values())}}
        self.visited: Counter[int] = Counter()
        self.running = self.most = 0
        self.walks: list[Callable[[], None]] = []
        self.tell: Tell = lambda found: False

    def listen(self, tell: Tell) -> None:
        self.tell = tell
        tell(found(0))

    async def visit(self, node_id: NodeId) -> None:
        number = self.numbers[node_id]
        self.visited[number] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if number in self.dead:
            raise NoAnswer(Failure.TIMEOUT)
        for each in self.told.get(number, []):
            self.tell(found(each))

    async def walk(self) -> None:
        if self.walks:
            self.walks.pop(0)()
        raise NoAnswer(Failure.BUSY)


async def crawl(*scripts: Script, options: CrawlOptions = BRISK, **more: object) -> NodeSet:
    nodes = more.pop("nodes") if "nodes" in more else NodeSet(lambda: 1000.0)
    crawler = Crawler([(each, options) for each in scripts], nodes, clock=asyncio.get_running_loop(), **more)
    async with asyncio.timeout(5):
        await crawler.run()
    return nodes


async def test_everybody_who_is_told_of_is_visited_once_and_then_the_crawl_ends():
    script = Script({0: [1, 2], 1: [3], 3: [4, 0]})
    nodes = await crawl(script)
    assert script.visited == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1}
    assert (len(nodes), nodes.alive) == (5, 5)
    assert all(node.answered == {"v5"} and node.score == 1 for node in nodes.answered())


async def test_a_silent_node_is_tried_three_times_and_is_not_among_those_that_answered():
    script = Script({0: [1, 2]}, dead={1})
    nodes = NodeSet(lambda: 1000.0)
    crawler = Crawler([(script, BRISK)], nodes, clock=asyncio.get_running_loop(), forever=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crawler.run())
        await until(lambda: script.visited[1] == 3, "three tries")
        await stays(lambda: script.visited[1] == 3, "no fourth try", 0.05)
        crawler.stop()
    assert script.visited == {0: 1, 1: 3, 2: 1}
    assert (len(nodes), nodes.alive) == (3, 2)


async def test_a_newer_record_of_a_node_that_was_given_up_has_it_visited_again():
    script = Script({0: [1]}, dead={1})
    nodes = NodeSet(lambda: 1000.0)
    crawler = Crawler([(script, BRISK)], nodes, clock=asyncio.get_running_loop(), forever=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crawler.run())
        await until(lambda: script.visited[1] == 3, "three tries")
        script.dead = set()
        script.tell(found(1))
        await stays(lambda: script.visited[1] == 3, "the same record is no news", 0.05)
        script.tell(found(1, seq=2))
        await until(lambda: nodes.alive == 2, "the node answers")
        crawler.stop()


async def test_nodes_are_visited_again_when_their_time_has_come():
    script = Script({0: [1]})
    crawler = Crawler(
        [(script, CrawlOptions(per_second=10_000.0, revisit=0.01, walk_pause=0.001))],
        nodes := NodeSet(lambda: 1000.0),
        clock=asyncio.get_running_loop(),
        forever=True,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(crawler.run())
        await until(lambda: script.visited[1] >= 3, "three visits")
        script.dead = {1}
        scored = next(node for node in nodes.answered() if script.numbers[node.node_id] == 1)
        before = scored.score
        await until(lambda: scored.score < before, "silence halves the score")
        crawler.stop()
    assert nodes.alive == 2


async def test_a_node_that_two_sources_know_is_one_node_with_both_names():
    first, second = Script({0: [1]}), Script({0: [2]}, name="v4")
    nodes = await crawl(first, second)
    by_number = {first.numbers.get(each.node_id, 2): each.answered for each in nodes.answered()}
    assert by_number == {0: {"v5", "v4"}, 1: {"v5"}, 2: {"v4"}}


async def test_no_more_visits_at_a_time_than_allowed_nor_faster():
    script = Script({0: list(range(1, 41))})
    loop = asyncio.get_running_loop()
    begun = loop.time()
    options = CrawlOptions(visits=3, per_second=200.0, walk_pause=0.001, quiet_walks=1)
    await crawl(script, options=options)
    assert script.most <= 3
    assert loop.time() - begun >= 40 / 200.0


async def test_the_end_waits_for_walks_that_bring_news_and_for_other_work():
    script = Script({0: []})
    script.numbers[node_key(7).node_id] = 7
    script.walks = [lambda: None, lambda: script.tell(found(7))]
    busy = [True]
    asyncio.get_running_loop().call_later(0.05, busy.clear)
    nodes = await crawl(script, busy=lambda: bool(busy))
    assert script.visited == {0: 1, 7: 1}
    assert nodes.alive == 2


async def test_a_full_set_takes_no_new_nodes_but_those_given_up_make_room():
    nodes = NodeSet(lambda: 1000.0, limit=3)
    script = Script({0: [1, 2, 3, 4]}, dead={1, 2})
    # Nobody is tried again, however long the crawl takes: then nobody is given up but by hand.
    await crawl(script, nodes=nodes, options=replace(BRISK, retry=60.0))
    assert (len(nodes), nodes.overflow) == (3, 2)
    assert set(script.visited) == {0, 1, 2}
    nodes.give_up(node_key(1).node_id)
    assert nodes.hear(found(5))
    assert nodes.get(node_key(1).node_id) is None
    assert not nodes.hear(found(6))
    # What is gone may still be spoken of by a visit that was under way.
    nodes.answer(node_key(1).node_id, "v5")
    nodes.silence(node_key(1).node_id)
    assert (len(nodes), nodes.alive) == (3, 1)


async def test_a_fault_of_ours_ends_the_crawl_loudly():
    script = Script({0: []})

    async def broken(node_id: NodeId) -> None:
        raise ZeroDivisionError

    script.visit = broken
    with pytest.raises(ExceptionGroup):
        await crawl(script)
