"""The files of client authorization: who may find our onion service, and our keys to those of others."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from relay.discovery.files import read_regular
from relay.primitives.errors import DecodeError, UsageError
from relay.tor.client_auth import AuthorizedClient, OnionAccess, parse_access, parse_clients

MAX_FILE: Final = 1 << 17  # bytes; 300 clients with a comment each have some 40,000
MAX_FILES: Final = 1_000  # in a folder of keys
PRIVATE_SUFFIX: Final = ".auth_private"
_OTHERS: Final = 0o077

log = structlog.get_logger("relay.app")


def read_clients(path: Path | None) -> tuple[AuthorizedClient, ...]:
    """Read --onion-auth-clients; nobody where no file was given, which means everybody.

    Raises:
        UsageError: names the file, the line and what is expected.
    """
    if path is None:
        return ()
    try:
        return parse_clients(_text(path, "--onion-auth-clients"))
    except DecodeError as error:
        raise UsageError(f"--onion-auth-clients {path}: {error}") from None


def read_access(path: Path | None) -> tuple[OnionAccess, ...]:
    """Read --onion-auth-keys, a file or a folder of .auth_private files; the last key to an onion counts.

    Raises:
        UsageError: names the file and the line; never the key.
    """
    if path is None:
        return ()
    found: dict[str, OnionAccess] = {}
    for file in _key_files(path):
        _warn_if_open(file)
        try:
            keys = parse_access(_text(file, "--onion-auth-keys"))
        except DecodeError as error:
            raise UsageError(f"--onion-auth-keys {file}: {error}") from None
        found.update((key.onion, key) for key in keys)
    if not found:
        raise UsageError(f"--onion-auth-keys {path}: no key in it")
    return tuple(found.values())


def _key_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        files = sorted(each for each in path.iterdir() if each.name.endswith(PRIVATE_SUFFIX))
    except OSError as error:
        raise UsageError(f"--onion-auth-keys {path}: {error.strerror}") from None
    if len(files) > MAX_FILES:
        raise UsageError(f"--onion-auth-keys {path}: more than {MAX_FILES} files")
    return files


def _text(path: Path, flag: str) -> str:
    try:
        content = read_regular(path, MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror}") from None
    if len(content) > MAX_FILE:
        raise UsageError(f"{flag} {path}: larger than {MAX_FILE} bytes, so no list of keys")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{flag} {path}: line {line}: not ASCII text") from None


def _warn_if_open(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # reading it says why
    if mode & _OTHERS:
        log.warning("others on this host may read a key to a private onion", path=str(path))
