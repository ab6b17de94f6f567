"""Node Discovery v5.1 as a pure core. Spec: devp2p discv5-wire.md and discv5-theory.md.

A driver owns sockets and clock:

    core = Discv5(key, own_record, UdpNetwork(), UDP, rand=os.urandom)
    core.add_bootnode(record)
    events = core.poll(now)                           # starts it; then whenever core.next_deadline has come
    events = core.receive_packet(data, source, now)   # one datagram or one packet of a stream
    for data, destination in core.take_packets(): ... # after every call, requests included

- Time is `now`, seconds of a monotonic clock; `next_deadline` is when `poll` is due; any call may move it.
- Addresses are opaque. UDP: `Endpoint` of IPv4 or IPv6. Onion streams: the onion `Endpoint` for streams that
  we dialed, any other hashable value for a stream that came in. A session belongs to (node id, address):
  `close_address` when the stream is gone, or cannot be dialed.
- Requests `ping`, `findnode`, `talkreq`, `lookup` return a handle, which RequestDone, RequestFailed or
  LookupDone carries. They take a `Contact`: `core.contact(record)`, or any contact of an event.
- TALKREQ of protocols given to `register_talk` come as TalkRequest; `respond_talk` answers.
- Nothing that comes from the network raises: it ends in `Refused(reason, source)`. Reason.NOT_DISCV5 is for
  the other protocol on the same port.
- One core serves one `NetworkClass` (`UdpNetwork`, `OnionNetwork`): its table, its rules of what is told to
  whom. A node that came in on a stream is not in the table before it answered on its onion, dialed by us
  (`Options.prove_before_entry`).
- `NodeVerified` says that a node of the table answered on its address, `NodeDropped` that it does not any
  more: what a node database keeps. `NodeSeen` is hearsay.
"""

from relay.protocols.discv5.answers import MAX_TALK
from relay.protocols.discv5.contact import Contact, ContactCache
from relay.protocols.discv5.core import Discv5
from relay.protocols.discv5.events import (
    EndpointVote,
    Event,
    Failure,
    LookupDone,
    NodeDropped,
    NodeSeen,
    NodeVerified,
    Ponged,
    Refused,
    RequestDone,
    RequestFailed,
    Result,
    SessionEstablished,
    TalkRequest,
)
from relay.protocols.discv5.networks import Address, I2PNetwork, NetworkClass, OnionNetwork, UdpNetwork
from relay.protocols.discv5.options import ONION, UDP, Options
from relay.protocols.discv5.packet import MAX_PACKET, MIN_PACKET, Reason
from relay.protocols.discv5.votes import EndpointVotes

__all__ = [
    "MAX_PACKET",
    "MAX_TALK",
    "MIN_PACKET",
    "ONION",
    "UDP",
    "Address",
    "Contact",
    "ContactCache",
    "Discv5",
    "EndpointVote",
    "EndpointVotes",
    "Event",
    "Failure",
    "I2PNetwork",
    "LookupDone",
    "NetworkClass",
    "NodeDropped",
    "NodeSeen",
    "NodeVerified",
    "OnionNetwork",
    "Options",
    "Ponged",
    "Reason",
    "Refused",
    "RequestDone",
    "RequestFailed",
    "Result",
    "SessionEstablished",
    "TalkRequest",
    "UdpNetwork",
]
