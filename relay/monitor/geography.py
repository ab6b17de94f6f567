"""Countries of addresses, by a file in MaxMind's format that the user has: no network is asked."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from relay.monitor.peer import UNKNOWN, Address
from relay.primitives.errors import StorageError, UsageError

__all__ = ["Geography", "Nowhere", "open_geography"]

_CACHED: Final = 16_384


class Nowhere:
    """Knows no country: there is no file."""

    known = False

    def country(self, _address: Address) -> str:
        """Return UNKNOWN."""
        return UNKNOWN


class Geography:
    """Countries by an open database.

    Args:
        reader: of maxminddb.
        broken: what the reader raises over a damaged file.
    """

    known = True

    def __init__(self, reader: Any, broken: type[Exception]) -> None:  # noqa: ANN401 - an optional library's
        self._reader, self._broken = reader, broken
        self._of_host = lru_cache(maxsize=_CACHED)(self._look_up)

    def country(self, address: Address) -> str:
        """Return the two letters of ISO 3166; UNKNOWN for what is not public or not in the file."""
        return self._of_host(address.host) if address.network in ("ipv4", "ipv6") else UNKNOWN

    def _look_up(self, host: str) -> str:
        try:
            found = self._reader.get(host)
        except (self._broken, ValueError):  # an IPv6 address in a file of IPv4
            return UNKNOWN
        fields = found if isinstance(found, dict) else {}
        for name in ("country", "registered_country"):
            match fields.get(name):
                case {"iso_code": str(code)} if len(code) == 2 and code.isascii() and code.isalpha():
                    return code.upper()
        return UNKNOWN


def open_geography(path: Path | None) -> Geography | Nowhere:
    """Open a file such as GeoLite2-Country.mmdb or dbip-country-lite.mmdb; None is Nowhere.

    Raises:
        UsageError: maxminddb is not installed.
        StorageError: the file can't be read, or is none of these.
    """
    if path is None:
        return Nowhere()
    try:
        import maxminddb  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError:
        raise UsageError("--geo needs the library maxminddb: pip install 'pyrelay[geo]'") from None
    try:
        return Geography(maxminddb.open_database(str(path)), maxminddb.InvalidDatabaseError)
    except OSError as error:
        raise StorageError(f"--geo {path}: {error.strerror}") from None
    except (maxminddb.InvalidDatabaseError, ValueError):
        raise StorageError(f"--geo {path}: this is no database in MaxMind's format (.mmdb)") from None
