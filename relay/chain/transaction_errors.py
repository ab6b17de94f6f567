"""What can be wrong with a transaction, and who has to answer for it.

TransactionUndecodable  the bytes are no transaction: whoever sent them is disconnected
ForbiddenTransaction    a transaction, in a message that must not carry it: disconnected as well
InvalidTransaction      well-formed, yet no block or pool would take it: dropped, or told to the RPC caller
"""

from __future__ import annotations

from typing import Final

from relay.primitives.errors import DecodeError, RelayError, SubprotocolError

__all__ = ["SERVER_ERROR", "ForbiddenTransaction", "InvalidTransaction", "TransactionUndecodable"]

SERVER_ERROR: Final = -32000  # geth answers every refused eth_sendRawTransaction with this code


class TransactionUndecodable(DecodeError):
    """Bytes that are no transaction: RLP that is not canonical, wrong field sizes, an unknown type."""


class ForbiddenTransaction(SubprotocolError):
    """A transaction that the message must not carry. Ends the peer, as geth does (reason 0x10)."""


class InvalidTransaction(RelayError):
    """A transaction that can be read and is of no use. Nobody is disconnected for it.

    Attributes:
        code: the JSON-RPC error code.
        message: geth's words, with its numbers.
        why: one short word of a small fixed set, fit for the label of a metric.
    """

    def __init__(self, code: int, message: str, why: str = "invalid") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.why = why
