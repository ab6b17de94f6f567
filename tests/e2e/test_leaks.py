"""Nothing outside Tor: by packets and sockets, with a control run for each way that a leak could take."""

from __future__ import annotations

import pytest

from tests.aids.leak_lab import walled_lab
from tests.aids.leaks import Lab, SocketWatch
from tests.aids.leaky import BULLETIN
from tests.aids.until import until
from tests.aids.walled import Flow, needs_walls

pytestmark = [needs_walls, pytest.mark.slow]

MODES = {"only-onion": ("--only-onion",), "clearnet-tor": ("--clearnet", "tor")}

SEEN_AS = {
    "udp": lambda flow: flow.protocol == "udp" and flow.to == (BULLETIN, 30303),
    "dns": lambda flow: flow.protocol == "udp" and flow.to[1] == 53,
    "ipv6": lambda flow: flow.protocol == "tcp" and flow.to[0].startswith("2001:db8:7:"),
    "tcp": lambda flow: flow.protocol == "tcp" and flow.to == (BULLETIN, 30303),
    "neighbour": lambda flow: flow.interface == "lo" and flow.to == ("127.0.0.1", 8545),
    "library": lambda flow: flow.protocol == "tcp" and flow.to == (BULLETIN, 80),
    "program": lambda flow: flow.protocol == "udp" and flow.to == (BULLETIN, 7),
}
"""What the walls see of each deliberate leak."""


@pytest.mark.parametrize("mode", MODES)
async def test_every_feature_leaves_by_tor_alone(mode: str) -> None:
    async with walled_lab(*MODES[mode]) as lab:
        await lab.run()
        assert await lab.relay.stop() == 0, lab.relay.tail()
        evidence = lab.evidence()
        print("\n" + evidence.table())
        assert all(evidence.counts.values()), evidence.counts
        assert evidence.to_tor > 1000
        assert evidence.looks > 50
        assert evidence.is_clean


@pytest.mark.parametrize("leak", SEEN_AS)
async def test_deliberate_leak_is_seen_by_the_walls(leak: str) -> None:
    """The control: with the tripwire out, the very run that must be clean is not."""
    async with walled_lab("--only-onion", environment={"LEAK": leak, "TRIPWIRE": "off"}) as lab:
        lab.relay.launch()
        await lab.relay.wait_ready(30)
        found = await until(lambda: strangers(lab), f"{leak} is seen", 10)
        assert any(SEEN_AS[leak](flow) for flow in found), found
        print(f"  {leak:<10} without tripwire: {sum(found.values())} packets seen")


async def test_socket_that_sends_nothing_is_seen_too() -> None:
    async with walled_lab("--only-onion", environment={"LEAK": "idle", "TRIPWIRE": "off"}) as lab:
        watch = SocketWatch(lab)
        lab.relay.launch()
        watch.start()
        await until(lambda: watch.odd, "the socket is seen", 30)
        watch.stop()
        assert not strangers(lab)
        print(f"  idle       without tripwire: {watch.odd.total()} looks saw the socket")


@pytest.mark.parametrize("leak", [*SEEN_AS, "idle"])
async def test_deliberate_leak_ends_the_daemon_before_it_leaves(leak: str) -> None:
    async with walled_lab("--only-onion", environment={"LEAK": leak}) as lab:
        lab.relay.launch()
        assert await lab.relay.wait_exit(30) == 1
        assert not strangers(lab)
        (told,) = lab.relay.events("tripwire: this daemon stops before it shows its host")
        assert told["level"] == "CRIT"
        assert "stopped by a bug" in lab.relay.tail()
        assert BULLETIN not in lab.relay.log()
        print(f"  {leak:<10} with tripwire: 0 packets, daemon ended: {told['what']}")


def strangers(lab: Lab) -> dict[Flow, int]:
    return lab.walls.strangers(lab.ports)
