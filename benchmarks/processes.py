"""Processes that are measured: started so that they end with this one, read from /proc, ended by their id."""

from __future__ import annotations

import ctypes
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

STOP_SECONDS = 10.0
_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Have the kernel end this process when its parent is gone, however that ends."""
    _LIBC.prctl(_SET_PDEATHSIG, signal.SIGTERM)


def many_files() -> None:
    """Allow as many open files as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _prepare() -> None:
    die_with_parent()
    many_files()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Process:
    """A child whose output goes to a file."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self._child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours, and we end it
                preexec_fn=_prepare,
            )
        self.pid = self._child.pid

    def check(self) -> None:
        """Raise when it has ended."""
        status = self._child.poll()
        if status is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self._child.args!r} ended with status {status}:\n{tail}")

    def stop(self) -> None:
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


def family(pid: int) -> list[int]:
    """A process and its children, and theirs."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += family(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with its children: /proc's utime + stime, but to the nanosecond."""
    return sum(time.clock_gettime((~each << 3) | 2) for each in family(pid))


def rss_bytes(pid: int) -> int:
    return sum(_status_kb(each, "VmRSS") for each in family(pid)) * 1024


def peak_rss_bytes(pid: int) -> int:
    return _status_kb(pid, "VmHWM") * 1024


def _status_kb(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0
