"""Discovery over real onion services: three nodes in this process, each with a Tor of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from benchmarks.onion_discovery import OnionNode, hang_up, measure_round_trips, onion_nodes, reached
from relay.discovery.onion_stream import StreamId
from relay.localnet.network import PrivateTor
from relay.protocols.discv5 import SessionEstablished
from tests.aids.tor_clients import tor_clients
from tests.aids.until import until

pytestmark = [pytest.mark.tor, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

FOUND_SECONDS = 60.0


@pytest_asyncio.fixture(loop_scope="session")
async def nodes(private_tor: PrivateTor) -> AsyncIterator[list[OnionNode]]:
    clients = await tor_clients(private_tor, 3)
    async with onion_nodes(clients) as found:
        yield found


async def test_three_nodes_in_a_line_find_each_other_by_enode_alone(nodes: list[OnionNode]) -> None:
    first, middle, last = nodes
    first.core.add_bootnode(middle.enode)
    middle.core.add_bootnode(last.enode)
    seen: list[SessionEstablished] = []
    last.driver.listen(lambda event: seen.append(event) if isinstance(event, SessionEstablished) else None)
    for node in nodes:
        node.driver.start()

    def all_found() -> bool:
        return all(sum(entry.live for entry in node.core.table) == 2 for node in nodes)

    await until(all_found, lambda: f"{[len(node.core.table) for node in nodes]} entries", FOUND_SECONDS)
    everybody = {node.record.raw for node in nodes}
    for node in nodes:
        assert {entry.contact.record.raw for entry in node.core.table} == everybody - {node.record.raw}
        assert node.streams.stats.dials >= 2
    # What came in was called by the stream, and only our own dial led to the onion.
    assert any(isinstance(event.contact.address, StreamId) for event in seen if event.incoming)

    reply = await first.driver.talkreq(first.core.contact(last.record), b"nobody", b"knows this")
    assert reply == b""
    result = await first.driver.lookup(last.core.node_id)
    assert last.core.node_id in {contact.node_id for contact in result.contacts}


async def test_peer_that_hangs_up_is_dialed_anew(nodes: list[OnionNode]) -> None:
    asker, asked, _ = nodes
    await reached(asker, asked)
    dials = asker.streams.stats.dials
    await asker.driver.ping(asker.core.contact(asked.record))
    assert asker.streams.stats.dials == dials

    for stream in list(asked.streams._open.values()):
        stream.abort()
    await until(lambda: not asker.streams.stats.dialed, "the end of the stream is noticed")
    assert not len(asker.core._codec.sessions)
    await asker.driver.ping(asker.core.contact(asked.record))
    assert asker.streams.stats.dials == dials + 1


async def test_round_trips_are_measured_on_one_stream(nodes: list[OnionNode]) -> None:
    asker, asked, _ = nodes
    await reached(asker, asked)
    hang_up(asker)
    measured = await measure_round_trips(asker, asked, streams=2, requests=10)
    assert [len(each) for each in (measured.dial, measured.handshake)] == [2, 2]
    assert [len(each) for each in (measured.raw, measured.findnode)] == [20, 20]
    assert asker.core.patience.response.timeout < 15.0
    assert asker.core.patience.response.typical >= min(measured.findnode)
    print({name: round(value, 2) for name, value in measured.figures().items()})
