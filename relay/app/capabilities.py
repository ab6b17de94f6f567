"""What we offer peers in Hello, and who takes the messages of it."""

from __future__ import annotations

from collections.abc import Mapping

from relay.peering.interfaces import CapabilityHandler
from relay.primitives.keys import NodeKey
from relay.protocols.devp2p.messages import Hello
from relay.protocols.eth.versions import BY_VERSION
from relay.protocols.pyrelay.messages import CAPABILITY
from relay.relaying.chain_data.capability import RelayCapability
from relay.relaying.handler import EthRelay


def make_hello(client: str, key: NodeKey, versions: tuple[int, ...]) -> Hello:
    """Make our Hello: eth in some versions, and what relays have among them."""
    capabilities = (*(BY_VERSION[version].capability for version in versions), CAPABILITY)
    return Hello(5, client, capabilities, 0, key.public_key)


def capability_handlers(eth: EthRelay) -> Mapping[str, CapabilityHandler]:
    """Return who takes messages of capabilities other than eth."""
    return {CAPABILITY.name: RelayCapability(eth)}
