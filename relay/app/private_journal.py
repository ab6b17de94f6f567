"""The journal of private broadcast on disk: encrypted, with a key that lies beside it.

What that is worth: the journal alone, in a backup or a snapshot that leaves `private.key` out, tells nothing.
Once all transactions are out both files are removed, so what a disk still has of old journals can't be read
without the key of that time. It is worth nothing against who reads the data folder while transactions wait,
nor where a disk keeps what was removed. Who must not leave such traces keeps the default: memory alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from relay.app.datadir import write_atomic
from relay.discovery.files import read_regular
from relay.primitives.errors import DecodeError, StorageError
from relay.relaying.private.journal import Kept, read_kept, write_kept
from relay.relaying.private.letters import Letter

__all__ = ["PrivateJournal"]

JOURNAL: Final = "private.journal"
KEY: Final = "private.key"
MAX_BYTES: Final = 64 << 20
_KEY_BYTES: Final = 32
_NONCE: Final = 12
_CONTEXT: Final = b"pyrelay private broadcast 1"
log = structlog.get_logger("relay.app")


class PrivateJournal:
    """The two files of one data folder.

    Args:
        folder: held by this process.
    """

    def __init__(self, folder: Path) -> None:
        self._journal, self._key = folder / JOURNAL, folder / KEY

    def load(self) -> list[Kept]:
        """Return what was written last; nothing where there is none; one that can't be read is set aside."""
        try:
            sealed = read_regular(self._journal, MAX_BYTES)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._set_aside(error.strerror)
            return []
        try:
            return read_kept(_open(read_regular(self._key, _KEY_BYTES), sealed))
        except OSError as error:
            self._set_aside(f"{KEY}: {error.strerror}")
        except DecodeError as error:
            self._set_aside(str(error))
        return []

    def _set_aside(self, cause: str | None) -> None:
        """Keep what can't be read now under another name: its key may turn up, and it may be repaired."""
        mark, kept = f".unread-{int(time.time())}", []
        for path in (self._journal, self._key):
            with suppress(OSError):
                path.rename(path.with_name(path.name + mark))
                kept.append(path.name + mark)
        log.warning(
            "the journal of private broadcast can not be read: its transactions are not sent;"
            " name the files as before to try again",
            cause=cause,
            set_aside=kept,
        )

    def warn_of_rest(self) -> None:
        """Say that a journal of before is still there, for who keeps none any more."""
        if self._journal.exists():
            log.warning(
                "a journal of private broadcast is left from before: its transactions are sent by"
                " --private-broadcast-journal encrypted; to give them up remove both files",
                journal=str(self._journal),
                key=str(self._key),
            )

    def save(self, letters: Iterable[Letter], now: float) -> None:
        """Write what waits; where nothing does, journal and key are removed.

        Args:
            letters: all of them.
            now: on the clock of `Letter.submitted`.

        Raises:
            StorageError: disk full and the like; the journal before is kept.
        """
        unix = time.time()
        kept = [Kept(each.raw, int(unix - (now - each.submitted))) for each in letters]
        if not kept:
            self._remove()
            return
        write_atomic(self._journal, _seal(self._key_of_now(), write_kept(kept)))

    def _key_of_now(self) -> bytes:
        with suppress(OSError):
            key = read_regular(self._key, _KEY_BYTES)
            if len(key) == _KEY_BYTES:
                return key
        key = os.urandom(_KEY_BYTES)
        write_atomic(self._key, key)
        return key

    def _remove(self) -> None:
        try:
            self._journal.unlink(missing_ok=True)
            self._key.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self._journal} could not be removed: {error.strerror}") from None


def _seal(key: bytes, text: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - for who has a journal

    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, text, _CONTEXT)


def _open(key: bytes, sealed: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], _CONTEXT)
    except (InvalidTag, ValueError):
        raise DecodeError("its key is another, or it is damaged") from None
