"""JSON-RPC errors with geth's codes and words (go-ethereum v1.17.8, rpc/errors.go and rpc/json.go)."""

from __future__ import annotations

from typing import Final

from relay.primitives.errors import RelayError

__all__ = [
    "RpcError",
    "batch_too_large",
    "empty_batch",
    "invalid_params",
    "invalid_request",
    "method_name_too_long",
    "method_not_found",
    "not_supported",
    "notifications_unsupported",
    "parse_error",
    "response_too_large",
    "server_error",
]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
SERVER_ERROR: Final = -32000
RESPONSE_TOO_LARGE: Final = -32003
NOT_SUPPORTED: Final = -32004


class RpcError(RelayError):
    """An error that is told to the caller.

    Attributes:
        code: as in JSON-RPC 2.0 and EIP-1474.
        message: one line.
        data: what else there is, as json can write it; None for nothing.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


def parse_error(message: str = "parse error") -> RpcError:
    """The bytes are no JSON."""
    return RpcError(PARSE_ERROR, message)


def invalid_request() -> RpcError:
    """JSON, but no request."""
    return RpcError(INVALID_REQUEST, "invalid request")


def empty_batch() -> RpcError:
    """A batch of nothing."""
    return RpcError(INVALID_REQUEST, "empty batch")


def batch_too_large() -> RpcError:
    """More requests in a batch than the limit."""
    return RpcError(INVALID_REQUEST, "batch too large")


def method_name_too_long(length: int, limit: int) -> RpcError:
    """A name that no method has."""
    return RpcError(INVALID_REQUEST, f"method name too long: {length} > {limit}")


def method_not_found(method: str) -> RpcError:
    """Unknown, or in a namespace that this transport does not offer: the words are the same."""
    return RpcError(METHOD_NOT_FOUND, f"the method {method} does not exist/is not available")


def notifications_unsupported() -> RpcError:
    """A subscription where there is none."""
    return RpcError(METHOD_NOT_FOUND, "notifications not supported")


def not_supported(message: str) -> RpcError:
    """A method that exists, and that this node can't or won't answer (EIP-1474)."""
    return RpcError(NOT_SUPPORTED, message)


def invalid_params(message: str) -> RpcError:
    """Arguments that the method does not take."""
    return RpcError(INVALID_PARAMS, message)


def server_error(message: str) -> RpcError:
    """The method ran and says no."""
    return RpcError(SERVER_ERROR, message)


def response_too_large() -> RpcError:
    """The answers of a batch exceed the limit."""
    return RpcError(RESPONSE_TOO_LARGE, "response too large")
