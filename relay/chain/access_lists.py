"""Block access lists: whether one belongs to a header. Spec: EIP-7928, EIP-8159."""

from __future__ import annotations

from relay.chain.headers import ContradictsHeader, Header
from relay.primitives.hashing import keccak256

__all__ = ["check_access_list"]


def check_access_list(header: Header, raw: bytes) -> None:
    """Check that an access list, one RLP list, is the header's.

    Raises:
        ContradictsHeader: it is not, or the header commits to none.
    """
    if header.access_list_hash is None:
        raise ContradictsHeader("the header has no block access list")
    if keccak256(raw) != header.access_list_hash:
        raise ContradictsHeader("block access list is not that of the header")
