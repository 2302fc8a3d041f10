"""`ema`: one step up or down as the averaged accepted length passes the draft length, with hysteresis.

Drafts that are accepted nearly whole are too short, drafts that are mostly rejected too long. A step needs the average
to pass the length by a margin on either side, so that the length does not flutter. Where not even one token is
accepted on average, drafting stops, and one round in PROBE_EVERY drafts a token to see whether that has changed.
"""

from dataclasses import dataclass
from typing import Final

from shared.planning.views import SessionView
from shared.planning.windows.window import MAX_K, Decision, Load, RoundOutcome

WEIGHT: Final = 0.1  # of the newest round
GROW_MARGIN: Final = 0.5  # accepted tokens below k at which a draft is nearly whole
SHRINK_SHARE: Final = 0.5  # of k; a lower average accepted length shortens the draft
OFF: Final = 0.15  # average accepted tokens of drafts of one token below which drafting stops
PROBE_EVERY: Final = 16
SETTLE: Final = 3  # rounds between two steps, so that the average reflects the new length


@dataclass(slots=True)
class _Length:
    k: int
    accepted: float  # averaged over rounds
    since_step: int = 0
    without: int = 0  # rounds without a draft


class Ema:
    """A draft length for each session, which moves one step at a time."""

    name = "ema"

    def __init__(self, k: int) -> None:
        self._first = k
        self._sessions: dict[str, _Length] = {}

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Average the accepted length and move a step where it has passed the margin."""
        at = self._sessions.setdefault(session, _Length(self._first, self._first * 0.7))
        if not outcome.drafted:
            at.without += 1
            return
        at.without = 0
        at.accepted += WEIGHT * (outcome.accepted - at.accepted)
        at.since_step += 1
        if at.since_step < SETTLE:
            return
        if at.k == 0 and at.accepted > OFF:  # a probe was accepted
            self._step(at, 1)
        elif at.accepted > at.k - GROW_MARGIN and at.k < MAX_K:
            self._step(at, at.k + 1)
        elif at.k == 1 and at.accepted < OFF:
            self._step(at, 0)
        elif at.k > 1 and at.accepted < SHRINK_SHARE * at.k:
            self._step(at, at.k - 1)

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The session's present length; a probe of one token now and then while it does not draft."""
        at = self._sessions.get(session.session)
        if at is None:
            return Decision.draft(self._first)
        return Decision.draft(at.k or int(at.without >= PROBE_EVERY))

    def forget(self, session: str) -> None:
        """Free the session's state."""
        self._sessions.pop(session, None)

    def _step(self, at: _Length, k: int) -> None:
        at.k, at.since_step = k, 0


def make(k: int) -> Ema:
    """Make the controller, for the registry."""
    return Ema(k)
