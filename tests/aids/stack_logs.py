"""What tests of deployment/logging try on addresses.vrl: lines, and addresses in all their spellings."""

from __future__ import annotations

import ipaddress
import random
from pathlib import Path

from tests.aids.stack_monitoring import ROOT

__all__ = ["AROUND", "LOGGING", "PROGRAM", "assert_nothing_is_left", "pairs", "spellings"]

LOGGING = ROOT / "deployment" / "logging"
PROGRAM = LOGGING / "addresses.vrl"
LINES = Path(__file__).parents[1] / "vectors" / "logs" / "stack-lines.txt"
AROUND = ("{}", "addr={} id=7", '{{"addr":"{}"}}', "({})", "/ip6/{}/tcp/9")


def pairs() -> dict[str, str]:
    """Read lines of geth, Prysm, pyrelay and Tor, and what is left of each."""
    found = [each for each in LINES.read_text().splitlines() if each and not each.startswith("#")]
    return dict(zip(found[::2], found[1::2], strict=True))


def spellings(seed: int) -> list[str]:
    """Return addresses in the ways in which programs write them."""
    number = random.Random(seed)
    found = []
    for _ in range(200):
        four = ipaddress.IPv4Address(number.getrandbits(32))
        zeros = number.randrange(0, 112, 16)  # runs of zeros are what is abbreviated
        six = ipaddress.IPv6Address((number.getrandbits(128) >> zeros << zeros) or 1)
        low = ipaddress.IPv6Address(number.getrandbits(number.choice((16, 32, 64))))
        found += [str(four), f"{four}:30303", f"::ffff:{four}"]
        for each in (six, low, ipaddress.IPv6Address((0xFE80 << 112) | number.getrandbits(64))):
            found += [str(each), each.exploded, str(each).upper(), f"[{each}]:30303", f"[{each}%eth0]:9"]
    return found


def assert_nothing_is_left(line: str, left: str, around: str) -> None:
    """Assert that of a line's address no part is there any more."""
    rest = around.replace("{{", "").replace("}}", "").replace("{}", "")
    said = left.replace("<address>", "").replace("{", "").replace("}", "").replace(":", "")
    assert "<address>" in left, line
    assert len(said) <= len(rest), f"{line} became {left}"
