"""What is fuzzed: pure parsers of what others send, with seeds that get beyond the first check.

Hashes, signatures and encryption are put on after the mutation where they stand before the parser.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from relay.chain import transactions
from relay.discovery.dns.messages import make_question, read_answer
from relay.primitives import rlp
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.enode import parse as parse_enode
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.errors import (
    DecodeError,
    PeerError,
    ProxyFailed,
    TorControlError,
    UsageError,
)
from relay.primitives.hashing import keccak256
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey, parse_onion
from relay.protocols.devp2p import snappy
from relay.protocols.devp2p.messages import Hello, decode_disconnect
from relay.protocols.dht import messages as dht_messages
from relay.protocols.discv4 import packets as discv4
from relay.protocols.discv5 import messages as discv5_messages
from relay.protocols.discv5 import packet as discv5_packet
from relay.protocols.discv5.streams import PREFACE, PacketReader
from relay.protocols.dnsdisc.entries import Root, parse_entry
from relay.protocols.eth import packing
from relay.protocols.eth.versions import BY_VERSION
from relay.protocols.rlpx import ecies
from relay.protocols.rlpx.handshake import Recipient
from relay.tor.authentication import ProtocolInfo
from relay.tor.bridges import Bridge, Transport, split_bridges
from relay.tor.client_auth import AuthorizedClient, parse_access, parse_clients
from relay.tor.control_protocol import ReplyParser, parse_keywords, unquote
from relay.tor.health import IntroductionWatch
from relay.tor.status import StatusBoard
from relay.tor.torrc import torrc_text
from relay.transports.first_byte import parse_circuit_line
from relay.transports.socks5 import Credentials, SocksHandshake
from tests.aids.devp2p import Pair, Randomness, make_hello
from tests.fuzz.local_targets import LOCAL_TARGETS
from tests.fuzz.target import Target, tried

VECTORS: Final = Path(__file__).parents[1] / "vectors"
KEY: Final = NodeKey(b"\x01" * 32)
ONION: Final = OnionKey.from_seed(bytes(32)).address
PRINT: Final = b"0123456789ABCDEF0123456789ABCDEF01234567"
RECORD: Final = build_record(KEY, 1, onion3=ONION, tcp=30303)


def control(data: bytes) -> None:
    """Replies and events, in two pieces, read by everything that reads them."""
    parser, board = ReplyParser(), StatusBoard()
    watch = IntroductionWatch("a" * 56, board)
    middle = len(data) // 2
    for reply in (*parser.feed(data[:middle]), *parser.feed(data[middle:])):
        reply.keyword_lines()
        board.take_status_event(reply)
        board.take_liveness(reply.text)
        watch._take_event(reply)
        parse_keywords(reply.text)
        unquote(reply.text)
        ProtocolInfo.from_reply(reply)


def socks(data: bytes) -> None:
    """A proxy's answers, as they come from a socket."""
    handshake = SocksHandshake(Endpoint(Network.ONION, ONION, 30303), Credentials(b"u", b"p"))
    while data and not handshake.done:
        handshake.take_output()
        piece, data = data[: handshake.wanted], data[handshake.wanted :]
        handshake.receive(piece)


def rlpx(data: bytes) -> None:
    """The content of an auth packet that is sealed for us."""
    sealed = _sealed(data)
    Recipient(KEY, Randomness(1)).receive(sealed)


def _sealed(plaintext: bytes) -> bytes:
    prefix = (len(plaintext) + ecies.OVERHEAD).to_bytes(2, "big")
    return prefix + ecies.encrypt(KEY.public_key, plaintext, prefix, Randomness(2))


def transcript(data: bytes) -> None:
    """Bytes of a stranger, from the first on."""
    pair = Pair(1)
    pair.b.receive(data)


def devp2p(data: bytes) -> None:
    """Hello, Disconnect, and snappy."""
    for parse in (Hello.decode, decode_disconnect, lambda each: snappy.decompress(each, 1 << 16)):
        tried(parse, data)


def eth(data: bytes) -> None:
    """Version and code by the first two bytes, then a message; all versions' helpers."""
    first, second = (data[at] if len(data) > at else 0 for at in (0, 1))
    version = BY_VERSION[sorted(BY_VERSION)[first % len(BY_VERSION)]]
    code = sorted(version.messages)[second % len(version.messages)]
    payload = data[2:]
    tried(lambda each: version.decode(code, each), payload)
    tried(packing.split_transactions, payload)
    tried(packing.split_pooled, payload)
    tried(packing.decode_announcement, payload)
    tried(packing.decode_masked_announcement, payload)


def udp4(data: bytes) -> None:
    """A kind and its fields, signed and under their hash."""
    signed = KEY.sign_recoverable(keccak256(data)) + data
    discv4.decode(keccak256(signed) + signed)


class _NoMask:
    def apply(self, iv: bytes, data: bytes) -> bytes:
        del iv
        return data


def discv5(data: bytes) -> None:
    """A packet that is not masked, and a message that was decrypted."""
    tried(discv5_messages.decode, data)
    packet = discv5_packet.parse(data, _NoMask())
    if packet.flag == discv5_packet.Flag.HANDSHAKE:
        discv5_packet.parse_handshake(packet.auth)


def discv5_stream(data: bytes) -> None:
    """A stream of packets in small pieces."""
    reader = PacketReader(preface=True)
    for at in range(0, len(data), 97):
        reader.receive(data[at : at + 97])
        while reader.next_packet() is not None:
            pass


def dht(data: bytes) -> None:
    """Requests and answers."""
    tried(dht_messages.decode_request, data)
    tried(dht_messages.decode_answer, data)


def dnsdisc(data: bytes) -> None:
    """Texts of a list of nodes."""
    text = data.decode("utf-8", "replace")
    tried(Root.parse, text)
    tried(parse_entry, text)


QUESTION: Final = make_question("nodes.example", 7, padded=False)


def dns(data: bytes) -> None:
    """An answer of a resolver."""
    read_answer(QUESTION, data)


def names(data: bytes) -> None:
    """Records, enodes and onions as texts; records as bytes."""
    text = data.decode("utf-8", "replace")
    for parse in (NodeRecord.from_text, parse_enode, parse_onion):
        tried(parse, text)
    tried(NodeRecord.from_rlp, data)
    tried(rlp.decode, data)


def settings(data: bytes) -> None:
    """Bridges, transports and keys, as a person or an attacker of a person writes them."""
    text = data.decode("utf-8", "replace")
    for line in split_bridges(text):
        _one_line(Bridge.parse, line)
    _one_line(Transport.parse, text)
    for parse in (parse_clients, parse_access, AuthorizedClient.parse):
        tried(parse, text)


def _one_line(parse: Callable[[str], Bridge | Transport], text: str) -> None:
    try:
        found = parse(text)
    except DecodeError:
        return
    assert torrc_text([found.line]).count("\n") == 1


def _vectors(name: str) -> tuple[bytes, ...]:
    """Hex texts of a file of vectors, wherever they are in it."""
    found: list[bytes] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)
        elif isinstance(value, str) and 4 <= len(value) <= 4096:
            try:
                found.append(bytes.fromhex(value.removeprefix("0x")))
            except ValueError:
                found.append(value.encode())

    walk(json.loads((VECTORS / name).read_text()))
    return tuple(found[:60])


_AUTH: Final = (
    KEY.sign_recoverable(bytes(32)),
    NodeKey(b"\x02" * 32).public_key,
    bytes(32),
    4,
)

TARGETS: Final[dict[str, Target]] = {
    **LOCAL_TARGETS,
    "control": Target(
        (
            b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=SAFECOOKIE COOKIEFILE="/a \\"b\\143"\r\n250 OK\r\n',
            b"250+onions/current=\r\nabc\r\n..x\r\n.\r\n250 OK\r\n",
            b'650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=80 TAG=conn SUMMARY="Half"\r\n',
            b"650 STATUS_GENERAL WARN CLOCK_SKEW SKEW=-77\r\n650 NETWORK_LIVENESS UP\r\n",
            b"650 CIRC 5 BUILT $AA~a,$BB~b PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_ESTABLISHED REND_QUERY="
            + b"a" * 56
            + b"\r\n",
            b"250 AUTHCHALLENGE SERVERHASH=" + b"0" * 64 + b" SERVERNONCE=" + b"1" * 64 + b"\r\n",
        ),
        control,
        (TorControlError,),
    ),
    "socks5": Target(
        (
            b"\x05\x02\x01\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50",
            b"\x05\x02\x01\x00\x05\x00\x00\x03\x04name\x00\x50",
            b"\x05\x02\x01\x00\x05\xf4\x00\x04" + bytes(18),
            b"HTTP/1.1 400 Bad\r\n\r\n",
        ),
        socks,
        (ProxyFailed,),
    ),
    "rlpx": Target((rlp.encode(_AUTH), rlp.encode(_AUTH) + bytes(150)), rlpx, (PeerError,)),
    "transcript": Target((Pair(1).a.take_output(), _sealed(rlp.encode(_AUTH))), transcript, (PeerError,)),
    "devp2p": Target((make_hello(KEY).encode(), b"\xc1\x04", snappy.compress(bytes(90))), devp2p),
    "eth": Target(
        tuple(b"\x01" + bytes([number]) + each for number, each in enumerate(_vectors("eth/messages.json"))),
        eth,
    ),
    "transactions": Target(
        _vectors("transactions/decodable.json"), transactions.decode, (DecodeError, PeerError)
    ),
    "discv4": Target(
        (
            *(each[97:] for each in _vectors("discv4/eip8.json") if len(each) > 98),
            b"\x06" + rlp.encode([bytes(32), [b"id", b"v4"]]),
        ),
        udp4,
    ),
    "discv5": Target(_vectors("discv5/wire.json"), discv5),
    "discv5-stream": Target((PREFACE + b"\x00\x50" + bytes(80) + b"\x00\x3f" + bytes(63),), discv5_stream),
    "dht": Target(_vectors("provider-dht.json"), dht),
    "dnsdisc": Target(_vectors("dnsdisc/upstream.json"), dnsdisc),
    "dns": Target((QUESTION.wire, QUESTION.wire[:2] + b"\x84\x00" + QUESTION.wire[4:]), dns),
    "names": Target(
        (
            RECORD.to_text().encode(),
            ONION.encode(),
            b"enode://" + KEY.public_key.hex().encode() + b"@1.2.3.4:5?discport=6",
        ),
        names,
    ),
    "first-byte": Target((b"PROXY TCP6 fc00:dead:beef:4dad::12ab:34cd ::1 65535 42",), parse_circuit_line),
    "settings": Target(
        (
            b"obfs4 192.0.2.7:443 " + PRINT + b" cert=ab+/ iat-mode=0,[2001:db8::1]:9",
            b"obfs4=/usr/bin/obfs4proxy",
            ONION[:56].encode() + b":descriptor:x25519:" + b"A" * 52,
            b"# c\ndescriptor:x25519:" + b"B" * 52,
        ),
        settings,
        (DecodeError, UsageError),
    ),
}
