"""Fork identifiers: which forks of which chain a node has passed. Spec: EIP-2124."""

from __future__ import annotations

from dataclasses import dataclass

from relay.primitives import rlp
from relay.primitives.errors import DecodeError

__all__ = ["ForkId"]


@dataclass(frozen=True, slots=True)
class ForkId:
    """A fork id as it stands in the `eth` entry of a record and in Status.

    Attributes:
        hash: 4 bytes, CRC32 over genesis hash and passed forks.
        next: block number or unix time of the next known fork; 0 for none.
    """

    hash: bytes
    next: int

    @classmethod
    def from_item(cls, item: rlp.RLPItem) -> ForkId:
        """Read the decoded list [hash, next].

        Raises:
            DecodeError: not these two, or of other sizes.
        """
        fields = rlp.expect_list(item, 2)
        return cls(rlp.expect_bytes(fields[0], 4), rlp.to_int(fields[1], 8))

    def to_item(self) -> list[rlp.Encodable]:
        """Return [hash, next], to be encoded."""
        return [self.hash, self.next]

    def __post_init__(self) -> None:
        if len(self.hash) != 4:
            raise DecodeError(f"a fork hash has 4 bytes, not {len(self.hash)}")

    def __str__(self) -> str:
        return f"{self.hash.hex()}/{self.next}"
