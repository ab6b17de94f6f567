"""HTML by construction: whatever is not `Html` is escaped, so no text of a stranger becomes markup."""

from __future__ import annotations

from html import escape
from typing import Final

__all__ = ["Html", "join", "tag"]

_VOID: Final = frozenset({"meta", "link", "br"})


class Html(str):
    """Text that is markup already; only this module and fixed text of ours make it."""

    __slots__ = ()


def tag(name: str, /, *children: str | int | float | None, **attributes: str | bool | None) -> Html:
    """Return an element.

    Args:
        name: of the element.
        children: put in order; None is left out, all but `Html` is escaped.
        attributes: `class_` is class, `aria_label` is aria-label; True is one without a value, and None and
            False are left out.
    """
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{join(*children)}</{name}>")


def join(*children: str | int | float | None) -> Html:
    """Put elements and texts one after another."""
    return Html("".join(_escaped(each) for each in children if each is not None))


def _escaped(value: str | float) -> str:
    return value if isinstance(value, Html) else escape(_plain(value))


def _plain(value: str | float) -> str:
    """A text for a browser: what turns the direction of text or can't be shown is replaced."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)
