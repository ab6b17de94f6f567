"""The jobs behind `dht_*`: real nodes that meet through a scripted proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.app import dht_jobs
from relay.app.datadir import DataDir
from relay.app.dht_jobs import DhtJobs, why_no_dht
from relay.app.onions import OnionDiscovery
from relay.discovery.peer_text import KnownKey, nobody_known, peer_text
from relay.primitives.errors import LocalError
from relay.primitives.keys import NodeKey
from relay.protocols.dht import parse_key
from relay.rpc.errors import INVALID_PARAMS, RpcError
from relay.rpc.views import DhtView
from tests.aids.onion_dht import ScriptedPeer, scripted_peer
from tests.aids.socks_server import SocksServer
from tests.aids.until import until

KEY = "something"
HEX = "0x" + parse_key(KEY).hex()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Jobs:
    """Jobs of a node, and the clock that ends them."""

    def __init__(self, jobs: DhtJobs, clock: Clock) -> None:
        self.jobs, self.clock = jobs, clock
        self.view: DhtView = jobs

    async def state(self, job: str, *wanted: str, deadline: float = 20.0) -> dict:
        def reached() -> dict | None:
            told = dict(self.view.job(job))
            return told if told["state"] in wanted else None

        return await until(reached, lambda: f"{wanted}, but it is {self.view.job(job)}", deadline)


@asynccontextmanager
async def jobs_of(
    onion: OnionDiscovery | None,
    *,
    refusal: str | None = None,
    known: KnownKey = nobody_known,
    data: DataDir | None = None,
) -> AsyncIterator[Jobs]:
    clock = Clock()
    async with asyncio.TaskGroup() as tasks:
        jobs = DhtJobs(tasks, refusal=refusal, known=known, clock=clock, data=data)
        jobs.begin(onion)
        before = asyncio.all_tasks()
        try:
            yield Jobs(jobs, clock)
        finally:
            for task in asyncio.all_tasks() - before:
                if task.get_name().startswith("dht "):
                    task.cancel()


def text_of(peer: ScriptedPeer) -> str:
    assert peer.node.onion is not None
    return peer_text(peer.key.public_key, peer.node.onion)


async def test_key_is_provided_by_one_and_found_by_another():
    async with (
        SocksServer(routes={}) as proxy,
        scripted_peer(proxy) as keeper,
        scripted_peer(proxy, keeper.node) as giver,
        scripted_peer(proxy) as asker,
        jobs_of(giver.onion) as giving,
        jobs_of(asker.onion) as asking,
    ):
        job = giving.view.provide(KEY, [])
        told = await giving.state(job, "done")
        assert (told["kind"], told["key"], told["stored"], told["asked"]) == ("provide", HEX, 1, 1)
        assert giving.view.providing() == [{"key": HEX, "stored": 1, "asked": 1}]

        search = asking.view.find(HEX, [text_of(keeper)])
        told = await asking.state(search, "done")
        assert [each["id"] for each in told["providers"]] == [giver.key.node_id.hex()]
        assert [each["peer"] for each in told["providers"]] == [text_of(giver)]
        assert told["providers"][0]["hops"] == 1
        assert told["asked"] in (1, 2)  # the giver too, if it is nearer to the key than the keeper

        nobody = asking.view.find("nobody has this", [text_of(keeper)])
        told = await asking.state(nobody, "done")
        assert told["providers"] == []
        assert told["asked"] >= 1

        assert giving.view.stop_providing(HEX)
        assert not giving.view.stop_providing(KEY)
        assert giving.view.providing() == []
        assert giver.onion.dht is not None
        assert giver.onion.dht.providing == 0


async def test_providing_waits_for_a_peer_that_a_later_job_names():
    async with (
        SocksServer(routes={}) as proxy,
        scripted_peer(proxy) as keeper,
        scripted_peer(proxy) as giver,
        jobs_of(giver.onion) as giving,
    ):
        first = giving.view.provide(KEY, [])
        assert (await giving.state(first, "waiting"))["reason"] == "no peers yet"
        second = giving.view.provide(KEY, [text_of(keeper)])
        for job in (first, second):
            assert (await giving.state(job, "done"))["stored"] == 1
        # The second did not begin it, and has ended anyway.
        assert not giving.view.cancel(second)
        assert len(giving.view.providing()) == 1


async def test_jobs_of_a_daemon_that_starts_wait_for_it():
    async with SocksServer(routes={}) as proxy, scripted_peer(proxy) as node, jobs_of(None) as jobs:
        job = jobs.view.find(KEY, [])
        assert (await jobs.state(job, "waiting"))["reason"] == "the daemon is starting"
        jobs.jobs.begin(node.onion)
        await until(lambda: jobs.view.job(job)["reason"] == "no peers yet", "it looks for somebody to ask")
        jobs.clock.now += dht_jobs.PATIENCE
        assert "no node of the onion network" in (await jobs.state(job, "failed"))["reason"]


async def test_search_among_those_that_do_not_answer_failed_and_did_not_find_nobody():
    async with (
        SocksServer(routes={}) as proxy,
        scripted_peer(proxy) as gone,
        scripted_peer(proxy) as asker,
        jobs_of(asker.onion) as jobs,
    ):
        proxy.routes.clear()
        told = await jobs.state(jobs.view.find(KEY, [text_of(gone)]), "failed")
        assert told["reason"] == "none of the nodes that were asked answers"


async def test_key_that_nobody_takes_is_tried_again(monkeypatch):
    monkeypatch.setattr(dht_jobs, "AGAIN", 0.05)
    async with (
        SocksServer(routes={}) as proxy,
        scripted_peer(proxy, dht=False) as deaf,
        scripted_peer(proxy, deaf.node) as giver,
        jobs_of(giver.onion) as jobs,
    ):
        job = jobs.view.provide(KEY, [])
        await until(
            lambda: "none of 1 nodes stored it: does not speak" in str(jobs.view.job(job)["reason"]),
            lambda: jobs.view.job(job),
        )
        assert jobs.view.cancel(job)
        assert (jobs.view.job(job)["state"], jobs.view.job(job)["reason"]) == ("failed", "cancelled")
        assert jobs.view.providing() == []


async def test_stopping_ends_the_jobs_of_a_key_and_too_many_keys_fail(monkeypatch):
    async with SocksServer(routes={}) as proxy, scripted_peer(proxy) as node, jobs_of(node.onion) as jobs:
        job = jobs.view.provide(KEY, [])
        await jobs.state(job, "waiting")
        assert jobs.view.stop_providing(KEY)
        assert jobs.view.job(job)["reason"] == "providing was stopped"

        for number in range(64):
            node.onion.dht.provide(parse_key(f"{number}"), 0.0)
        told = await jobs.state(jobs.view.provide(KEY, []), "failed")
        assert "at most 64 keys" in told["reason"]
        assert jobs.view.providing() == []


async def test_jobs_are_bounded_and_ended_ones_are_forgotten(monkeypatch):
    monkeypatch.setattr(dht_jobs, "MAX_JOBS", 3)
    async with SocksServer(routes={}) as proxy, scripted_peer(proxy) as node, jobs_of(node.onion) as jobs:
        first, second, third = [jobs.view.provide(KEY, []) for _ in range(3)]
        with pytest.raises(LocalError, match="3 jobs are under way"):
            jobs.view.find(KEY, [])
        assert jobs.view.cancel(second)
        fourth = jobs.view.provide("another", [])
        with pytest.raises(LocalError, match="there is no job '2'"):
            jobs.view.job(second)
        for job in (first, third, fourth):
            jobs.view.cancel(job)
        jobs.clock.now += dht_jobs.KEPT
        for job in (first, third, fourth):
            with pytest.raises(LocalError, match="no job"):
                jobs.view.job(job)


async def test_bad_keys_and_peers_begin_no_job():
    async with SocksServer(routes={}) as proxy, scripted_peer(proxy) as node, jobs_of(node.onion) as jobs:
        for key, peers in (("", []), (KEY, ["nonsense"])):
            with pytest.raises(RpcError) as caught:
                jobs.view.find(key, peers)
            assert caught.value.code == INVALID_PARAMS
        assert jobs.jobs._jobs == {}


async def test_node_id_is_taken_where_its_key_is_known():
    stranger = NodeKey(bytes(31) + b"\x07")
    async with (
        SocksServer(routes={}) as proxy,
        scripted_peer(proxy) as node,
        jobs_of(node.onion, known={stranger.node_id: stranger.public_key}.get) as jobs,
    ):
        onion = node.node.onion.host
        assert jobs.view.cancel(jobs.view.find(KEY, [f"{onion}:1/{stranger.node_id.hex()}"]))
        with pytest.raises(RpcError, match="hash of a public key"):
            jobs.view.find(KEY, [f"{onion}:1/{'ab' * 32}"])


async def test_without_dht_everything_says_why():
    async with jobs_of(None, refusal="there is none") as jobs:
        view = jobs.view
        for call in (
            lambda: view.provide(KEY, []),
            lambda: view.find(KEY, []),
            lambda: view.job("1"),
            lambda: view.cancel("1"),
            view.providing,
            lambda: view.stop_providing(KEY),
        ):
            with pytest.raises(LocalError, match="there is none"):
                call()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "--discovery is off: start it with --discovery onion,dht, and with Tor"),
        ({"discovery": "onion", "tor_proxy": "127.0.0.1:9"}, "--discovery is onion: start"),
    ],
)
def test_reason_names_the_flag_that_would_mend_it(settings_of, flags, words):
    assert words in (why_no_dht(settings_of(**flags)) or "")


def test_daemon_with_tor_has_a_dht(settings_of):
    assert why_no_dht(settings_of(discovery="onion,dht", tor_proxy="127.0.0.1:9")) is None


async def test_keys_are_provided_again_after_a_restart_until_they_are_stopped(tmp_path):
    data = DataDir(tmp_path)
    async with SocksServer(routes={}) as proxy, scripted_peer(proxy) as keeper:
        async with scripted_peer(proxy, keeper.node) as giver, jobs_of(giver.onion, data=data) as jobs:
            await jobs.state(jobs.view.provide(KEY, []), "done")
            cancelled = jobs.view.provide("other", [])
            assert jobs.view.cancel(cancelled)
        async with scripted_peer(proxy, keeper.node) as giver, jobs_of(giver.onion, data=data) as jobs:
            written = [{"key": HEX, "stored": 1, "asked": 1}]
            await until(lambda: jobs.view.providing() == written, "the key of before is written")
            assert jobs.view.stop_providing(KEY)
        async with scripted_peer(proxy, keeper.node) as giver, jobs_of(giver.onion, data=data) as jobs:
            assert jobs.view.providing() == []
            assert giver.onion.dht is not None
            assert giver.onion.dht.providing == 0


async def test_file_of_keys_that_holds_something_else_counts_as_none(tmp_path):
    data = DataDir(tmp_path)
    for content in ([HEX, 7, "0x12", "nonsense", None], {"keys": 1}, "text"):
        data.save_state(dht_jobs.KEYS, content)
        async with jobs_of(None, data=data) as jobs:
            told = [each["key"] for each in jobs.view.providing()]
            assert told == ([HEX] if isinstance(content, list) else [])


async def test_key_given_while_the_daemon_starts_does_not_push_out_those_of_before(tmp_path):
    data = DataDir(tmp_path)
    data.save_state(dht_jobs.KEYS, [HEX])
    async with jobs_of(None, data=data) as jobs:
        jobs.view.provide("another", [])
        assert data.load_state(dht_jobs.KEYS) == [HEX, "0x" + parse_key("another").hex()]
