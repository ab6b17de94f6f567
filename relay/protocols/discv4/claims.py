"""What others say of nodes, and whether it can be believed. Each function raises for what can't."""

from __future__ import annotations

from relay.primitives.endpoint import Endpoint
from relay.primitives.enr import NodeRecord
from relay.primitives.errors import DecodeError
from relay.protocols.discv4.contact import Contact
from relay.protocols.discv4.packets import Neighbor
from relay.protocols.discv5.networks import UdpNetwork

__all__ = ["claimed_neighbor", "claimed_record"]


def claimed_neighbor(neighbor: Neighbor, teller: Endpoint, network: UdpNetwork) -> Contact:
    """Return the node that another tells of; that it exists is still to be proved.

    Raises:
        DecodeError: no IP, port or key, or an address that the teller can't vouch for: of a LAN, reserved...
    """
    contact = Contact.from_neighbor(neighbor)
    if not network.may_hear(contact.endpoint, teller):
        raise DecodeError(f"neighbour at {contact.endpoint}, which {teller} can't know")
    return contact


def claimed_record(raw: bytes, contact: Contact, network: UdpNetwork) -> NodeRecord:
    """Return the record that a node gives of itself.

    Raises:
        DecodeError: no record, another node's, or with an address that can't be the node's.
    """
    record = NodeRecord.from_rlp(raw)
    if record.public_key != contact.public_key:
        raise DecodeError("record of another node")
    stated = network.address_of(record)
    if stated is not None and not network.may_hear(stated, contact.endpoint):
        raise DecodeError(f"record with the address {stated}, from {contact.endpoint}")
    return record
