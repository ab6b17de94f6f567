"""pyrelay: an Ethereum relay for Tor. See docs/design.md for the plan of the house."""

from typing import Final

__version__: Final = "0.1.0"
