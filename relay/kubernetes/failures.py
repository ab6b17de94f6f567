"""What an API server can answer other than what was asked for, in words for the operator."""

from __future__ import annotations

from enum import StrEnum

from relay.primitives.errors import LocalError

__all__ = ["ApiFailed", "Asked", "Trouble", "failure_of_status"]


class Trouble(StrEnum):
    """The kinds of failure, also the label of metrics."""

    UNREACHABLE = "unreachable"
    """No connection, no TLS, no answer in time, half an answer."""
    UNAUTHORIZED = "unauthorized"
    """The token is not believed."""
    FORBIDDEN = "forbidden"
    """RBAC lacks a verb."""
    REFUSED = "refused"
    """An admission policy, or the API server's own checks, say no."""
    MISSING = "missing"
    """404."""
    CONFLICT = "conflict"
    """409: somebody else owns the field, or was faster."""
    GONE = "gone"
    """410: the resource version is too old; a new list is due."""
    THROTTLED = "throttled"
    """429."""
    SERVER = "server"
    """5xx."""
    BROKEN = "broken"
    """What came is not Kubernetes."""
    ENDED = "ended"
    """A watch came to its end, as each does."""


class Asked:
    """One question to the API server: for messages.

    Args:
        verb: as RBAC calls it.
        resource: in the plural, as RBAC calls it.
        namespace: where.
        name: of the object; None for all of them.
    """

    __slots__ = ("name", "namespace", "resource", "verb")

    def __init__(self, verb: str, resource: str, namespace: str, name: str | None = None) -> None:
        self.verb, self.resource, self.namespace, self.name = verb, resource, namespace, name

    def __str__(self) -> str:
        what = self.resource if self.name is None else f"{self.resource}/{self.name}"
        return f"{self.verb} {what} in namespace {self.namespace}"


class ApiFailed(LocalError):
    """The API server did not do what was asked.

    Attributes:
        trouble: which kind.
        retry_after: seconds that the server asks to wait; None where it does not say.
    """

    def __init__(self, trouble: Trouble, words: str, *, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.trouble = trouble
        self.retry_after = retry_after


_BY_STATUS = {
    401: Trouble.UNAUTHORIZED,
    403: Trouble.FORBIDDEN,
    404: Trouble.MISSING,
    409: Trouble.CONFLICT,
    410: Trouble.GONE,
    413: Trouble.REFUSED,
    422: Trouble.REFUSED,
    429: Trouble.THROTTLED,
}
_POLICY = ("ValidatingAdmissionPolicy", "admission webhook")
_SHOWN = 300  # characters of the server's own words


def failure_of_status(
    asked: Asked, status: int, message: str, *, retry_after: float | None = None
) -> ApiFailed:
    """Return what a status code means, with the verb and the object that it was about."""
    trouble = _BY_STATUS.get(status, Trouble.SERVER if status >= 500 else Trouble.BROKEN)
    if trouble is Trouble.FORBIDDEN and any(word in message for word in _POLICY):
        trouble = Trouble.REFUSED
    said = f" (the API server says: {message[:_SHOWN]})" if message else ""
    words = {
        Trouble.UNAUTHORIZED: f"may not {asked}: the token is not accepted; is it mounted, of this cluster,"
        " and not expired?",
        Trouble.FORBIDDEN: f"may not {asked}: the Role of this ServiceAccount lacks the verb {asked.verb} on"
        f" {asked.resource}" + (f" named {asked.name}" if asked.name else ""),
        Trouble.REFUSED: f"{asked} was refused by a rule of the cluster",
        Trouble.MISSING: f"{asked}: there is none",
        Trouble.CONFLICT: f"{asked}: somebody else holds that field, or was faster",
        Trouble.GONE: f"{asked}: that version is too old",
        Trouble.THROTTLED: f"{asked}: the API server has too much to do",
    }.get(trouble, f"{asked}: status {status}")
    return ApiFailed(trouble, words + said, retry_after=retry_after)
