"""Questions and answers, by dnspython: a question for TXT, and what an answer says. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT

from relay.primitives.errors import DecodeError
from relay.primitives.i2p import is_i2p
from relay.primitives.onion import is_onion

__all__ = ["Answer", "Question", "make_question", "read_answer"]

UDP_PAYLOAD: Final = 1232  # bytes; DNS flag day 2020: passes every path without fragments
PADDING: Final = 128  # bytes; RFC 8467 4.1: lengths tell less of what is asked


@dataclass(frozen=True, slots=True)
class Question:
    """A question, ready to be sent.

    Attributes:
        message: as dnspython has it, to tell answers by.
        wire: its bytes.
    """

    message: dns.message.QueryMessage
    wire: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What a resolver says.

    Attributes:
        rcode: "NOERROR", "NXDOMAIN", "SERVFAIL"...
        truncated: the rest did not fit; ask over TCP.
        texts: TXT records, the strings of each joined.
    """

    rcode: str
    truncated: bool = False
    texts: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether another resolver would say the same: found, or certainly not there."""
        return self.rcode in ("NOERROR", "NXDOMAIN")


def make_question(name: str, query_id: int, *, padded: bool) -> Question:
    """Ask for the TXT records of a name.

    Args:
        name: without or with the root's dot.
        query_id: random, 16 bits.
        padded: for ways that are encrypted.

    Raises:
        DecodeError: DNS can't carry this name; or it is an onion address, which DNS must never see
            (RFC 7686).
    """
    if is_onion(name):
        raise DecodeError("an onion name is never looked up: only Tor can reach it")
    if is_i2p(name):
        raise DecodeError("an I2P name is never looked up: only an I2P router can reach it")
    try:
        message = dns.message.make_query(
            dns.name.from_text(name, origin=dns.name.root),
            dns.rdatatype.TXT,
            use_edns=0,
            payload=UDP_PAYLOAD,
            pad=PADDING if padded else 0,
            id=query_id,
        )
        return Question(message, message.to_wire())
    except (dns.exception.DNSException, UnicodeError) as error:
        raise DecodeError(f"{name[:64]!r} is no name for DNS: {_words(error)}") from None


def read_answer(question: Question, wire: bytes) -> Answer:
    """Take an answer apart.

    Raises:
        DecodeError: no DNS message, or not the answer to this question (id, name and type are compared).
    """
    try:
        message = dns.message.from_wire(wire)
        if not question.message.is_response(message):
            raise DecodeError("an answer to another question")
        truncated = bool(message.flags & dns.flags.TC)
        rcode = dns.rcode.to_text(message.rcode())
        return Answer(rcode, truncated, () if truncated else _texts(message))
    except dns.exception.DNSException as error:
        raise DecodeError(f"a bad DNS message: {_words(error)}") from None


def _texts(message: dns.message.Message) -> tuple[str, ...]:
    if not isinstance(message, dns.message.QueryMessage) or message.rcode() != dns.rcode.NOERROR:
        return ()
    found = message.resolve_chaining().answer  # follows CNAMEs, a bounded number
    if found is None:
        return ()
    # Bytes that are no text get marks in their place: such an entry fails by its hash.
    return tuple(
        b"".join(each.strings).decode("utf-8", "replace")
        for each in found
        if isinstance(each, dns.rdtypes.ANY.TXT.TXT)
    )


def _words(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:120]
