"""What may be shown of an address to whoever has not asked for it."""

from __future__ import annotations

import ipaddress

__all__ = ["mask_host"]


def mask_host(host: str) -> str:
    """Return an address without what tells a host: half of IPv4, two groups of IPv6, six letters of others.

    Loopback stays: it is no one's address. What is no address at all is masked whole.
    """
    for ending in (".onion", ".b32.i2p"):
        if host.endswith(ending):
            return f"{host[:6]}*{ending}"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "*"
    if address.is_loopback:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return ".".join((*host.split(".")[:2], "*", "*"))
    first, second, *_ = address.exploded.split(":")
    return f"{int(first, 16):x}:{int(second, 16):x}:*"
