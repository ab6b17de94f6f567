"""The data folder: keys and state, 0700 and 0600, written atomically, held by one daemon at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from relay.discovery.files import read_regular
from relay.primitives.errors import DecodeError, KeyFileError, StorageError
from relay.primitives.i2p import I2PKey
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey

NODE_KEY: Final = "nodekey"
ONION_KEY: Final = "onion_key"
I2P_KEY: Final = "i2p_key"
RECORD: Final = "record.json"
PEERS: Final = "peers.json"
LOCK: Final = "LOCK"
MARKS: Final = frozenset({NODE_KEY, ONION_KEY, I2P_KEY, LOCK, "pyrelay.toml", "static-nodes.json"})
"""Files that show that a folder is a relay's own, made before pyrelay came to it."""
MAX_STATE: Final = 4 << 20  # bytes; larger is no file of ours
SECRET_MODE: Final = 0o600

log = structlog.get_logger("relay.app")


class DataDir:
    """A folder that holds one relay's identity and state.

    Args:
        path: made with mode 0700 if it is missing; its parents too.

    Raises:
        StorageError: it can't be made, or is not writable; the text names the folder and the remedy.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _close_to_others(path)
        except OSError as error:
            raise StorageError(
                f"data folder {path}: {error.strerror}; choose another by --datadir,"
                " or mend its owner and rights"
            ) from None
        if not os.access(path, os.W_OK | os.X_OK):
            raise StorageError(
                f"data folder {path} is not writable: mend its owner and rights, or --datadir DIR"
            )

    def lock(self) -> None:
        """Hold the folder until `unlock` or the end of the process.

        Raises:
            StorageError: another process holds it.
        """
        try:
            descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET_MODE)
        except OSError as error:
            raise StorageError(f"{self.path / LOCK}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise StorageError(
                f"data folder {self.path} is in use by another pyrelay"
                + (f" (process {holder})" if holder else "")
                + ": stop that one, or give this one a --datadir of its own"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise StorageError(
                f"{self.path / LOCK} can not be locked: {error.strerror}; choose a --datadir on a file system"
                " that can"
            ) from None
        with suppress(OSError):  # the number only serves the message above
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def unlock(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def node_key(self, given: Path | None, rand: Callable[[int], bytes]) -> NodeKey:
        """Load the secp256k1 key, or make one in the folder where no file was given.

        Raises:
            KeyFileError: the file is missing though it was given, unreadable, or no key.
        """
        path = given or self.path / NODE_KEY
        content = read_secret(path, required=given is not None)
        if content is None:
            key = NodeKey.generate(rand)
            write_atomic(path, key.secret.hex().encode())
            return key
        return parse_node_key(content, path)

    def onion_key(self, given: Path | None, rand: Callable[[int], bytes]) -> OnionKey:
        """Load the onion service's key, or make one in the folder where no file was given.

        Raises:
            KeyFileError: the file is missing though it was given, unreadable, or no key.
        """
        path = given or self.path / ONION_KEY
        content = read_secret(path, required=given is not None)
        if content is None:
            key = OnionKey.generate(rand)
            write_atomic(path, key.to_tor_file())
            return key
        return parse_onion_key(content, path)

    def i2p_key(self, given: Path | None) -> I2PKey | None:
        """Load the key of our I2P destination; None where there is none yet: the router makes it.

        Raises:
            KeyFileError: the file is missing though it was given, unreadable, or no key.
        """
        return read_i2p_key(self.path, given)

    def keep_i2p_key(self, key: I2PKey) -> None:
        """Write the key of our I2P destination.

        Raises:
            StorageError: disk full and the like.
        """
        write_atomic(self.path / I2P_KEY, key.to_file())

    def load_state(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON holds; callers check
        """Read a JSON file of ours; None if it is missing or damaged, since state can be learned again."""
        try:
            with (self.path / name).open("rb") as file:
                return json.loads(file.read(MAX_STATE))
        except (OSError, ValueError, RecursionError):
            return None

    def save_state(self, name: str, value: object) -> None:
        """Write a JSON file of ours, all or nothing.

        Raises:
            StorageError: disk full and the like; the file before is kept.
        """
        write_atomic(self.path / name, json.dumps(value, indent=1).encode() + b"\n")


def holder_of(path: Path) -> int | None:
    """The process that holds a data folder now, 0 if it is not known which; None when nobody does."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def parse_node_key(content: bytes, path: Path) -> NodeKey:
    """Read a key file as geth writes it: 64 hex digits, a newline allowed.

    Raises:
        KeyFileError: anything else.
    """
    text = content.strip()
    try:
        if len(text) != 64:
            raise DecodeError(f"it holds {len(text)} characters")
        return NodeKey(bytes.fromhex(text.decode("ascii")))
    except ValueError as error:
        raise KeyFileError(
            f"{path}: not a node key: expected 64 hex digits of a secp256k1 key; {error}"
        ) from None


def parse_onion_key(content: bytes, path: Path) -> OnionKey:
    """Read tor's own ``hs_ed25519_secret_key`` format.

    Raises:
        KeyFileError: anything else.
    """
    try:
        return OnionKey.from_tor_file(content)
    except DecodeError as error:
        raise KeyFileError(
            f"{path}: not an onion key: expected the 96 bytes of tor's hs_ed25519_secret_key; {error}"
        ) from None


def read_i2p_key(folder: Path, given: Path | None) -> I2PKey | None:
    """Read the key of an I2P destination; None where none was given and the data folder has none.

    Raises:
        KeyFileError: the file is missing though it was given, unreadable, or no key.
    """
    path = given or folder / I2P_KEY
    content = read_secret(path, required=given is not None)
    if content is None:
        return None
    try:
        return I2PKey(content)
    except DecodeError as error:
        raise KeyFileError(
            f"{path}: not an I2P key: expected a destination with its private keys, as in eepPriv.dat;"
            f" {error}"
        ) from None


def _close_to_others(path: Path) -> None:
    """Take away the rights of others, if the folder is a relay's own: /tmp and the home folder are not."""
    info = path.stat()
    if info.st_uid != os.geteuid() or not stat.S_IMODE(info.st_mode) & 0o077:
        return
    names = set(os.listdir(path))
    if (names and not names & MARKS) or info.st_mode & stat.S_ISVTX:
        log.warning("others may enter the data folder, which holds more than pyrelay's files", path=str(path))
        return
    path.chmod(0o700)  # keys are in there; ssh insists on the same


def _holder(descriptor: int) -> int:
    text = os.read(descriptor, 32).decode("ascii", "replace").strip()
    return int(text) if text.isascii() and text.isdigit() else 0


def read_secret(path: Path, *, required: bool) -> bytes | None:
    """Read a key file; None if it is not there and need not be.

    Raises:
        KeyFileError: it is missing, or not readable.
    """
    try:
        return read_regular(path, 4096)
    except FileNotFoundError:
        if required:
            raise KeyFileError(f"{path}: there is no key; make one by: pyrelay key new") from None
        return None
    except OSError as error:
        raise KeyFileError(
            f"{path}: {error.strerror}; the user that runs pyrelay must be able to read it"
        ) from None


def write_atomic(path: Path, content: bytes, mode: int = SECRET_MODE) -> None:
    """Replace a file by one that was written whole and flushed to disk; a failure leaves the old one.

    Raises:
        StorageError: the text names the file and the cause.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            os.fchmod(descriptor, mode)  # whatever the umask takes away
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        full = "; the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise StorageError(
            f"{path} could not be written: {error.strerror}{full}; what it held is kept"
        ) from None


def _flush_folder(folder: Path) -> None:
    """Make a rename last: without it a power cut may bring the old file back, or none."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
