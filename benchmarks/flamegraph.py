"""Sampled stacks to a flame graph in SVG: wide is what takes long, above is what was called."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from zlib import crc32

WIDTH, ROW, MARGIN = 1600, 17, 24
LETTER = 6.4  # width of a letter
NARROWEST = 0.6  # what is narrower is left out


@dataclass
class Node:
    name: str
    count: int = 0
    own: int = 0
    children: dict[str, Node] = field(default_factory=dict)


def read(folded: str) -> Node:
    """Parse lines of `name;name;name count`."""
    root = Node("all")
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        node = root
        node.count += int(count)
        for name in stack.split(";"):
            node = node.children.setdefault(name, Node(name))
            node.count += int(count)
        node.own += int(count)
    return root


def depth(node: Node) -> int:
    return 1 + max(map(depth, node.children.values()), default=0)


def svg(root: Node, title: str) -> str:
    height = depth(root) * ROW + 2 * MARGIN
    parts: list[str] = []
    _draw(root, 0.0, height - MARGIN, WIDTH / max(1, root.count), root.count, parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' font-family="monospace" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="8" y="16" font-size="14">{escape(title)}</text>' + "".join(parts) + "</svg>\n"
    )


def _draw(node: Node, x: float, y: float, scale: float, total: int, parts: list[str]) -> None:
    width = node.count * scale
    if width < NARROWEST:
        return
    color = f"hsl({crc32(node.name.split(':')[0].encode()) % 60 + 5},80%,{62 + len(node.name) % 10}%)"
    shown = node.name.rpartition(":")[2][: int(width / LETTER)] if width > 3 * LETTER else ""
    label = f"{node.name}: {node.count} samples, {node.count / max(1, total):.1%}"
    parts.append(
        f"<g><title>{escape(label)}</title>"
        f'<rect x="{x:.1f}" y="{y - ROW:.1f}" width="{width:.1f}" height="{ROW - 1}" fill="{color}" rx="1"/>'
        f'<text x="{x + 3:.1f}" y="{y - 5:.1f}">{escape(shown)}</text></g>'
    )
    for child in sorted(node.children.values(), key=lambda each: each.name):
        _draw(child, x, y - ROW, scale, total, parts)
        x += child.count * scale


def hottest(root: Node, limit: int) -> list[tuple[str, int, int]]:
    """Functions by their own samples: name, own, with all they call."""
    own: dict[str, int] = {}
    whole: dict[str, int] = {}

    def walk(node: Node, above: frozenset[str]) -> None:
        for child in node.children.values():
            if child.name.startswith("line "):
                own[node.name] = own.get(node.name, 0) + child.own
                continue
            if child.name not in above:
                whole[child.name] = whole.get(child.name, 0) + child.count
            walk(child, above | {child.name})

    walk(root, frozenset())
    ranked = sorted(own.items(), key=lambda each: -each[1])[:limit]
    return [(name, count, whole.get(name, count)) for name, count in ranked]
