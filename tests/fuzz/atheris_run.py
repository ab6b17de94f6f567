"""One target under atheris in its own process: `python -m tests.fuzz.atheris_run NAME CORPUS [-flag]`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["relay"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    target = TARGETS[sys.argv[1]]

    def one(data: bytes) -> None:
        try:
            target.run(data)
        except target.allowed:
            return

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
