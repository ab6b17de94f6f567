"""Runs a module as the main program, and ends it when whoever started it is gone.

``python -m relay.localnet.leash MODULE ARGUMENT...``: standard input is a pipe whose other end only the
starter holds. The kernel closes it with the starter, however that ends, and this process then gets the same
signal as by an orderly stop. That needs no process id, which might be another process's by then, and works on
every system.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from typing import Final

STOP_SECONDS: Final = 8.0
"""After which a main program that does not stop by the signal is ended."""


def _hold(descriptor: int) -> None:
    while os.read(descriptor, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)


def main() -> None:
    """Run the module named by the first argument with the rest as its own."""
    threading.Thread(target=_hold, args=(0,), name="leash", daemon=True).start()
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
