"""The judgement of a single transaction, by the rules of the network at this time."""

from __future__ import annotations

from collections.abc import Callable

from relay.chain.networks import ChainConfig
from relay.chain.transactions import Transaction, decode
from relay.chain.validity import check, rules_at

__all__ = ["Admission"]


class Admission:
    """Decodes and checks transactions; follows the fork schedule with `tick`."""

    __slots__ = ("_config", "_unix", "rules")

    def __init__(self, config: ChainConfig, unix: Callable[[], float]) -> None:
        self._config = config
        self._unix = unix
        self.rules = rules_at(config, unix())

    def tick(self) -> None:
        """Take the next fork's rules once it has begun."""
        expires = self.rules.expires
        if expires is not None and self._unix() >= expires:
            self.rules = rules_at(self._config, self._unix())

    def decode(self, raw: bytes, tx_hash: bytes | None = None) -> Transaction:
        """Decode canonical bytes without judging them.

        Raises:
            TransactionUndecodable: it is no transaction.
            InvalidTransaction: it is larger than any pool takes.
        """
        return decode(raw, tx_hash)

    def check(self, tx: Transaction) -> None:
        """Check what can be checked without state.

        Raises:
            InvalidTransaction: it is of no use.
        """
        check(tx, self.rules)

    def admit(self, raw: bytes, tx_hash: bytes | None, local: bool = False) -> Transaction:
        """Decode canonical bytes and check what can be checked without state.

        Raises:
            TransactionUndecodable: it is no transaction.
            InvalidTransaction: it is of no use.
        """
        tx = decode(raw, tx_hash)
        check(tx, self.rules, local=local)
        return tx
