"""The provider DHT as a pure layer on a discv5 core. Spec: docs/specs/provider-dht.md.

    dht = Providers(core, key, own_record, network, rand=os.urandom, unix=time.time)
    handle = dht.provide(key32, now)          # or dht.find(key32, now, entry=contacts)
    for event in core_events: dht.receive(event, now)
    dht.poll(now)                             # whenever dht.next_deadline has come
    for event in dht.take_events(): ...       # after each of these; ProviderFound, FindDone, ProvideDone ...

- It needs every event of the core, and asks the core too: after any call, take the core's packets.
- What it does for others (keeping records, answering) goes on by itself; `store` and `serving` count it.
- `find` walks towards the key over nodes that speak the protocol, and falls back on a lookup of discv5 before
  it says that nobody provides a key. It tells of each provider once, as it is found. What it tells is signed;
  that the provider is there, only a dial proves.
- `provide` goes on until `stop_providing`: written to the 16 nearest nodes, again each hour, and soon after
  one of them left or a nearer one came. It waits while nobody is in the table or we have no address.
- Nothing that comes from the network raises.
"""

from relay.protocols.dht.events import (
    DhtEvent,
    Ended,
    FindDone,
    ProvideDone,
    ProviderFound,
    ProvideWaiting,
    Waiting,
)
from relay.protocols.dht.keys import Key, parse_key, to_key
from relay.protocols.dht.messages import PROTOCOL, Status
from relay.protocols.dht.options import DhtOptions
from relay.protocols.dht.providers import Providers
from relay.protocols.dht.record import ProviderRecord, RecordCache
from relay.protocols.dht.rendezvous import RendezvousKeys, rendezvous_key, rendezvous_keys
from relay.protocols.dht.store import Store

__all__ = [
    "PROTOCOL",
    "DhtEvent",
    "DhtOptions",
    "Ended",
    "FindDone",
    "Key",
    "ProvideDone",
    "ProvideWaiting",
    "ProviderFound",
    "ProviderRecord",
    "Providers",
    "RecordCache",
    "RendezvousKeys",
    "Status",
    "Store",
    "Waiting",
    "parse_key",
    "rendezvous_key",
    "rendezvous_keys",
    "to_key",
]
