"""The model of how transactions spread does what real relays do, and its figures are those of its seed."""

from __future__ import annotations

import json
import random
from statistics import fmean

import pytest

from benchmarks.privacy.__main__ import DEFENCES, simulate
from benchmarks.privacy.estimators import NAMED
from benchmarks.privacy.graph import JITTER, World, make_world
from benchmarks.privacy.links import left_by_elimination
from benchmarks.privacy.measures import interval, judge
from benchmarks.privacy.spread import Defence, Simulation
from benchmarks.privacy.table import draw, table
from relay.protocols.eth.versions import BY_VERSION
from relay.protocols.pyrelay.messages import NAME
from relay.relaying.chain_data.capability import RelayCapability
from relay.relaying.dandelion import StemOptions
from relay.relaying.handler import EthRelay
from relay.relaying.options import RelayOptions
from relay.relaying.trickle import TrickleOptions
from tests.aids.relaying import CONFIG, UNIX_NOW, RecordingSession, VirtualLoop, raw_tx, seeded

SIZE, DIALED, SENT = 14, 3, 14
STEM = StemOptions(own=True, fluffing=100)  # one hop, then gossip: lengths of stems would have to be averaged
SLOW = TrickleOptions(outbound=2.0, inbound=5.0)


def small_world() -> World:
    """Fewer links than `make_world` has, so that there is more than one hop."""
    draw = random.Random("small")
    dialed, came, latency = [[] for _ in range(SIZE)], [[] for _ in range(SIZE)], {}
    for relay in range(SIZE):
        for other in draw.sample([each for each in range(SIZE) if each != relay], DIALED):
            if relay not in dialed[other]:
                dialed[relay].append(other)
                came[other].append(relay)
                latency[relay, other] = latency[other, relay] = 0.1 + draw.random()
    return World(SIZE, 0, dialed, came, latency)


class Wire(RecordingSession):
    """A session that is a link to another relay of the same loop, as slow as its latency says."""

    def __init__(self, town, at, to, inbound):
        super().__init__(inbound=inbound, capabilities=(NAME,))
        self.eth = BY_VERSION[69]
        self.town, self.at, self.to, self.other = town, at, to, None

    def _later(self, call):
        town = self.town
        delay = town.world.latency[self.at, self.to] + town.draw.expovariate(1.0 / JITTER)
        town.loop.call_later(delay, call)

    def send(self, code, payload):
        self._later(lambda: self.town.relays[self.to].message(self.other, code, payload))

    def send_packed(self, code, body):
        super().send_packed(code, body)
        self.send(*self.sent.pop())

    def send_to(self, name, code, payload):
        self._later(lambda: self.town.doors[self.to].message(self.other, code, payload))


class Town:
    """Real relays, linked as a world has it."""

    def __init__(self, world, defence):
        self.world, self.draw, self.loop = world, random.Random("town"), VirtualLoop()
        options = RelayOptions(
            stem=defence.stem,
            trickle=defence.trickle,
            own_listen_seconds=0.0 if defence.trickle.is_on else RelayOptions().own_listen_seconds,
        )
        self.relays = [
            EthRelay(CONFIG, options, self.loop, lambda: UNIX_NOW, seeded(b"relay %d" % number))
            for number in range(world.size)
        ]
        self.doors = [RelayCapability(relay) for relay in self.relays]
        for one, others in enumerate(world.dialed):
            for other in others:
                here, there = Wire(self, one, other, False), Wire(self, other, one, True)
                here.other, there.other = there, here
                self.relays[one].joined(here)
                self.relays[other].joined(there)
        self.loop.settle()

    def send(self, origin):
        """Seconds until each relay has it."""
        began, times = self.loop.now, []
        for relay in self.relays:
            relay.pool.on_added = lambda _tx: times.append(self.loop.now - began)
        self.relays[origin].submit(raw_tx(account=origin))
        self.loop.advance(120.0)
        assert len(times) == self.world.size
        return times


@pytest.mark.parametrize(
    ("defence", "tolerance"),
    [
        (Defence("diffusion"), 0.08),
        (Defence("one hop", stem=STEM), 0.12),
        (Defence("trickle", SLOW), 0.15),
        (Defence("both", SLOW, STEM), 0.15),
    ],
    ids=lambda value: value.name if isinstance(value, Defence) else "",
)
def test_the_model_takes_as_long_as_real_relays(defence, tolerance):
    world = small_world()
    town = Town(world, defence)
    real = fmean(fmean(town.send(origin)) for origin in range(SENT))
    model = []
    for seed in range(8):
        simulation = Simulation(world, defence, seed)
        for origin in range(SENT):
            trace = simulation.send(origin, 200.0 * origin)
            model.append(fmean(when - trace.began for when in trace.times.values()))
    assert fmean(model) == pytest.approx(real, rel=tolerance)


def test_real_relays_lose_nothing_on_long_stems():
    town = Town(small_world(), Defence("stems", stem=StemOptions(own=True, fluffing=20)))
    for origin in range(SENT):
        town.loop.advance(600.0)
        town.send(origin)
    ended = [relay.stems.counters.ended for relay in town.relays]
    assert sum(each["fluffed"] + each["loop"] + each["embargo"] for each in ended) >= SENT
    assert sum(relay.stems.counters.held for relay in town.relays) == 0


def test_links_are_those_of_the_defaults():
    world = make_world(120, 0.2, 0.2, 1)
    assert all(len(others) <= 16 for others in world.dialed)
    assert sum(map(len, world.dialed)) > 15 * 120
    assert all(len(others) <= 34 for others in world.came)
    greedy = make_world(120, 0.2, 0.2, 1, greedy=True)
    assert [greedy.dialed[relay] for relay in greedy.honest] == [
        world.dialed[relay] for relay in world.honest
    ]
    more, fewer = (fmean(len(each.came[relay]) for relay in each.honest) for each in (greedy, world))
    assert more > 1.5 * fewer


def test_the_same_seed_gives_the_same_figures_and_another_one_others():
    chosen = tuple(each for each in DEFENCES if each.name in ("diffusion", "dandelion", "private"))
    few = {"relays": 20, "worlds": 1, "latency": 0.2, "shares": (0.2,), "defences": chosen}
    first = simulate(**few, seed=1)
    assert json.dumps(simulate(**few, seed=1)) == json.dumps(first)
    assert json.dumps(simulate(**few, seed=2)) != json.dumps(first)
    by_name = {each["defence"]: each for each in first["origins"]}
    # What the page says of many relays shows with few.
    assert by_name["diffusion"]["best_recall"] > 0.8
    assert by_name["dandelion"]["estimators"]["first spy"]["recall"] < 0.5
    assert by_name["private"]["estimators"]["first spy"]["recall"] == 0.0
    assert "| diffusion | 20% |" in table(first)


def test_the_curve_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    result = simulate(12, 1, 0.2, 1, shares=(0.2, 0.3), defences=(Defence("a"), Defence("b"), Defence("c")))
    draw(result, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_spy_next_door_sees_the_origin_of_what_is_told_at_once():
    world = make_world(60, 0.2, 0.2, 1)
    simulation = Simulation(world, Defence("diffusion"), 1)
    traces = [simulation.send(origin, 200.0 * origin) for origin in world.honest]
    assert judge([(simulation, traces)])["estimators"]["first spy"]["recall"] > 0.85
    assert all(NAMED["earliest beginning"](simulation, trace) is not None for trace in traces)


def test_strangers_as_receivers_rule_out_more_than_any_would():
    world = make_world(80, 0.2, 0.2, 1)

    def left(strangers):
        defence = Defence("private", private=True, strangers=strangers)
        return left_by_elimination(Simulation(world, defence, 1), range(5), (1, 3))

    assert left(True)[1] < left(False)[1] / 2
    assert left(True)[3] < left(True)[1]


def test_the_interval_is_wilsons():
    low, high = interval(0.5, 100)
    assert (round(low, 3), round(high, 3)) == (0.404, 0.596)
    assert interval(0.0, 50)[0] == 0.0
    assert 0.0 < interval(0.0, 50)[1] < 0.08
