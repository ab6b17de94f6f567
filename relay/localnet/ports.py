"""Free ports on loopback, outside of the range that the kernel hands to outgoing connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.primitives.errors import LocalError
from relay.transports.sockets import SocketFactory

FIRST_PORT: Final = 10_000
LAST_PORT: Final = 32_000  # Linux's ephemeral ports begin at 32,768
MAX_ATTEMPTS: Final = 500


def free_ports(count: int, factory: SocketFactory, rand: Callable[[int], bytes]) -> list[int]:
    """Pick `count` different ports that nothing listens on at this moment.

    Raises:
        LocalError: none are to be found.
    """
    found: dict[int, None] = {}
    for _ in range(MAX_ATTEMPTS):
        if len(found) == count:
            return list(found)
        port = FIRST_PORT + int.from_bytes(rand(4), "big") % (LAST_PORT - FIRST_PORT)
        if port not in found and _is_free(port, factory):
            found[port] = None
    raise LocalError(f"no {count} free ports on 127.0.0.1 between {FIRST_PORT} and {LAST_PORT}")


def _is_free(port: int, factory: SocketFactory) -> bool:
    try:
        factory.listen_tcp("127.0.0.1", port).close()
    except LocalError:
        return False
    return True
