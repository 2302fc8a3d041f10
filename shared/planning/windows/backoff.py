"""`backoff`: the whole draft accepted or hardly any of it: longest or shortest draft next.

The adaptive baseline of the DSD paper: a share of accepted tokens of at most SHRINK sets the minimum, one of at least
GROW the maximum.
"""

from typing import Final

from shared.planning.views import SessionView
from shared.planning.windows.window import MAX_K, Decision, Load, RoundOutcome

SHRINK: Final = 0.3
GROW: Final = 0.6
SHORTEST: Final = 1


class Backoff:
    """A draft length for each session, which jumps between the bounds."""

    name = "backoff"

    def __init__(self, k: int) -> None:
        self._first = k
        self._lengths: dict[str, int] = {}

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Move to a bound, or stay."""
        if not outcome.drafted:
            return
        share = outcome.accepted / outcome.drafted
        if share <= SHRINK:
            self._lengths[session] = SHORTEST
        elif share >= GROW:
            self._lengths[session] = MAX_K

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The session's present length."""
        return Decision.draft(self._lengths.get(session.session, self._first))

    def forget(self, session: str) -> None:
        """Free the session's state."""
        self._lengths.pop(session, None)


def make(k: int) -> Backoff:
    """Make the controller, for the registry."""
    return Backoff(k)
