"""The command ``pyrelay``: finds the subcommand, and turns errors into one line and an exit code."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Final, cast

from relay.primitives.errors import LocalError, RelayError, UsageError

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

# Modules are imported when their command is asked for: the daemon must not pay for the screen's libraries.
COMMANDS: Final = {
    "localnet": "relay.cli.localnet",
    "key": "relay.cli.key",
    "enr": "relay.cli.enr",
    "config": "relay.cli.config",
    "doctor": "relay.cli.doctor",
    "discover": "relay.cli.discover",
    "dns": "relay.cli.dns",
    "dht": "relay.cli.dht",
    "send": "relay.cli.send",
    "private": "relay.cli.private",
    "monitor": "relay.cli.monitor",
    "kubernetes": "relay.cli.kubernetes",
    "version": "relay.cli.version",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 1 failed, 2 usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    if sys.stdout is None:  # closed by who started us
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process
    name = words.pop(0) if words and not words[0].startswith("-") else ""
    try:
        code = _command(name)(words)
        sys.stdout.flush()  # here a full disk still has a handler
    except LocalError as error:
        return _fail(str(error), error.exit_code)
    except RelayError as error:
        return _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_FAILED
    except BrokenPipeError:
        # Whoever read our output has enough.
        _forget_output()
        return EXIT_FAILED
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise  # a file's, which its own code should have explained
        _forget_output()
        return _fail(f"the output can't be written: {error.strerror}", EXIT_FAILED)
    return code


def _forget_output() -> None:
    """Let what is not written yet go nowhere: the interpreter must not complain when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command(name: str) -> Callable[[Sequence[str]], int]:
    if name and name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(COMMANDS)}"
        raise UsageError(f"{name[:40]!r}: no such command; {hint}")
    module = importlib.import_module(COMMANDS[name]) if name else _import_daemon()
    return cast("Callable[[Sequence[str]], int]", module.run)


def _import_daemon() -> ModuleType:
    """Import the daemon without the terminal library that structlog loads if it is there: 3.5 MB, unused."""
    missing = "rich" not in sys.modules
    if missing:
        sys.modules["rich"] = None  # type: ignore[assignment]  # the documented way to have an import fail
    try:
        return importlib.import_module("relay.cli.daemon")
    finally:
        if missing:
            del sys.modules["rich"]


def _fail(text: str, code: int) -> int:
    print(f"pyrelay: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
