"""Targets behind the handshakes, and beside the peers: frames, blocks, JSON-RPC both ways, files, flags."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from relay.chain.bodies import check_body
from relay.chain.headers import Header
from relay.chain.receipts import check_receipts, split_receipts, with_blooms, without_blooms
from relay.discovery import upnp
from relay.discovery.nat import NatFailed
from relay.discovery.peer_text import parse_peer
from relay.discovery.static_nodes import parse_static_nodes
from relay.primitives import rlp
from relay.primitives.enr import build_record
from relay.primitives.errors import DecodeError, LocalError, PeerError, RelayError, SamFailed
from relay.primitives.i2p import I2PKey, i2p_from_destination, parse_i2p
from relay.primitives.keys import NodeKey, compress
from relay.primitives.onion import OnionKey
from relay.protocols.devp2p import snappy
from relay.protocols.devp2p.events import Message
from relay.protocols.eth.versions import BY_VERSION
from relay.protocols.pyrelay.messages import Answer, Ask
from relay.rpc.beacon import _head_in
from relay.rpc.dispatcher import Dispatcher
from relay.rpc.errors import RpcError
from relay.rpc.framing import JsonFramer
from relay.rpc.jwt import Bearer, parse_secret
from relay.rpc.methods import Method
from relay.rpc.params import ADDRESS, ANY, HASH, OPTIONAL_FLAG, TEXT, TEXTS, hex_data, hex_quantity
from relay.rpc.upstream.budget import Budget, Share
from relay.rpc.upstream.faults import UpstreamFault
from relay.rpc.upstream.framings import LineFraming, WebSocketFraming
from relay.rpc.upstream.http import HttpLink
from relay.rpc.upstream.options import UpstreamOptions
from relay.rpc.upstream.texts import answer_id, read_answer
from relay.rpc.upstream.urls import parse_upstream
from relay.settings.options import OPTIONS
from relay.transports import i2p_sam
from tests.aids.devp2p import Pair
from tests.aids.sam_bridge import make_destination, text_of
from tests.fuzz.target import Target, tried

T = TypeVar("T")
KEY: Final = NodeKey(b"\x01" * 32)
ONION: Final = OnionKey.from_seed(bytes(32)).address
RECORD: Final = build_record(KEY, 1, onion3=ONION, tcp=30303)
ENODE: Final = f"enode://{KEY.public_key.hex()}@1.2.3.4:30303"
I2P_KEY: Final = I2PKey(make_destination(bytes(384)) + bytes(288))
I2P_DESTINATION: Final = text_of(make_destination(bytes(384)))
I2P_ADDRESS: Final = i2p_from_destination(I2P_DESTINATION)
URL: Final = parse_upstream("http://127.0.0.1:8545")


# -- a peer that shook hands


def frames(data: bytes) -> None:
    """What an authentic peer sends, by the first byte: a compressed message, a bare one, or no frame."""
    pair = Pair(1).connect()
    way, code, body = data[:1], data[1:2], data[2:]
    codec = pair.a._codec
    match way:
        case b"\x00":
            stream = codec.encode(code or b"\x80", snappy.compress(body))
        case b"\x01":
            stream = codec.encode(code or b"\x80", body)
        case _:
            stream = data[1:]
    for event in pair.b.receive(stream):
        if isinstance(event, Message) and event.code in BY_VERSION[69].messages:
            tried(lambda each, code=event.code: BY_VERSION[69].decode(code, each), event.payload)


def pyrelay(data: bytes) -> None:
    """What relays of this program say to each other."""
    for parse in (Ask.decode, Answer.decode):
        tried(parse, data)


def blocks(data: bytes) -> None:
    """A header by itself; what follows it as the body and the receipts that it commits to."""
    for parse in (with_blooms, without_blooms, split_receipts):
        tried(parse, data)
    header = Header.decode(data)
    for check in (check_body, check_receipts):
        tried(lambda each, check=check: check(header, each), data[len(header.raw) :] or data)


def sam(data: bytes) -> None:
    """Lines of a bridge, each read by everything that reads one; an address and a key by themselves."""
    for line in data.split(b"\n"):
        tried(i2p_sam.accepted_from, line, SamFailed)
        tried(_sam_reply, line, SamFailed)
    tried(I2PKey, data)
    text = data.decode("utf-8", "replace")
    for parse in (parse_i2p, i2p_from_destination, I2PKey.from_text):
        tried(parse, text)


def _sam_reply(line: bytes) -> None:
    reply = i2p_sam.parse_reply(line)
    for check in (
        i2p_sam.check_hello,
        i2p_sam.check_status,
        i2p_sam.generated_key,
        lambda each: i2p_sam.looked_up(each, I2P_ADDRESS),
        lambda each: i2p_sam.check_created(each, I2P_KEY),
    ):
        tried(check, reply, SamFailed)


# -- JSON-RPC: who calls us


class _Node:
    """Gives back what it was asked."""

    def __call__(self, *arguments: object) -> object:
        return [repr(each) for each in arguments]


def _in_hex(value: object) -> object:
    text = str(value)
    tried(hex_quantity, text)
    return hex_data(text).hex()


_METHODS: Final = {
    each.name: each
    for each in (
        Method("eth_chainId", _Node()),
        Method("eth_getBlockByHash", _Node(), (HASH, OPTIONAL_FLAG)),
        Method("eth_getTransactionCount", _Node(), (ADDRESS, ANY)),
        Method("admin_addPeer", _Node(), (TEXT,)),
        Method("rpc_all", _Node(), (TEXTS, ANY)),
        Method("eth_sendRawTransaction", _in_hex, (ANY,)),
        Method("eth_call", _Node(), None),
    )
}
_DISPATCHER: Final = Dispatcher(_METHODS, clock=lambda: 0.0)


def calls(data: bytes) -> None:
    """A body of HTTP, and the same as a stream; whatever is answered is JSON."""
    if answer := _at_once(_DISPATCHER.answer(data)):
        json.loads(answer)
    framer = JsonFramer(max_value=2048)
    middle = len(data) // 2
    try:
        for part in (data[:middle], data[middle:]):
            for value in framer.feed(part):
                _at_once(_DISPATCHER.answer(value))
    except RpcError:
        return


_LOOP: list[asyncio.AbstractEventLoop] = []


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run in one loop for all: to make one takes longer than most of these runs."""
    if not _LOOP:
        _LOOP.append(asyncio.new_event_loop())
        _LOOP[0].set_exception_handler(_raise)
    return _LOOP[0].run_until_complete(work)


def _raise(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    raise context.get("exception") or RuntimeError(context["message"])


_BEARER: Final = Bearer(bytes(32), lambda: 1e9)


def tokens(data: bytes) -> None:
    """A caller's token, and the file that it is checked by."""
    _BEARER.refusal("Bearer " + data.decode("utf-8", "surrogateescape"))
    _BEARER.refusal(data.decode("latin-1"))
    head, claims = (base64.urlsafe_b64encode(each).rstrip(b"=") for each in (b'{"alg":"HS256"}', data))
    proof = base64.urlsafe_b64encode(hmac.digest(bytes(32), head + b"." + claims, hashlib.sha256))
    _BEARER.refusal("Bearer " + b".".join((head, claims, proof.rstrip(b"="))).decode())
    tried(parse_secret, data.decode("utf-8", "replace"), LocalError)


# -- JSON-RPC: whom we ask


def answers(data: bytes) -> None:
    """Bodies and streams of an upstream."""
    answer_id(data)
    tried(lambda each: _at_once(read_answer(each, 1)), data, RpcError, UpstreamFault)  # type: ignore[arg-type]
    tried(_head_in, data, UpstreamFault)
    shaken = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    for framing in (LineFraming(_share()), WebSocketFraming(URL, _share())):
        framing.hello()
        middle = len(data) // 3
        for part in (shaken, data[:middle], data[middle:]):
            try:
                framing.receive(part)
            except UpstreamFault:
                break


def _share() -> Share:
    return Share(Budget(1 << 20), 1 << 16)


class _Opener:
    """Opens connections that answer by the bytes given."""

    url = URL

    def __init__(self, said: bytes) -> None:
        self._said = said

    async def open(self, factory: Any) -> tuple[asyncio.Transport, Any]:
        protocol = factory()
        transport = _Answering(protocol, self._said)
        protocol.connection_made(transport)
        return transport, protocol


class _Answering(asyncio.Transport):
    def __init__(self, protocol: Any, said: bytes) -> None:
        super().__init__()
        self._protocol, self._said, self._closing = protocol, said, False

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        self._closing = True

    def write(self, data: Any) -> None:
        asyncio.get_running_loop().call_soon(self._say)

    def _say(self) -> None:
        middle = len(self._said) // 2
        for part in (self._said[:middle], self._said[middle:]):
            if part and not self._closing:
                self._protocol.data_received(part)
        self._protocol.eof_received()
        self._protocol.connection_lost(None)


def http(data: bytes) -> None:
    """An upstream's answer in HTTP, from its first byte to the end of the connection."""
    budget = Budget(1 << 20)
    link = HttpLink(_Opener(data), UpstreamOptions(), budget)  # type: ignore[arg-type]
    try:
        _at_once(link.exchange(1, b"{}", once=True))
    finally:
        link.close()
    assert budget.held == 0


# -- the router of the house


def router(data: bytes) -> None:
    """An answer to a search, and one in HTTP, of whatever is on the same network."""
    upnp._location_of(data, ("192.168.1.1", 1900))
    tried(upnp._decoded, data, NatFailed)


# -- files and flags


def files(data: bytes) -> None:
    """Files of nodes, and nodes as a person writes them."""
    tried(parse_static_nodes, data, LocalError)
    tried(parse_peer, data.decode("utf-8", "replace"))


def flags(data: bytes) -> None:
    """The value of every setting."""
    text = data.decode("utf-8", "replace")
    for option in OPTIONS:
        tried(option.parse, text, LocalError, DecodeError)


_HEADER: Final = rlp.encode(
    [
        *(bytes(32), bytes(32), bytes(20), bytes(32), bytes(32), bytes(32), bytes(256)),
        *(b"", b"\x01", b"\x09", b"", b"\x05", b"x", bytes(32), bytes(8), b"\x07", bytes(32)),
    ]
)

LOCAL_TARGETS: Final[dict[str, Target]] = {
    "sam": Target(
        (
            b'HELLO REPLY RESULT=OK VERSION=3.1\nSTREAM STATUS RESULT=CANT_REACH_PEER MESSAGE="no \\" way"',
            b"DEST REPLY PUB=" + I2P_DESTINATION.encode() + b" PRIV=" + I2P_KEY.to_text().encode(),
            b"NAMING REPLY RESULT=OK NAME=x.b32.i2p VALUE=" + I2P_DESTINATION.encode(),
            b"SESSION STATUS RESULT=OK DESTINATION=" + I2P_KEY.to_text().encode(),
            I2P_DESTINATION.encode() + b" FROM_PORT=0",
            I2P_ADDRESS.encode(),
        ),
        sam,
    ),
    "frames": Target(
        (
            b"\x00\x10" + rlp.encode([69, 1, bytes(32), [bytes(4), b""], 1, 2, b"\x01" * 32]),
            b"\x00\x02\xc0",
            b"\x01\x80\x01\xc0",
            b"\x02" + bytes(64),
        ),
        frames,
        (PeerError,),
    ),
    "pyrelay": Target((Ask(1, 500, 3, b"\xc0").encode(), Answer(4, b"x" * 40).encode()), pyrelay),
    "blocks": Target(
        (_HEADER, _HEADER + rlp.encode([[], []]), rlp.encode([[b"\x01", b"\x01", b"", []]])), blocks
    ),
    "calls": Target(
        (
            b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}',
            b'[{"jsonrpc":"2.0","id":null,"method":"eth_getBlockByHash","params":["0x'
            + b"0" * 64
            + b'",true]},{"jsonrpc":"2.0","id":1,"result":1}]',
            b'{"jsonrpc":"2.0","id":1e9,"method":"eth_sendRawTransaction","params":["0x02f8"]}',
            b'{"jsonrpc":"2.0","id":"a","method":"rpc_all","params":[["a","\\ud800"],{}]}',
            b'{"jsonrpc":"2.0","id":"a","method":"eth_call","params":{"a":[1,2.5,-3]}} [1]\n"x',
        ),
        calls,
    ),
    "tokens": Target(
        (b'{"iat":1000000000,"exp":1e9}', b"eyJhbGciOiJIUzI1NiJ9.eyJpYXQiOjF9.AAAA", b"0x" + b"0" * 64),
        tokens,
    ),
    "answers": Target(
        (
            b'{"jsonrpc":"2.0","id":1,"result":{"a":["0x1",null]}}\n',
            b'{"jsonrpc":"2.0","result":"0x","id":1}',
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"limit","data":[]}}',
            b'{"data":{"message":{"body":{"execution_payload_header":{"block_number":"7","block_hash":"0x'
            + b"11" * 32
            + b'"}}}}}',
            b"\x81\x05hello\x89\x00\x88\x02\x03\xe8",
        ),
        answers,
    ),
    "http": Target(
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
            b"2\r\n{}\r\n0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 429 Slow\nRetry-After: 7\n\n",
        ),
        http,
        (UpstreamFault,),
    ),
    "router": Target(
        (
            b"HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
            b"LOCATION: http://192.168.1.1:5000/rootDesc.xml\r\nUSN: uuid:1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Type: text/xml\r\n\r\n<a/>",
            b"HTTP/1.0 500 no\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        router,
    ),
    "files": Target(
        (
            f'["{ENODE}", "{RECORD.to_text()}", null, {{"a": 1}}]'.encode(),
            f"{ONION}:30303/{compress(KEY.public_key).hex()}".encode(),
        ),
        files,
        (RelayError,),
    ),
    "flags": Target(
        (
            *(option.default.encode() for option in OPTIONS if option.default),
            b"127.0.0.1:9050,unix:/run/tor/socks",
            b"https://user:word@node.example:1/path,wss://[::1]/",
            b"enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@morenodes.example.org",
            b"tls://1.2.3.4,https://dns.example/dns-query",
            ENODE.encode(),
            f"http://{ONION}:5052".encode(),
        ),
        flags,
    ),
}
