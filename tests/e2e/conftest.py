"""Real Tor for the tests of this folder: one private network a session.

A test that uses it runs in the session's event loop, because the processes belong to that loop:
``pytestmark = [pytest.mark.tor, pytest.mark.asyncio(loop_scope="session")]``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from relay.localnet.network import PrivateTor
from relay.primitives.errors import UsageError
from relay.tor.process import find_tor


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def private_tor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateTor]:
    """Three authorities and four relays, two of which are exits to loopback."""
    try:
        find_tor()
    except UsageError as error:
        pytest.skip(str(error))
    network = PrivateTor(tmp_path_factory.mktemp("private-tor"), exits=True)
    try:
        await network.start()
        yield network
    finally:
        await network.stop()
