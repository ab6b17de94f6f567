"""Reading a file that somebody else may have put there: never waits for a pipe or a device."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["read_regular"]


def read_regular(path: Path, limit: int) -> bytes:
    """Return a file's first `limit` bytes.

    Raises:
        OSError: it can not be read; or it is a folder, or a pipe, whose reading could take forever.
    """
    # Non-blocking: the open of a pipe nobody writes to would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_ISDIR(mode := os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):  # /dev/null is a common way to say: nothing
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(limit) or b""
