"""``pyrelay enr decode``: a node record as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from relay.cli.arguments import command_parser
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError, UsageError
from relay.primitives.node import Node


def run(argv: Sequence[str]) -> int:
    """Decode a record; one that is none is a usage error."""
    parser = command_parser("enr", "Take a node record (EIP-778) apart.")
    parser.add_argument("action", choices=["decode"])
    parser.add_argument("record", metavar="ENR", help="enr:...")
    arguments = parser.parse_args(argv)
    try:
        record = NodeRecord.from_text(arguments.record.strip())
    except DecodeError as error:
        raise UsageError(f"not a node record: {error}") from None
    print(json.dumps(describe(record), indent=2))
    return 0


def describe(record: NodeRecord) -> dict[str, Any]:
    """All that a record says, known entries by name and the rest as hex."""
    fork = record.fork_id
    known: dict[str, Any] = {
        "seq": record.seq,
        "node_id": record.public_key.hex(),
        "id": record.node_id.hex(),
        "ip": record.ip,
        "ip6": record.ip6,
        "tcp": record.tcp,
        "tcp6": record.tcp6,
        "udp": record.udp,
        "udp6": record.udp6,
        "onion3": record.onion3,
        "i2p": record.i2p,
        "eth": None if fork is None else {"hash": "0x" + fork.hash.hex(), "next": fork.next},
        "enode": _enode_of(record),
        "size": len(record.to_rlp()),
        "signature": "0x" + record.signature.hex(),
        "entries": {name: _shown(value) for name, value in record.pairs.items()},
    }
    return {key: value for key, value in known.items() if value is not None}


def _enode_of(record: NodeRecord) -> str | None:
    node = Node.from_record(record)
    return node.enode.url if node.endpoints else None


def _shown(value: object) -> object:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return [_shown(each) for each in value] if isinstance(value, list | tuple) else str(value)
