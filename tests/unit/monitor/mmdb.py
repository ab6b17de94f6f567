"""Writes small files in MaxMind's format. Spec: maxmind.github.io/MaxMind-DB."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

MARKER = b"\xab\xcd\xefMaxMind.com"

UINT16, UINT32, UINT64 = 5, 6, 9  # the library in C wants each number of the description in its own type
KINDS = dict.fromkeys(
    ("record_size", "ip_version", "binary_format_major_version", "binary_format_minor_version"), UINT16
) | {"node_count": UINT32, "build_epoch": UINT64}


def write_mmdb(path: Path, networks: dict[str, Any]) -> Path:
    """Write a database of IPv4 networks with 24-bit records."""
    tree: list[list[Any]] = [[None, None]]
    data = b""
    for text, value in networks.items():
        network = ipaddress.IPv4Network(text)
        bits = f"{int(network.network_address):032b}"[: network.prefixlen]
        node = tree[0]
        for bit in bits[:-1]:
            if node[int(bit)] is None:
                tree.append([None, None])
                node[int(bit)] = tree[-1]
            node = node[int(bit)]
        node[int(bits[-1])] = len(data)
        data += _encode(value)
    numbers = {id(node): number for number, node in enumerate(tree)}

    def record(child: Any) -> bytes:
        if child is None:
            number = len(tree)
        elif isinstance(child, int):
            number = len(tree) + 16 + child
        else:
            number = numbers[id(child)]
        return number.to_bytes(3, "big")

    body = b"".join(record(child) for node in tree for child in node)
    about = {
        "node_count": len(tree), "record_size": 24, "ip_version": 4, "database_type": "Test",
        "languages": [], "binary_format_major_version": 2, "binary_format_minor_version": 0,
        "build_epoch": 1, "description": {},
    }  # fmt: skip
    said = b"".join(_encode(key) + _encode(value, KINDS.get(key, 6)) for key, value in about.items())
    path.write_bytes(body + bytes(16) + data + MARKER + _control(7, len(about)) + said)
    return path


def _encode(value: Any, kind: int = 6) -> bytes:
    if isinstance(value, str):
        return _control(2, len(value.encode())) + value.encode()
    if isinstance(value, int):
        size = (value.bit_length() + 7) // 8
        return _control(kind, size) + value.to_bytes(size, "big")
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(map(_encode, value))
    return _control(7, len(value)) + b"".join(_encode(key) + _encode(each) for key, each in value.items())


def _control(kind: int, size: int) -> bytes:
    assert size < 29
    return bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])
