"""Which web pages may call: CORS for HTTP, the Origin header for WebSocket; by geth's rules (v1.17.8).

No page may without being named: a browser lets none read an answer, or open a WebSocket, of another origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

__all__ = ["Cors", "SocketOrigins"]

ANY: Final = "*"
METHODS: Final = ("POST", "GET")
MAX_AGE: Final = "600"  # seconds that a browser keeps our word
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_DEFAULT_PAGES: Final = ("http://localhost",)


class Cors:
    """Headers that let pages of some origins read answers (rs/cors 1.7, as geth sets it up).

    Args:
        origins: as in --http.corsdomain: whole origins, one * in each for any characters; none for nobody.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        texts = [origin.lower() for origin in origins]
        self._any = ANY in texts
        joined = "|".join(re.escape(text).replace(r"\*", ".*") for text in texts)
        self._allowed = re.compile(joined) if joined else None

    @property
    def is_on(self) -> bool:
        """Whether any origin is allowed."""
        return self._allowed is not None

    def headers(self, method: str, asked: Mapping[str, str]) -> dict[str, str]:
        """Return what the answer to a request says; `asked` are the request's headers."""
        origin = asked.get("Origin", "")
        allowed = self._allows(origin) and method in METHODS
        return {"Vary": "Origin", **(self._allow(origin) if allowed else {})}

    def preflight(self, asked: Mapping[str, str]) -> dict[str, str]:
        """Return what a browser learns before it sends the request that it has in mind."""
        vary = {"Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
        origin, method = asked.get("Origin", ""), asked.get("Access-Control-Request-Method", "").upper()
        if not self._allows(origin) or method not in (*METHODS, "OPTIONS"):
            return vary
        names = [name.strip() for name in asked.get("Access-Control-Request-Headers", "").split(",")]
        names = [name.title() for name in names if _HEADER_NAME.fullmatch(name)]
        wanted = {"Access-Control-Allow-Headers": ", ".join(names)} if names else {}
        return {
            **vary,
            **self._allow(origin),
            "Access-Control-Allow-Methods": method,
            **wanted,
            "Access-Control-Max-Age": MAX_AGE,
        }

    def _allows(self, origin: str) -> bool:
        if not origin or self._allowed is None:
            return False
        return self._any or self._allowed.fullmatch(origin.lower()) is not None

    def _allow(self, origin: str) -> dict[str, str]:
        return {"Access-Control-Allow-Origin": ANY if self._any else origin}


class SocketOrigins:
    """Pages that may open a WebSocket (geth: rpc/websocket.go).

    Args:
        origins: as in --ws.origins; scheme, host and port each count where they are given.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        texts = [origin for origin in origins if origin]
        self._any = ANY in texts
        # geth adds the host's own name: it would have to be asked of the system, and no answer tells it.
        self._allowed = [_parts(text) for text in texts or _DEFAULT_PAGES]

    def allows(self, origin: str | None) -> bool:
        """Tell whether a page may; None is no page, since every browser sends its origin."""
        if origin is None or self._any:
            return True
        theirs = _parts(origin)
        return theirs is not None and any(
            all(not wanted or wanted == given for wanted, given in zip(each, theirs, strict=True))
            for each in self._allowed
            if each is not None
        )


def _parts(origin: str) -> tuple[str, str, str] | None:
    """Take an origin apart: scheme, host, port; what is not given is empty. None: it is none."""
    text = origin.lower()
    try:
        split = urlsplit(text if "://" in text else f"//{text}")
        port = split.port
    except ValueError:
        return None
    return split.scheme, split.hostname or "", "" if port is None else str(port)
