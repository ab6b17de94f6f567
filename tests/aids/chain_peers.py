"""Peers of the proxy of chain data, on a virtual loop: some ask, some have a chain and answer, some lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

from relay.chain.receipts import join_receipts, split_receipts, with_blooms
from relay.primitives.errors import PeerError
from relay.protocols.eth import messages as m
from relay.protocols.eth.versions import BY_VERSION
from relay.protocols.pyrelay.messages import Answer, Ask
from relay.relaying.blockrange import BlockRange
from relay.relaying.chain_data.counters import ProxyCounters
from relay.relaying.chain_data.options import ProxyOptions
from relay.relaying.chain_data.proxy import ChainProxy
from relay.relaying.pace import PaceOptions
from relay.relaying.roster import RelayPeer
from tests.aids.relaying import RecordingSession, VirtualLoop, seeded

ANSWER_CODES = {0x04, 0x06, 0x10, 0x13}
FIELD = {0x04: "headers", 0x06: "bodies", 0x10: "blocks", 0x13: "access_lists"}


class Source:
    """Answers requests as a node with a chain does."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.by_hash = {block.hash: block for block in blocks}

    def answer(self, request, version, limit=None):
        if isinstance(request, m.GetBlockHeaders):
            return m.BlockHeaders(request.request_id, self._headers(request))
        found = []
        for block_hash in request.hashes[:limit]:
            block = self.by_hash.get(block_hash)
            if isinstance(request, m.GetBlockAccessLists):
                found.append(block.access_list if block else b"\x80")
            elif block is None:
                break
            elif isinstance(request, m.GetReceipts):
                found.append(with_blooms(block.receipts) if version == 68 else block.receipts)
            else:
                found.append(block.body)
        if isinstance(request, m.GetReceipts) and found and request.first_index:
            found[0] = join_receipts(split_receipts(found[0])[request.first_index :])
        kind = {0x05: m.BlockBodies, 0x0F: m.Receipts, 0x12: m.BlockAccessLists}[request.CODE]
        return kind(request.request_id, tuple(found))

    def _headers(self, request):
        if isinstance(request.origin, bytes):
            first = self.by_hash.get(request.origin)
            number = -1 if first is None else first.number
        else:
            number = request.origin
        step = -request.skip - 1 if request.reverse else request.skip + 1
        found = []
        while len(found) < min(request.amount, 1024) and 0 <= number < len(self.blocks):
            found.append(self.blocks[number].raw)
            number += step
        return tuple(found)


@dataclass(eq=False)
class Peer:
    """A peer of the proxy.

    Attributes:
        relay: its entry in the roster.
        source: what it answers from; None for one that only asks.
    """

    world: World
    relay: RelayPeer
    source: Source | None

    @property
    def session(self):
        return self.relay.session

    def ask(self, request):
        self.world.proxy.request(self.relay, request.CODE, request.encode(self.relay.version))

    def answers(self):
        """Return the answers it got, and forget them."""
        found = [each for each in self.session.sent if each[0] in ANSWER_CODES]
        self.session.sent = [each for each in self.session.sent if each[0] not in ANSWER_CODES]
        version = BY_VERSION[self.relay.version]
        return [version.decode(code, payload) for code, payload in found]

    def asked(self):
        """Return the questions it got, and forget them."""
        found = [each for each in self.session.sent if each[0] not in ANSWER_CODES]
        self.session.sent = [each for each in self.session.sent if each[0] in ANSWER_CODES]
        version = BY_VERSION[self.relay.version]
        return [version.decode(code, payload) for code, payload in found]

    def say(self, message):
        """Send an answer; an offence ends the peer as the handler would."""
        try:
            self.world.proxy.response(self.relay, message.CODE, message.encode(self.relay.version))
        except PeerError as error:
            self.session.disconnect(error.reason, str(error))
            self.leave()

    def serve(self, tamper=lambda answer: answer, limit=None):
        """Answer all questions that came."""
        asked = self.asked()
        for request in asked:
            self.say(tamper(self.source.answer(request, self.relay.version, limit)))
        return asked

    def leave(self):
        if not self.relay.gone:
            self.relay.gone = True
            self.world.proxy.left(self.relay)
            self.world.peers.remove(self)

    def relayed(self):
        """Return what came by the capability of relays, and forget it."""
        found, self.session.foreign = self.session.foreign, []
        return [(Ask, Answer)[code].decode(payload) for _, code, payload in found]


class World:
    """A proxy and its peers."""

    def __init__(self, blocks, cost=0.0, loop=None, **options):
        self.loop = loop or VirtualLoop(cost=cost)
        self.blocks = blocks
        self.counters = ProxyCounters()
        self.dropped = []
        self.peers = []
        self.proxy = ChainProxy(
            ProxyOptions(**options), self.counters, self.loop, seeded(), self._drop, blocks[0].hash
        )

    def _drop(self, relay_peer, cause):
        self.dropped.append((relay_peer, cause))
        relay_peer.session.disconnect(0x02, cause)
        peer = next(each for each in self.peers if each.relay is relay_peer)
        self.loop.call_soon(peer.leave)

    def join(self, version=70, blocks=None, latest=None, **session):
        """Add a peer; one with blocks has a chain, and tells of it."""
        relay = RelayPeer(RecordingSession(version, **session), 1, self.loop.now, PaceOptions())
        peer = Peer(self, relay, None if blocks is None else Source(blocks))
        self.peers.append(peer)
        self.proxy.joined(relay)
        if blocks is not None and version != 68:
            head = blocks[-1] if latest is None else blocks[latest]
            self.proxy.learn(relay, BlockRange(0, head.number, head.hash))
        return peer

    def run(self, seconds=0.0, serving=True):
        """Let all with a chain answer until nothing is asked any more."""
        self.loop.advance(seconds)
        while serving and sum(len(peer.serve()) for peer in list(self.peers) if peer.source):
            self.loop.settle()

    @property
    def idle(self):
        """Whether nothing is left of any request."""
        return not self.proxy.waiting and not self.proxy.under_way


def flip(answer, item=0, at=-1, bit=1):
    """Return an answer with one bit of one item changed."""
    name = FIELD[answer.CODE]
    items = list(getattr(answer, name))
    raw = bytearray(items[item])
    raw[at] ^= bit
    items[item] = bytes(raw)
    return replace(answer, **{name: tuple(items)})
