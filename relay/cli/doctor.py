"""``pyrelay doctor``: what a person would have to debug, step by step, with a remedy for each failure."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from relay.app.checks import CHECKS
from relay.app.checkup import Case, Finding, State, examine
from relay.cli.arguments import add_options, command_parser, given_options

COLORS: Final = {State.OK: 32, State.WARN: 33, State.FAIL: 31, State.SKIPPED: 2}
NAME_WIDTH: Final = max(len(check.name) for check in CHECKS)
INDENT: Final = " " * (len("warn") + 1 + NAME_WIDTH + 2)


def run(argv: Sequence[str]) -> int:
    """Take all steps; exit code 1 when one failed."""
    parser = command_parser("doctor", "Check what a relay needs, with a remedy for each failure.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_options(parser)
    arguments = parser.parse_args(argv)
    case = Case(given_options(arguments), time.time)
    findings = asyncio.run(_examine(case, show=not arguments.json))
    healthy = all(finding.state is not State.FAIL for finding in findings)
    if arguments.json:
        print(json.dumps({"ok": healthy, "findings": [asdict(finding) for finding in findings]}))
    return 0 if healthy else 1


async def _examine(case: Case, *, show: bool) -> list[Finding]:
    findings = []
    width = min(shutil.get_terminal_size().columns, 110)
    async for finding in examine(case, CHECKS):
        findings.append(finding)
        if show:
            print(_lines(finding, width, colors=sys.stdout.isatty()), flush=True)
    return findings


def _lines(finding: Finding, width: int, *, colors: bool) -> str:
    state = f"{finding.state:4}"
    if colors:
        state = f"\x1b[{COLORS[finding.state]}m{state}\x1b[0m"
    wrapper = textwrap.TextWrapper(width=max(width, 40) - len(INDENT), break_on_hyphens=False)
    wrapper.break_long_words = False  # paths and addresses are there to be copied
    lines = wrapper.wrap(_printable(finding.detail)) or [""]
    if finding.remedy:
        wrapper.initial_indent, wrapper.subsequent_indent = "-> ", "   "
        lines += wrapper.wrap(_printable(finding.remedy))
    head = f"{state} {finding.check:{NAME_WIDTH}}  {lines[0]}"
    return "\n".join([head, *(INDENT + line for line in lines[1:])])


def _printable(text: str) -> str:
    """Peers and files choose some of the words; a terminal must not act on them."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
