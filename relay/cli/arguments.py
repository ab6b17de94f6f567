"""Argument parsers made from the table of settings, so that flags, TOML and environment can't drift apart."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Final

from relay.settings.options import OPTIONS, Option

DESCRIPTION: Final = "An Ethereum relay for Tor: real devp2p over onion services, no chain state."
USAGE: Final = "pyrelay [flags]  or  pyrelay COMMAND ...  (all of them: pyrelay --help)"
EPILOG: Final = """\
commands:
  pyrelay localnet         a private Tor network with relays, on this machine
  pyrelay key new|show     make or show this relay's keys
  pyrelay key onion-auth   make keys to a relay that only the chosen find
  pyrelay enr decode ENR   take a node record apart
  pyrelay config check     read all settings and say what they amount to
  pyrelay discover         crawl a network and show its nodes
  pyrelay dns sync|verify|sign
                           read, check or make a list of nodes in the DNS
  pyrelay dht provide|find KEY
                           tell onion nodes that you have something; ask who has
  pyrelay send RAWTX|-     give the daemon transactions; see them travel
  pyrelay private list|abort HASH
                           transactions on their private way; stop one
  pyrelay monitor          watch the peers of this relay or of any other node
  pyrelay kubernetes identity|static-nodes|discovery|join|prune
                           what runs beside a relay on Kubernetes
  pyrelay doctor           check what a relay needs; a remedy for each failure
  pyrelay version

Every flag is also a key of the configuration file (--config) and an environment
variable: --tor-proxy is tor-proxy = "..." and PYRELAY_TOR_PROXY. The command
line wins over the environment, and that over the file.
"""


def add_options(parser: argparse.ArgumentParser, names: Sequence[str] | None = None) -> None:
    """Add flags of the table to a parser; by name, or all of them, under their headings."""
    chosen = [option for option in OPTIONS if names is None or option.name in names]
    for group in dict.fromkeys(option.group for option in chosen):
        heading = parser.add_argument_group(group)
        for option in chosen:
            if option.group == group:
                _add(heading, option)


def given_options(arguments: argparse.Namespace) -> dict[str, str]:
    """The flags that were given, by the option's name, as text."""
    values = vars(arguments)
    given = {option.name: values[option.name] for option in OPTIONS if values.get(option.name) is not None}
    return {name: ",".join(value) if isinstance(value, list) else value for name, value in given.items()}


def seconds(
    least: float = 0.0, *, above: bool = False, most: float = math.inf, hint: str = ""
) -> Callable[[str], float]:
    """Return the reader of a number of seconds for a parser.

    Args:
        least: the smallest.
        above: it has to be more than that.
        most: the largest; never endless.
        hint: what the error says besides.
    """

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not (least < found if above else least <= found) or found > most or found == math.inf:
            raise argparse.ArgumentTypeError(f"{text[:32]!r} is no number of seconds{hint}")
        return found

    return read


def _add(heading: argparse._ArgumentGroup, option: Option) -> None:
    text = option.text.replace("%", "%%")
    if option.default is not None and not option.is_switch:
        text += f" (default: {option.default})"
    if option.is_switch:
        heading.add_argument(
            f"--{option.name}", dest=option.name, nargs="?", const="true", metavar="true|false", help=text
        )
    else:
        action = "append" if option.repeats else "store"
        heading.add_argument(
            f"--{option.name}", dest=option.name, action=action, metavar=option.metavar, help=text
        )


def command_parser(name: str, text: str) -> argparse.ArgumentParser:
    """A parser for one subcommand."""
    return argparse.ArgumentParser(prog=f"pyrelay {name}", description=text, allow_abbrev=False)


def daemon_parser() -> argparse.ArgumentParser:
    """The parser of plain ``pyrelay``."""
    parser = argparse.ArgumentParser(
        prog="pyrelay",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    return parser
