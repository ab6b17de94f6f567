"""Words of --nat, and ports that stay mapped, with a router that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from relay.discovery.nat import (
    CONFLICT,
    PERMANENT_ONLY,
    External,
    FixedNat,
    MappedNat,
    Method,
    NatChoice,
    NatFailed,
    NatOptions,
    NoNat,
    make_nat,
    parse_nat,
)
from relay.primitives.errors import UsageError
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.until import until


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("", NatChoice(Method.NONE)), ("none", NatChoice(Method.NONE)), ("OFF", NatChoice(Method.NONE)),
        ("any", NatChoice(Method.ANY)), ("auto", NatChoice(Method.ANY)), ("on", NatChoice(Method.ANY)),
        ("UPnP", NatChoice(Method.UPNP)), ("extip:77.12.33.4", NatChoice(Method.EXTIP, "77.12.33.4")),
        ("ip:77.12.33.4", NatChoice(Method.EXTIP, "77.12.33.4")),
        ("ExtIP:2a00:0::1", NatChoice(Method.EXTIP, "2a00::1")),
        ("extip:127.0.0.1", NatChoice(Method.EXTIP, "127.0.0.1")),
    ],
)  # fmt: skip
def test_words_are_those_of_geth(text, choice):
    assert parse_nat(text) == choice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pmp", "no library of it for Python is kept"), ("natpmp", "NAT-PMP"),
        ("nat-pmp:192.168.0.1", "NAT-PMP"),
        ("stun", "votes in discovery"), ("stun:192.168.0.1:1234", "STUN"),
        ("extip", "expected an IP address"), ("extip:", "expected an IP address"),
        ("extip:example.org", "expected an IP address"), ("extip:1.2.3.4.5", "expected an IP address"),
        ("extip:0.0.0.0", "nobody can be reached"), ("extip:224.0.0.1", "nobody can be reached"),
        ("upnp:192.168.0.1", "takes no address"), ("none:1", "takes no address"),
        (":", "none takes no address"),
        ("nat", "known are none, extip:IP, any and upnp"), ("x" * 500, "known are"),
    ],
)  # fmt: skip
def test_what_is_not_to_be_had_is_refused_with_the_reason(text, words):
    with pytest.raises(UsageError, match=words) as found:
        parse_nat(text)
    assert len(str(found.value)) < 400


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("text", ["none", "any", "upnp", "extip:77.12.33.4"])
def test_a_mode_that_hides_the_ip_has_none_of_it(mode, text):
    choice = parse_nat(text)
    if mode.hides_ip and text != "none":
        with pytest.raises(UsageError, match=f"--nat {text}: {mode.value} hides"):
            choice.check_mode(mode)
    else:
        choice.check_mode(mode)


def test_each_word_makes_what_does_it():
    def make(text: str) -> object:
        sockets = SocketFactory(SocketRules.anywhere())
        return make_nat(parse_nat(text), sockets, tcp=1, udp=2, rand=bytes)

    assert isinstance(make("none"), NoNat)
    assert isinstance(make("extip:77.12.33.4"), FixedNat)
    assert isinstance(make("upnp"), MappedNat)
    assert isinstance(make("any"), MappedNat)


async def test_none_tells_nothing_and_extip_tells_what_was_given():
    told: list[External | None] = []
    await NoNat().run(told.append)
    assert told == []
    await FixedNat(External("77.12.33.4", 1, 2)).run(told.append)
    assert told == [External("77.12.33.4", 1, 2)]


class Router:
    """A gateway by script. faults: raised by the next calls of that name, one each."""

    def __init__(self, ip: str = "77.12.33.4") -> None:
        self.ip = ip
        self.calls: list[tuple[object, ...]] = []
        self.faults: dict[str, list[NatFailed | None]] = {"ip": [], "add": [], "delete": []}
        self.stuck = False

    async def external_ip(self) -> str:
        self._note("ip")
        return self.ip

    async def add(self, protocol: str, external: int, internal: int, lease: int) -> None:
        self._note("add", protocol, external, internal, lease)

    async def delete(self, protocol: str, external: int) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self._note("delete", protocol, external)

    def _note(self, name: str, *words: object) -> None:
        self.calls.append((name, *words))
        fault = self.faults[name].pop(0) if self.faults[name] else None
        if fault is not None:
            raise fault


class Pauses:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._gate = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self._gate.acquire()

    def end_one(self) -> None:
        self._gate.release()


class Case:
    def __init__(
        self, find: Callable[[], Awaitable[Router]], tasks: asyncio.TaskGroup, **options: object
    ) -> None:
        self.told: list[External | None] = []
        self.pauses = Pauses()
        nat = MappedNat(
            find, tcp=30303, udp=30304, rand=lambda size: b"\0" * size,
            options=NatOptions(lease=100, retry=7.0, goodbye=0.05, **options), sleep=self.pauses,
        )  # fmt: skip
        self.task = tasks.create_task(nat.run(self.told.append))

    async def paused(self, times: int) -> None:
        await until(lambda: len(self.pauses.asked) == times, f"{times} pauses")

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def finder(*routers: Router | NatFailed) -> Callable[[], Awaitable[Router]]:
    left = list(routers)

    async def find() -> Router:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, NatFailed):
            raise found
        return found

    return find


async def test_both_ports_are_mapped_renewed_and_given_back():
    router = Router()
    async with asyncio.TaskGroup() as tasks:
        case = Case(finder(router), tasks)
        await case.paused(1)
        first = [("ip",), ("add", "TCP", 30303, 30303, 100), ("add", "UDP", 30304, 30304, 100)]
        assert (router.calls, case.pauses.asked) == (first, [50.0])
        assert case.told == [External("77.12.33.4", 30303, 30304)]
        case.pauses.end_one()
        await case.paused(2)
        assert router.calls == first * 2
        assert len(case.told) == 1  # nothing new
        router.ip = "77.12.33.5"
        case.pauses.end_one()
        await case.paused(3)
        assert case.told[-1] == External("77.12.33.5", 30303, 30304)
        await case.end()
    assert router.calls[-2:] == [("delete", "TCP", 30303), ("delete", "UDP", 30304)]
    assert case.told[-1] is None


async def test_a_port_that_another_machine_has_is_replaced_and_kept_by_renewals():
    router = Router()
    router.faults["add"] = [NatFailed("taken", code=CONFLICT)]
    async with asyncio.TaskGroup() as tasks:
        case = Case(finder(router), tasks)
        await case.paused(1)
        assert case.told == [External("77.12.33.4", 10_000, 30304)]
        case.pauses.end_one()
        await case.paused(2)
        assert ("add", "TCP", 10_000, 30303, 100) in router.calls[4:]
        await case.end()
    assert ("delete", "TCP", 10_000) in router.calls


async def test_without_a_free_port_it_is_tried_again_later():
    router = Router()
    router.faults["add"] = [NatFailed("taken", code=CONFLICT)] * 4
    async with asyncio.TaskGroup() as tasks:
        case = Case(finder(router), tasks)
        await case.paused(1)
        assert (case.told, case.pauses.asked) == ([], [7.0])
        case.pauses.end_one()
        await case.paused(2)
        assert case.told == [External("77.12.33.4", 30303, 30304)]
        await case.end()


async def test_a_router_that_knows_no_leases_gets_a_mapping_without_an_end():
    router = Router()
    router.faults["add"] = [NatFailed("permanent", code=PERMANENT_ONLY)]
    async with asyncio.TaskGroup() as tasks:
        case = Case(finder(router), tasks)
        await case.paused(1)
        assert router.calls[2:] == [("add", "TCP", 30303, 30303, 0), ("add", "UDP", 30304, 30304, 0)]
        await case.end()


@pytest.mark.parametrize("code", [0, 606])
async def test_other_refusals_are_no_reason_to_try_other_ports(code):
    router = Router()
    router.faults["add"] = [NatFailed("no", code=code)]
    async with asyncio.TaskGroup() as tasks:
        case = Case(finder(router), tasks)
        await case.paused(1)
        assert (case.told, len(router.calls)) == ([], 2)
        await case.end()


@pytest.mark.parametrize(
    "ip", ["192.168.1.2", "100.64.0.1", "127.0.0.1", "0.0.0.0", "", "None", "<x>", "::1"]
)
async def test_an_address_that_nobody_reaches_is_not_told(ip):
    async with asyncio.TaskGroup() as tasks:
        case = Case(finder(Router(ip)), tasks)
        await case.paused(1)
        assert (case.told, case.pauses.asked) == ([], [7.0])
        await case.end()


async def test_a_router_that_is_lost_takes_the_address_back_and_is_looked_for_again():
    first, second = Router(), Router("77.12.33.9")
    async with asyncio.TaskGroup() as tasks:
        case = Case(finder(NatFailed("none there"), first, second), tasks)
        await case.paused(1)
        assert case.told == []
        case.pauses.end_one()
        await case.paused(2)
        first.faults["ip"] = [NatFailed("gone")]
        case.pauses.end_one()
        await case.paused(3)
        assert case.told == [External("77.12.33.4", 30303, 30304), None]
        case.pauses.end_one()
        await case.paused(4)
        assert case.told[-1] == External("77.12.33.9", 30303, 30304)
        await case.end()


async def test_a_router_that_does_not_answer_holds_the_end_up_for_a_moment_only():
    router = Router()
    async with asyncio.TaskGroup() as tasks:
        case = Case(finder(router), tasks)
        await case.paused(1)
        router.stuck = True
        async with asyncio.timeout(2):
            await case.end()
    assert case.told[-1] is None
