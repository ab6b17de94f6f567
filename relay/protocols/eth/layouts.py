"""How the fields of a message stand on the wire, as data, and the base class that reads and writes by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeAlias, cast

from relay.primitives.errors import DecodeError, ProtocolBreach
from relay.protocols.eth.fields import Codec, encode_list, read_items

__all__ = ["EthMessage", "Layout"]

Layout: TypeAlias = tuple[tuple[str, "Codec | Layout"], ...]
"""Fields in their order on the wire: attribute and codec, or the layout of a list inside."""


class EthMessage:
    """What all messages share.

    Attributes:
        CODE: relative to eth's offset.
        LAYOUTS: by the version since which it holds.
    """

    __slots__ = ()
    CODE: ClassVar[int]
    LAYOUTS: ClassVar[Mapping[int, Layout]]

    @classmethod
    def decode(cls, payload: bytes, version: int) -> Self:
        """Read a payload of eth/version.

        Raises:
            ProtocolBreach: it does not decode.
            SubprotocolError: it decodes and breaks a rule for which geth disconnects.
        """
        try:
            message = cls._read(payload, version)
        except DecodeError as error:
            raise ProtocolBreach(f"bad {cls.__name__}: {error}") from None
        message.check()
        return message

    def encode(self, version: int) -> bytes:
        """Return the payload for eth/version."""
        return _write(self, self._layout(version))

    def check(self) -> None:
        """Raise SubprotocolError when the values break a rule for which geth disconnects."""

    @classmethod
    def _layout(cls, version: int) -> Layout:
        return cls.LAYOUTS[max(since for since in cls.LAYOUTS if since <= version)]

    @classmethod
    def _read(cls, payload: bytes, version: int) -> Self:
        values: dict[str, Any] = {}
        _read(payload, cls._layout(version), values)
        return cast(Callable[..., Self], cls)(**values)


def _read(data: bytes, layout: Layout, values: dict[str, Any]) -> None:
    items = read_items(data, len(layout))
    if len(items) != len(layout):
        raise DecodeError(f"expected {len(layout)} fields, found {len(items)}")
    for (name, field), item in zip(layout, items, strict=True):
        if isinstance(field, Codec):
            values[name] = field.read(item)
        else:
            _read(item, field, values)


def _write(message: EthMessage, layout: Layout) -> bytes:
    return encode_list(
        field.write(getattr(message, name)) if isinstance(field, Codec) else _write(message, field)
        for name, field in layout
    )
