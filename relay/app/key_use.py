"""Which networks a node key was shown on: used on another one, it links the two for whoever remembers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog

from relay.app.datadir import DataDir
from relay.primitives.errors import StorageError
from relay.primitives.keys import PublicKey
from relay.settings import Settings

__all__ = ["note_key_use"]

KEY_USE: Final = "key_use.json"
MAX_KEYS: Final = 16  # the latest; nobody changes keys that often
CLEARNET: Final = "clearnet"
HIDDEN: Final = "hidden"
log = structlog.get_logger("relay.app")


def note_key_use(settings: Settings, data: DataDir, key: PublicKey) -> None:
    """Write down where a key is shown from now on, and warn where that was somewhere else before.

    Args:
        settings: of the identity that has the key.
        data: its folder.
        key: its public key.
    """
    clearnet = () if settings.mode.hides_ip else (CLEARNET,)
    hidden = (HIDDEN,) if settings.has_tor or settings.mode.hides_ip else ()
    now = {*clearnet, *hidden}
    uses = _read(data.load_state(KEY_USE))
    before = uses.pop(key.hex(), set())
    if before - now:
        _warn(was_on_clearnet=CLEARNET in before - now, folder=str(data.path))
    uses[key.hex()] = before | now
    try:
        data.save_state(KEY_USE, {name: sorted(where) for name, where in list(uses.items())[-MAX_KEYS:]})
    except StorageError as error:
        log.warning("the use of the node key is not written down", cause=str(error))


def _warn(*, was_on_clearnet: bool, folder: str) -> None:
    what = (
        "this node key was used on clearnet before: who remembers it knows this host's IP address"
        if was_on_clearnet
        else "this node key was used on the onion network before: who remembers it learns its IP address"
    )
    log.warning(f"{what}; for new keys remove nodekey, onion_key and record.json", folder=folder)


def _read(state: Any) -> dict[str, set[str]]:  # noqa: ANN401 - whatever the file holds
    if not isinstance(state, Mapping):
        return {}
    return {
        name: {where for where in places if where in (CLEARNET, HIDDEN)}
        for name, places in state.items()
        if isinstance(places, list)
    }
