"""Real Tor for the tests of this folder: one private network a session.

A test that uses it runs in the session's event loop, because the processes belong to that loop:
``pytestmark = [pytest.mark.tor, pytest.mark.asyncio(loop_scope="session")]``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from relay.localnet.network import PrivateTor
from tests.aids.tor_clients import private_network


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def private_tor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateTor]:
    """See `private_network`."""
    async with private_network(tmp_path_factory.mktemp("private-tor")) as network:
        yield network
