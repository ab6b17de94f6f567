"""RLP (ours and the library's), node records, Keccak."""

import rlp as library

from benchmarks.micro.registry import Call, case
from relay.primitives import rlp
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from tests.aids.transactions import build

ANNOUNCEMENT = rlp.encode([b"\x02" * 256, [120] * 256, [bytes((n,)) * 32 for n in range(256)]])
TRANSFER = build(2)[1:]
KEY = NodeKey(b"\x07" * 32)

for _size in (32, 120, 1024, 102_400):

    def _keccak(size: int = _size) -> Call:
        data = bytes(size)
        return lambda: keccak256(data)

    case("keccak", f"{_size} B", size=_size)(_keccak)

for _name, _data in {"transfer": TRANSFER, "announcement of 256": ANNOUNCEMENT}.items():

    def _ours(data: bytes = _data) -> Call:
        return lambda: rlp.decode(data)

    def _theirs(data: bytes = _data) -> Call:
        return lambda: library.decode(data)

    def _encode(data: bytes = _data) -> Call:
        item = rlp.decode(data)
        return lambda: rlp.encode(item)

    def _encode_theirs(data: bytes = _data) -> Call:
        item = rlp.decode(data)
        return lambda: library.encode(item)

    case("rlp", f"decode {_name}", size=len(_data))(_ours)
    case("rlp", f"decode {_name}, library rlp", size=len(_data))(_theirs)
    case("rlp", f"encode {_name}", size=len(_data))(_encode)
    case("rlp", f"encode {_name}, library rlp", size=len(_data))(_encode_theirs)


@case("rlp", "walk announcement of 256 by offsets", size=len(ANNOUNCEMENT))
def _() -> Call:
    _, start, stop = rlp.read_header(ANNOUNCEMENT, 0, len(ANNOUNCEMENT))
    _, inner, _ = rlp.read_header(ANNOUNCEMENT, rlp.list_items(ANNOUNCEMENT, start, stop)[2][0], stop)
    return lambda: rlp.list_items(ANNOUNCEMENT, inner, stop)


@case("node record", "decode and verify")
def _() -> Call:
    data = build_record(KEY, 5, tcp=30303, ip="203.0.113.9", udp=30303).to_rlp()
    return lambda: NodeRecord.from_rlp(data)


@case("node record", "decode and verify, from text")
def _() -> Call:
    text = build_record(KEY, 5, tcp=30303, ip="203.0.113.9", udp=30303).to_text()
    return lambda: NodeRecord.from_text(text)


@case("node record", "build and sign")
def _() -> Call:
    return lambda: build_record(KEY, 5, tcp=30303, ip="203.0.113.9", udp=30303)
