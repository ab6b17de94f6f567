"""A tor process of our own: found, checked, started, watched and stopped by its id."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from relay.primitives.errors import StorageError, TorControlError, UsageError
from relay.tor.torrc import torrc_text
from relay.tor.version import OLDEST_SUPPORTED, TorVersion

STOP_GRACE: Final = 3.0  # seconds between SIGTERM and SIGKILL
VERSION_DEADLINE: Final = 10.0  # seconds
LOG_TAIL: Final = 16_384  # bytes of the log read for an error message
_MORE_PLACES: Final = ("/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/homebrew/bin")
_ALREADY_RUNNING: Final = "another Tor process is running with the same data directory"
_TIME_STAMP: Final = re.compile(r"^\w{3} \d\d \d\d:\d\d:\d\d\.\d{3} ")


def find_tor(given: str | None = None, *, name: str = "tor") -> str:
    """The path of the tor program: the given one, or by PATH and the usual places.

    Raises:
        UsageError: there is none.
    """
    wanted = given or name
    found = shutil.which(wanted) or (
        None if given else shutil.which(wanted, path=os.pathsep.join(_MORE_PLACES))
    )
    if found is None:
        raise UsageError(f"no program {wanted!r} found: install Tor (Debian, Ubuntu: sudo apt install tor)")
    return found


def version_command(binary: str) -> tuple[str, ...]:
    """The words that ask it for its version."""
    return (binary, "--version")


async def tor_version(binary: str) -> TorVersion:
    """What ``tor --version`` says.

    Raises:
        UsageError: it isn't Tor, doesn't start, or does not answer.
    """
    try:
        child = await asyncio.create_subprocess_exec(
            *version_command(binary), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise UsageError(f"{binary} cannot be started: {error}") from None
    output = b""
    try:
        async with asyncio.timeout(VERSION_DEADLINE):
            output, _ = await child.communicate()
    except TimeoutError:
        raise UsageError(f"{binary} --version did not answer in {VERSION_DEADLINE:g} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    version = TorVersion.find(output.decode("utf-8", "replace"))
    if version is None or not output.startswith(b"Tor "):
        raise UsageError(f"{binary} is no Tor: its --version names none")
    return version


def check_version(version: TorVersion) -> None:
    """Refuse a Tor that lacks what we use.

    Raises:
        UsageError: it is too old.
    """
    if version < OLDEST_SUPPORTED:
        raise UsageError(
            f"tor {version} is too old: {OLDEST_SUPPORTED} or newer is needed (0.4.9.2 for PoW defences)"
        )


class TorProcess:
    """One tor with its torrc and log below a directory of its own; may be started again after an end.

    Args:
        binary: tor's path.
        directory: made with mode 0700 when missing; holds torrc, tor.log and data/.
        torrc: the configuration's lines; they should log to stdout, which goes to tor.log.
    """

    def __init__(self, binary: str, directory: Path, torrc: Sequence[str]) -> None:
        self._binary = binary
        self.directory = directory
        self.log_path = directory / "tor.log"
        self._torrc = torrc_text(torrc)
        self._child: asyncio.subprocess.Process | None = None

    @property
    def binary(self) -> str:
        """Its path."""
        return self._binary

    @property
    def command(self) -> tuple[str, ...]:
        """The words that start it."""
        return (self._binary, "--defaults-torrc", "/dev/null", "-f", str(self.directory / "torrc"))

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid if self.running and self._child else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.returncode is None

    async def start(self) -> None:
        """Write torrc and start the process; it is not yet of use when this returns.

        Raises:
            StorageError: the directory cannot be written.
            UsageError: the program cannot be started.
        """
        assert not self.running
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.directory / "torrc").write_text(self._torrc, encoding="utf-8", errors="surrogateescape")
            log_file = self.log_path.open("ab")
        except OSError as error:
            raise StorageError(f"tor's folder {self.directory} cannot be written: {error}") from None
        try:
            self._child = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL, stdout=log_file, stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours: we stop Tor after the service is withdrawn
            )  # fmt: skip
        except OSError as error:
            raise UsageError(f"{self._binary} cannot be started: {error}") from None
        finally:
            log_file.close()

    async def wait_exit(self) -> int:
        """Wait for the end and return the exit status (negative: killed by that signal)."""
        assert self._child is not None
        return await self._child.wait()

    def retry_downloads(self) -> None:
        """Let it read torrc again and retry each failed directory download at once (SIGHUP)."""
        if self._child is not None and self.running:
            with suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGHUP)

    async def stop(self, grace: float = STOP_GRACE) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds; nothing happens when it does not run."""
        if self._child is None:
            return
        with suppress(ProcessLookupError):
            if self.running:
                self._child.terminate()
        try:
            async with asyncio.timeout(grace):
                await self._child.wait()
        except TimeoutError:
            pass
        finally:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        if self._child is None:
            return
        with suppress(ProcessLookupError):
            if self.running:
                self._child.kill()
        await self._child.wait()

    def last_log_lines(self, count: int = 5) -> list[str]:
        """The log's last lines without their time stamps."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(0, self.log_path.stat().st_size - LOG_TAIL))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [_TIME_STAMP.sub("", line) for line in text.splitlines()[-count:]]

    def exit_error(self, status: int) -> TorControlError:
        """The error for an end that nobody asked for, with what Tor said last."""
        lines = self.last_log_lines()
        said = "; ".join(line for line in lines if "[warn]" in line or "[err]" in line) or "; ".join(lines)
        if any(_ALREADY_RUNNING in line for line in lines):
            said = f"another tor uses {self.directory}: stop it, or use another data directory"
        return TorControlError(f"tor ended with status {status}: {said or 'its log is empty'}")
