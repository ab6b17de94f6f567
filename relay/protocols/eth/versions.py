"""Which messages each version of eth has: rows of data, each version from the one before.

Spec: caps/eth.md, "Change Log".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from relay.primitives.errors import SubprotocolError
from relay.protocols.devp2p.capabilities import Capability
from relay.protocols.eth import messages as m
from relay.protocols.eth.limits import MAX_MESSAGE

__all__ = ["BY_VERSION", "ETH68", "ETH69", "ETH70", "ETH71", "ETH72", "NAME", "EthVersion", "MessageSpec"]

NAME: Final = "eth"


@dataclass(frozen=True, slots=True)
class MessageSpec:
    """A message of one version.

    Attributes:
        name: as in the specification.
        decode: from its payload; raises ProtocolBreach or SubprotocolError.
        message: its class.
    """

    name: str
    decode: Callable[[bytes], m.EthMessage]
    message: type[m.EthMessage]


@dataclass(frozen=True, slots=True)
class EthVersion:
    """A version of eth.

    Attributes:
        version: its number.
        messages: by code. NewBlockHashes and NewBlock are in no row: since the Merge geth disconnects their
            senders, and so does `decode`.
    """

    version: int
    messages: Mapping[int, MessageSpec]

    @property
    def length(self) -> int:
        """How many codes the version takes in devp2p."""
        return max(self.messages) + 1

    @property
    def capability(self) -> Capability:
        """What Hello offers for it."""
        return Capability(NAME, self.version, self.length, MAX_MESSAGE)

    def evolve(self, version: int, *changed: type[m.EthMessage]) -> EthVersion:
        """Return a later version: these rows are new or have a new layout, all others stay."""
        rows = [spec.message for spec in self.messages.values()]
        return _version(version, *rows, *changed)

    def decode(self, code: int, payload: bytes) -> m.EthMessage:
        """Read a message.

        Raises:
            SubprotocolError: this version has no such code.
            ProtocolBreach: it does not decode.
        """
        spec = self.messages.get(code)
        if spec is None:
            raise SubprotocolError(f"eth/{self.version} has no message {code:#x}")
        return spec.decode(payload)

    def __repr__(self) -> str:
        return f"eth/{self.version}"


def _version(version: int, *rows: type[m.EthMessage]) -> EthVersion:
    specs = {row.CODE: MessageSpec(row.__name__, partial(row.decode, version=version), row) for row in rows}
    return EthVersion(version, MappingProxyType(dict(sorted(specs.items()))))


ETH68: Final = _version(
    68,
    m.Status,
    m.Transactions,
    m.GetBlockHeaders,
    m.BlockHeaders,
    m.GetBlockBodies,
    m.BlockBodies,
    m.NewPooledTransactionHashes,
    m.GetPooledTransactions,
    m.PooledTransactions,
    m.GetReceipts,
    m.Receipts,
)
ETH69: Final = ETH68.evolve(69, m.Status, m.BlockRangeUpdate)
ETH70: Final = ETH69.evolve(70, m.GetReceipts, m.Receipts)
ETH71: Final = ETH70.evolve(71, m.GetBlockAccessLists, m.BlockAccessLists)
ETH72: Final = ETH71.evolve(72, m.NewPooledTransactionHashes, m.GetCells, m.Cells)

BY_VERSION: Final[Mapping[int, EthVersion]] = MappingProxyType(
    {each.version: each for each in (ETH68, ETH69, ETH70, ETH71, ETH72)}
)
