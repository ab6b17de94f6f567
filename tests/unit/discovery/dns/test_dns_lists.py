"""Following lists under a virtual clock, with a DNS in a dictionary."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest
from structlog.testing import capture_logs

from relay.discovery.dns import lists as module
from relay.discovery.dns.download import download
from relay.discovery.dns.lists import DnsLists
from relay.primitives.errors import LocalError, StorageError
from relay.primitives.keys import NodeKey
from relay.protocols.dnsdisc.entries import Branch, Root, hash_name
from relay.protocols.dnsdisc.events import Reason
from relay.protocols.dnsdisc.sync import SyncOptions
from relay.protocols.dnsdisc.tree import make_tree
from tests.aids.dnsdisc import SIGNER, signed_tree, tree_records

DOMAIN, OTHER = "list.example.org", "other.example.org"


class _Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due: list[tuple[float, int, _Timer, object]] = []
        self._serial = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when, callback):
        timer = _Timer()
        heapq.heappush(self._due, (when, next(self._serial), timer, callback))
        return timer

    async def advance(self, seconds: float) -> None:
        end = self.now + seconds
        await settle()
        while self._due and self._due[0][0] <= end:
            self.now, _, timer, callback = heapq.heappop(self._due)
            if not timer.cancelled:
                callback()
                await settle()
        self.now = end


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


class FakeDns:
    """A resolver: a dictionary; names in `dead` can't be resolved."""

    def __init__(self, clock: VirtualClock, *trees) -> None:
        self.texts: dict[str, tuple[str, ...]] = {}
        self.dead: set[str] = set()
        self.asked: list[tuple[float, str]] = []
        self._clock = clock
        for tree, link in trees:
            self.publish(tree, link)

    def publish(self, tree, link) -> None:
        self.texts |= {name: (text,) for name, text in tree.texts(link.domain).items()}

    async def txt(self, name: str) -> tuple[str, ...] | None:
        self.asked.append((self._clock.now, name))
        await asyncio.sleep(0)
        return None if name in self.dead else self.texts.get(name, ())


class Following:
    """Lists that are followed, and what they gave."""

    def __init__(self, *trees, follow=1, **options) -> None:
        self.clock = VirtualClock()
        self.dns = FakeDns(self.clock, *trees)
        self.offered: list[tuple[object, str]] = []
        self.saved: list[dict[str, int]] = []
        self.is_hungry = True
        self.takes = True
        extra = {"save": lambda seqs: self.saved.append(dict(seqs))} | options
        self.lists = DnsLists(
            [link for _, link in trees[:follow]],
            self.dns,
            self._offer,
            hungry=lambda: self.is_hungry,
            clock=self.clock,
            rand=Random(1).randbytes,
            **extra,
        )

    def _offer(self, record, domain: str) -> bool:
        self.offered.append((record, domain))
        return self.takes

    @asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.lists.run())
            try:
                yield self
            finally:
                task.cancel()


async def test_every_record_is_offered_with_its_list():
    records = tree_records(30)
    async with Following(signed_tree(DOMAIN, records)).running() as following:
        await following.clock.advance(30)
        assert {record.node_id for record, _ in following.offered} == {each.node_id for each in records}
        assert {domain for _, domain in following.offered} == {DOMAIN}
        assert following.lists.records == 30
        assert following.lists.all_read


async def test_questions_keep_to_three_a_second():
    async with Following(signed_tree(DOMAIN, tree_records(100))).running() as following:
        await following.clock.advance(10)
        asked = len(following.dns.asked)
    assert 28 <= asked <= 34  # three at once, then three a second


async def test_nothing_is_asked_while_nobody_is_hungry():
    following = Following(signed_tree(DOMAIN, tree_records(100)))
    async with following.running():
        await following.clock.advance(5)
        following.is_hungry = False
        await following.clock.advance(1)
        before = len(following.dns.asked)
        await following.clock.advance(7200)
        assert len(following.dns.asked) == before
        following.is_hungry = True
        await following.clock.advance(5)
        assert len(following.dns.asked) > before
        assert following.dns.asked[before][1] == DOMAIN  # two hours later its root comes first


async def test_hunger_is_noticed_at_once_when_told():
    following = Following(signed_tree(DOMAIN, tree_records(3)))
    following.is_hungry = False
    async with following.running():
        await following.clock.advance(0.5)
        following.is_hungry = True
        following.lists.wake()
        await settle()
        assert following.dns.asked[0] == (1000.5, DOMAIN)


async def test_root_is_looked_at_again_after_half_an_hour():
    records = tree_records(4)
    async with Following(signed_tree(DOMAIN, records[:3])).running() as following:
        await following.clock.advance(60)
        following.dns.publish(*signed_tree(DOMAIN, records, seq=2))
        before = len(following.dns.asked)
        await following.clock.advance(30 * 60)
        names = [name for _, name in following.dns.asked[before:]]
        assert names[0] == DOMAIN
        assert following.lists.records == 4
        assert following.lists.seqs == {str(following.lists.trees[0].link): 2}


async def test_known_records_are_offered_again_when_all_is_read():
    following = Following(signed_tree(DOMAIN, tree_records(50)))
    async with following.running():
        await following.clock.advance(25)
        assert following.lists.all_read
        first = len(following.offered)
        await following.clock.advance(61)
        assert module.ROUND <= len(following.offered) - first <= 2 * module.ROUND
        following.is_hungry = False
        again = len(following.offered)
        await following.clock.advance(600)
        assert len(following.offered) == again


async def test_records_of_no_use_are_not_remembered():
    following = Following(signed_tree(DOMAIN, tree_records(5)))
    following.takes = False
    async with following.running():
        await following.clock.advance(600)
        assert len(following.offered) == 5
        assert following.lists.reoffered == 0


async def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_KNOWN", 10)
    async with Following(signed_tree(DOMAIN, tree_records(25))).running() as following:
        await following.clock.advance(20)
        assert following.lists.forgotten == 15
        assert len(following.lists._known) == 10


async def test_linked_list_is_followed_and_a_loop_of_links_ends():
    other_key = NodeKey(b"\x22" * 32)
    _, other_link = signed_tree(OTHER, signer=other_key)
    _, link = signed_tree(DOMAIN)
    tree = signed_tree(DOMAIN, tree_records(3), [other_link])
    other = signed_tree(OTHER, tree_records(6)[3:], [link, other_link], signer=other_key)
    async with Following(tree, other).running() as following:
        await following.clock.advance(1700)
        assert following.lists.records == 6
        assert {domain for _, domain in following.offered} == {DOMAIN, OTHER}
        assert len(following.lists.trees) == 2
        assert len(following.dns.asked) < 20
        assert not following.lists.refused


# -- persistence


async def test_sequence_number_is_saved_once_and_guards_the_next_life():
    new, old = signed_tree(DOMAIN, tree_records(2), seq=7), signed_tree(DOMAIN, tree_records(1), seq=6)
    url = str(new[1])
    async with Following(new).running() as following:
        await following.clock.advance(1700)
        assert following.saved == [{url: 7}]
    with capture_logs() as logs:
        async with Following(old, seqs={url: 7, "not a list": 3}).running() as following:
            await following.clock.advance(60)
            assert following.offered == []
            assert following.lists.refused[Reason.REPLAY] >= 2
            assert following.saved == []
    assert ["older than 7" in each["why"] for each in logs if each["log_level"] == "warning"] == [True]
    async with Following(new, seqs={url: 7}).running() as following:
        await following.clock.advance(60)
        assert following.lists.records == 2
        assert following.saved == []


async def test_full_disk_ends_nothing():
    def full(_) -> None:
        raise StorageError("disk full")

    with capture_logs() as logs:
        async with Following(signed_tree(DOMAIN, tree_records(2)), save=full).running() as following:
            await following.clock.advance(60)
            assert following.lists.records == 2
    assert any("disk full" in str(each.get("cause")) for each in logs)


# -- what is refused


async def test_forged_root_is_refused_and_said_once():
    tree, link = signed_tree(DOMAIN, tree_records(2))
    following = Following((tree, link))
    following.dns.publish(*signed_tree(DOMAIN, tree_records(2), signer=NodeKey(b"\x33" * 32)))
    with capture_logs() as logs:
        async with following.running():
            await following.clock.advance(120)
    assert following.offered == []
    assert following.lists.refused[Reason.BAD_SIGNATURE] > 2
    warned = [each for each in logs if each["log_level"] == "warning"]
    assert [each["why"] for each in warned] == ["the root is not signed by the key of the link"]
    assert warned[0]["list"] == DOMAIN


async def test_entry_without_its_hash_is_refused_and_the_rest_read():
    tree, link = signed_tree(DOMAIN, tree_records(40))
    following = Following((tree, link))
    victim = next(name for name, text in tree.entries.items() if text.startswith("enr:"))
    following.dns.texts[f"{victim}.{DOMAIN}"] = ("enr:forged", "")
    async with following.running():
        await following.clock.advance(120)
        assert following.lists.records == 39
        assert following.lists.refused == {Reason.WRONG_HASH: 3}
        assert following.lists.all_read


@pytest.mark.parametrize("texts", [("x" * 65000,), ("",), ("enrtree-root:v1",) * 20, ("\ufffd",)])
async def test_texts_of_any_kind_are_refused(texts):
    following = Following(signed_tree(DOMAIN, tree_records(2)))
    following.dns.texts[DOMAIN] = texts
    async with following.running():
        await following.clock.advance(20)
        assert sum(following.lists.refused.values()) >= 2
        assert following.offered == []


async def test_huge_tree_is_bounded():
    """Far more entries than are followed, and none of the leaves is there: each is asked for a few times."""
    following = Following(signed_tree(DOMAIN), options=SyncOptions(rate=1000.0, burst=100, max_entries=500))
    bottomless = _Bottomless(following)
    following.lists._resolver = bottomless
    with capture_logs() as logs:
        async with following.running():
            await following.clock.advance(1700)
            assert following.lists.refused[Reason.TOO_LARGE] >= 1
            assert sum(len(subtree) for subtree in following.lists.trees[0].subtrees) <= 501
    assert len(bottomless.asked) < 2000
    assert [each["why"] for each in logs if each["log_level"] == "warning"].count(
        "the tree is too large, the rest of it is left out"
    ) == 1


class _Bottomless:
    """A signed root over 8,000 names that lead nowhere, with branches between."""

    def __init__(self, following: Following) -> None:
        self.asked: list[str] = []
        self._texts: dict[str, str] = {}
        empty = self._put(str(Branch(())))
        top = self._level(4)
        root = Root(top, empty, 1).sign(SIGNER)
        self._texts[DOMAIN] = str(root)

    def _put(self, text: str) -> str:
        name = hash_name(text)
        self._texts[f"{name}.{DOMAIN}"] = text
        return name

    def _level(self, depth: int, path: str = "") -> str:
        if depth == 0:
            return hash_name(f"leaf {path}")
        width = 10 if depth > 1 else 8
        return self._put(str(Branch(tuple(self._level(depth - 1, f"{path}.{at}") for at in range(width)))))

    async def txt(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        return (self._texts[name],) if name in self._texts else ()


async def test_resolver_that_is_dead_is_asked_less_and_less():
    following = Following(signed_tree(DOMAIN, tree_records(3)))
    following.dns.dead = {DOMAIN}
    with capture_logs() as logs:
        async with following.running():
            await following.clock.advance(3600)
    assert len(following.dns.asked) < 15
    assert following.lists.refused == {Reason.NOT_RESOLVED: len(following.dns.asked)}
    assert all(each["log_level"] == "debug" for each in logs)


async def test_dead_entries_come_when_dns_is_back():
    following = Following(signed_tree(DOMAIN, tree_records(10)))
    async with following.running():
        await following.clock.advance(0.2)
        following.dns.dead = set(following.dns.texts)
        await following.clock.advance(20)
        following.dns.dead = set()
        await following.clock.advance(3600)
        assert following.lists.records == 10


async def test_end_leaves_no_task_behind():
    following = Following(signed_tree(DOMAIN, tree_records(10)))
    gate = asyncio.Event()

    async def wait(_: str) -> None:
        await gate.wait()

    following.dns.txt = wait
    async with following.running():
        await following.clock.advance(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- one list, whole


async def fetch(clock: VirtualClock, dns: FakeDns, link, **options):
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(
            _caught(download(link, dns, clock=clock, rand=Random(2).randbytes, **options))
        )
        while not task.done():
            await clock.advance(1.0)
    result = task.result()
    if isinstance(result, LocalError):
        raise result
    return result


async def _caught(call):
    try:
        return await call
    except LocalError as error:
        return error


async def test_download_gives_the_whole_list_and_its_links_unfollowed():
    _, other = signed_tree(OTHER)
    records = tree_records(60)
    tree, link = signed_tree(DOMAIN, records, [other], seq=4)
    clock = VirtualClock()
    dns = FakeDns(clock, (tree, link))
    counts = []
    found = await fetch(clock, dns, link, rate=20.0, progress=counts.append)
    assert found.root == tree.root
    assert found.records == tree.records
    assert found.links == (other,)
    assert counts == list(range(1, 61))
    assert not [name for _, name in dns.asked if name.endswith(OTHER)]


@pytest.mark.parametrize("links", [False, True])
async def test_download_survives_entries_that_come_late(links):
    tree, link = signed_tree(DOMAIN, tree_records(5), [signed_tree(OTHER)[1]] if links else [])
    clock = VirtualClock()
    dns = FakeDns(clock, (tree, link))
    dns.dead = {next(name for name in dns.texts if name != DOMAIN)}
    txt, once = dns.txt, []

    async def revive(name: str):
        answer = await txt(name)
        if name in dns.dead:
            once.append(name)
            dns.dead = set()
        return answer

    dns.txt = revive
    assert len((await fetch(clock, dns, link)).records) == 5
    assert len(once) == 1


async def test_download_of_an_incomplete_list_fails_with_what_is_missing():
    tree, link = signed_tree(DOMAIN, tree_records(5))
    clock = VirtualClock()
    dns = FakeDns(clock, (tree, link))
    del dns.texts[next(name for name, texts in dns.texts.items() if texts[0].startswith("enr:"))]
    with pytest.raises(LocalError, match=r"1 entries are missing.*no text at this name has the hash"):
        await fetch(clock, dns, link)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ((), "no root of a tree"),
        (("v=spf1 -all",), "no root of a tree"),
        ((str(make_tree([]).root.sign(NodeKey(b"\x44" * 32))),), "not signed by the key"),
        (("enrtree-root:v1 e=x l=y seq=1 sig=z",), "not base32"),
    ],
)
async def test_download_without_a_good_root_fails_at_once(texts, why):
    tree, link = signed_tree(DOMAIN, tree_records(5))
    clock = VirtualClock()
    dns = FakeDns(clock, (tree, link))
    dns.texts[DOMAIN] = texts
    with pytest.raises(LocalError, match=f"{DOMAIN}: .*{why}"):
        await fetch(clock, dns, link)
    assert len(dns.asked) == 1


async def test_download_that_is_cancelled_ends():
    _, link = signed_tree(DOMAIN, tree_records(5))
    task = asyncio.ensure_future(download(link, FakeDns(clock := VirtualClock()), clock=clock, rand=bytes))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
