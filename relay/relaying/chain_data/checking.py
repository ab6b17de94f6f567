"""Whether answers are right: headers link, bodies and the rest are what their headers commit to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from relay.chain.access_lists import check_access_list
from relay.chain.bodies import check_body
from relay.chain.headers import ContradictsHeader, Header, linked_hashes
from relay.chain.receipts import checking_receipts
from relay.primitives.errors import DecodeError
from relay.primitives.hashing import keccak256
from relay.relaying.chain_data.canonical import parent_of
from relay.relaying.chain_data.demand import HeaderQuery, Kind

if TYPE_CHECKING:
    from relay.relaying.chain_data.canonical import Canonical
    from relay.relaying.chain_data.options import ProxyOptions

__all__ = ["CHECKS", "Lie", "Run", "check_run", "checking_item"]

CHECKS: Final[Mapping[Kind, Callable[[Header, bytes], None]]] = MappingProxyType(
    {Kind.BODIES: check_body, Kind.ACCESS_LISTS: check_access_list}
)
"""How an item that takes little is held against its header: raises DecodeError."""


class Lie(DecodeError):
    """An answer that no honest peer gives."""


@dataclass(frozen=True, slots=True)
class Run:
    """Headers that came as one answer, consistent in themselves.

    Attributes:
        headers: RLP.
        hashes: theirs.
        first: number of the first.
        step: from one number to the next.
        proven: whether they can't be others: they are those of the hash asked for, or link to the head.
        disputed: a number at which a block is known that they contradict.
    """

    headers: tuple[bytes, ...]
    hashes: tuple[bytes, ...]
    first: int
    step: int
    proven: bool
    disputed: int | None

    @property
    def last(self) -> int:
        """Number of the last."""
        return self.first + (len(self.headers) - 1) * self.step


def check_run(
    query: HeaderQuery, headers: Sequence[bytes], canonical: Canonical, options: ProxyOptions
) -> Run:
    """Check an answer that is not empty.

    Raises:
        Lie: it contradicts the question or itself.
    """
    if len(headers) > query.amount:
        raise Lie(f"{len(headers)} headers, of {query.amount} asked for")
    try:
        first = Header.decode(headers[0])
        hashes = _hashes(query, headers)
    except DecodeError as error:
        raise Lie(str(error)) from None
    if (first.hash if isinstance(query.origin, bytes) else first.number) != query.origin:
        raise Lie("the first header is not the one asked for")
    if first.number + (len(headers) - 1) * query.step < 0:
        raise Lie("headers go on below genesis")
    verdict = (
        _judge_linked(query, headers, hashes, first.number, canonical, options.ahead)
        if query.skip == 0
        else _judge_spread(query, hashes, first.number, canonical)
    )
    if not verdict.authentic:
        _decode_rest(query, headers, first.number)
    return Run(tuple(headers), tuple(hashes), first.number, query.step, verdict.proven, verdict.disputed)


class _Verdict(NamedTuple):
    """What follows from hashes that are known.

    Attributes:
        proven, disputed: as in Run.
        authentic: whether each header has a hash that a good one names: so none need be looked into.
    """

    proven: bool
    disputed: int | None = None
    authentic: bool = False


def _hashes(query: HeaderQuery, headers: Sequence[bytes]) -> list[bytes]:
    if query.skip == 0:
        return linked_hashes(headers, reverse=query.reverse)
    return [keccak256(raw) for raw in headers]


def _decode_rest(query: HeaderQuery, headers: Sequence[bytes], first: int) -> None:
    try:
        for number, raw in enumerate(headers[1:], 1):
            if Header.decode(raw).number != first + number * query.step:
                raise Lie("headers with other numbers than asked for")
    except DecodeError as error:
        raise Lie(str(error)) from None


def _judge_linked(
    query: HeaderQuery,
    headers: Sequence[bytes],
    hashes: list[bytes],
    first: int,
    canonical: Canonical,
    ahead: int,
) -> _Verdict:
    """Judge headers of which each names the next as its parent, or the other way round: one hash says all."""
    by_hash = isinstance(query.origin, bytes)
    last = first + (len(hashes) - 1) * query.step
    low, top = min(first, last), max(first, last)
    from_top = by_hash and query.reverse
    if canonical.head and low == canonical.head + 1 and top - canonical.head <= ahead:
        lowest = headers[-1] if query.reverse else headers[0]
        return _Verdict(by_hash or parent_of(lowest) == canonical.head_hash, None, from_top)
    known = min(top, canonical.head)
    expected = canonical.linked(known) if known >= low else None
    if expected is None:
        return _Verdict(by_hash, None, from_top)
    if hashes[abs(known - first)] != expected:
        return _Verdict(by_hash, known, from_top)
    reaches = known == top or (known == canonical.head > 0 and top - known <= ahead)
    return _Verdict(by_hash or reaches, None, from_top or known == top)


def _judge_spread(query: HeaderQuery, hashes: list[bytes], first: int, canonical: Canonical) -> _Verdict:
    """Judge headers with gaps between: each has to be known by itself."""
    proven = True
    for number, block_hash in enumerate(hashes):
        known = canonical.linked(first + number * query.step)
        if known is None:
            proven = proven and number == 0 and isinstance(query.origin, bytes)
        elif known != block_hash:
            return _Verdict(proven=False, disputed=first + number * query.step)
    return _Verdict(proven)


def checking_item(kind: Kind, header: Header, raw: bytes) -> Generator[None, None, bool]:
    """Tell whether an item is the header's, a step at a time where it may take long."""
    try:
        if kind is Kind.RECEIPTS:
            yield from checking_receipts(header, raw)
        else:
            CHECKS[kind](header, raw)
    except ContradictsHeader:
        return False
    return True
