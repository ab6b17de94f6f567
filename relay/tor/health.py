"""How an onion service is doing: uploads of its descriptor, and circuits to its introduction points.

Spec: control-spec, "HS_DESC", "CIRC", "CIRC_MINOR".
"""

from __future__ import annotations

from typing import Final

from relay.tor.control import TorControl
from relay.tor.control_protocol import Reply, parse_keywords
from relay.tor.status import StatusBoard

DESCRIPTOR_LIFETIME: Final = 3 * 3600.0  # seconds that directories keep one; rend-spec-v3, section 2.5.1.1
MAX_CIRCUITS: Final = 1_000  # far above what 20 introduction points need
_ENDED: Final = frozenset({"CLOSED", "FAILED"})


class IntroductionWatch:
    """Counts a service's established circuits to introduction points, by Tor's events.

    Circuits from before the connection are not asked for: of a Tor that is flooded the list is longer than a
    reply may be. They live for a day at most, and a service of ours makes its own after that.
    """

    def __init__(self, service_id: str, board: StatusBoard) -> None:
        self._service_id, self._board = service_id, board
        self._established: set[str] = set()

    def listen(self, control: TorControl) -> None:
        """Take the events of a connection, before `set_events`; what was known before is forgotten."""
        self._established.clear()
        self._board.update(introductions=0)
        for event in ("CIRC", "CIRC_MINOR"):
            control.listen(event, self._take_event)

    def _take_event(self, reply: Reply) -> None:
        self._take(reply.text.partition(" ")[2])

    def _take(self, text: str) -> None:
        """``<id> <status> [<path>] PURPOSE=HS_SERVICE_INTRO HS_STATE=HSSI_ESTABLISHED REND_QUERY=<ours>``."""
        words = text.split(" ", 2)
        if len(words) < 2 or not (words[0] in self._established or "HS_SERVICE_INTRO" in text):
            return  # all circuits of a busy Tor come by here
        fields = parse_keywords(text)
        is_ours = fields.get("REND_QUERY", "") == self._service_id
        if (
            words[1] not in _ENDED
            and is_ours
            and fields.get("PURPOSE") == "HS_SERVICE_INTRO"
            and fields.get("HS_STATE") == "HSSI_ESTABLISHED"
            and len(self._established) < MAX_CIRCUITS
        ):
            self._established.add(words[0])
        else:
            self._established.discard(words[0])
        self._board.update(introductions=len(self._established))
