"""Views for policies: one session, one verifier. `now` and `since` are in seconds on the caller's loop clock."""

from dataclasses import dataclass
from typing import Final, Literal

from shared.planning.calibration import OWN_WORD

# prefill: the next chunk waits to be staged; prefilling: that chunk is at the verifier.
# drafting: the device drafts; ready: the row may be staged; verifying: staged, without a verdict yet.
# blocked: the verifier had no free pages; the session becomes ready again by itself.
Phase = Literal["prefill", "prefilling", "drafting", "ready", "verifying", "kept", "blocked"]

LATE_S: Final = 0.02  # a draft is late only after this much beyond the expected time, even on a steady link


@dataclass(slots=True)
class SessionView:
    """One session as a policy sees it. Nobody changes one; each change of a session makes another, and frozen ones
    would take four times as long to make.

    joined: order of arrival. since: when its phase began. length: its tokens so far. remaining: tokens that it may
    still emit. drafted: tokens of the draft in hand, when ready. can_draft: it has a live device that has caught up.
    requested: tokens that its device was told to draft, when drafting.

    Estimates: alpha; draft_s_per_token of the device; link_s from verdict to device and draft back; spread_s, the part
    of link_s that varies; seen, the session's own observations behind alpha; expected_alpha, the prior of alpha;
    prior_weight, the observations that this prior counts for; survival, what the device's survival bytes are worth
    (calibration.py).
    """

    session: str
    joined: int
    phase: Phase
    since: float
    length: int
    remaining: int
    drafted: int
    can_draft: bool
    device: str
    alpha: float
    draft_s_per_token: float
    link_s: float
    spread_s: float = 0.0
    seen: float = 1e9
    expected_alpha: float = 0.7
    prior_weight: float = 16.0
    requested: int = 0
    survival: tuple[float, ...] = OWN_WORD

    @property
    def due(self) -> float:
        """The time after which a draft in progress is late."""
        usual_s = self.requested * self.draft_s_per_token + self.link_s
        return self.since + usual_s + 2 * self.spread_s + LATE_S


@dataclass(frozen=True, slots=True)
class VerifierView:
    """A verifier as a policy sees it.

    in_flight: staged batches without a verdict yet. rows_in_flight: rows in those. expected_free: when the verifier
    will have finished them. max_rows: rows of one batch at most.
    """

    name: str
    in_flight: int
    rows_in_flight: int
    expected_free: float
    max_rows: int
