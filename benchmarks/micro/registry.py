"""A case is one function with a decorator: it prepares, and returns what is to be timed."""

from collections.abc import Callable
from dataclasses import dataclass

Call = Callable[[], object]
Prepare = Callable[[], Call]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time.

    Attributes:
        group: what it belongs to in the table.
        name: what is timed.
        prepare: builds its inputs and returns the call.
        items: how many things one call handles (frames, transactions): gives the time and rate of each.
        size: bytes that one call handles, where MB/s says something.
    """

    group: str
    name: str
    prepare: Prepare
    items: int = 1
    size: int | None = None


CASES: list[Case] = []


def case(group: str, name: str, *, items: int = 1, size: int | None = None) -> Callable[[Prepare], Prepare]:
    """Register the decorated function as a case.

    It is called once, untimed; the function that it returns is then called many times. A case whose work
    must start anew each time brings what it needs into that call.

        @case("frames", "encode 1 KiB", size=1024)
        def _() -> Call:
            codec, payload = make_codec(), bytes(1024)
            return lambda: codec.encode(payload)
    """

    def register(prepare: Prepare) -> Prepare:
        CASES.append(Case(group, name, prepare, items, size))
        return prepare

    return register
