"""Tor versions, their order, and what needs which."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})\.(\d{1,6})([-0-9A-Za-z.+]*)")


@dataclass(frozen=True, slots=True, order=True)
class TorVersion:
    """A version as Tor prints it, "0.4.9.11"; a tag such as -alpha does not count in the order."""

    numbers: tuple[int, int, int, int]

    @classmethod
    def find(cls, text: str) -> TorVersion | None:
        """The first version in some text, None where there is none."""
        found = _VERSION.search(text)
        if found is None:
            return None
        major, minor, micro, patch = (int(part) for part in found.groups()[:4])
        return cls((major, minor, micro, patch))

    def __str__(self) -> str:
        return ".".join(str(number) for number in self.numbers)


OLDEST_SUPPORTED: Final = TorVersion((0, 4, 5, 1))  # ExtendedErrors, ADD_ONION of version 3, MaxStreams
FIRST_WITH_POW: Final = TorVersion((0, 4, 9, 2))  # ADD_ONION PoWDefensesEnabled
FIRST_WITH_VANGUARDS: Final = TorVersion((0, 4, 7, 1))  # VanguardsLiteEnabled
