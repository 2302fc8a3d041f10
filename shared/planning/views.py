"""What a policy sees: one session, one verifier. `now` and `since` are seconds on the caller's loop clock."""

from dataclasses import dataclass
from typing import Final, Literal

# prefill: its next chunk waits to be staged; prefilling: that chunk is at the verifier.
# drafting: its device has the move; ready: its row may be staged; verifying: staged, no verdict yet.
# blocked: the verifier had no pages for it; it becomes ready again by itself.
Phase = Literal["prefill", "prefilling", "drafting", "ready", "verifying", "blocked"]

LATE_S: Final = 0.02  # a draft may be this much later than usual, however even its link


@dataclass(frozen=True, slots=True)
class SessionView:
    """One session as a policy sees it.

    `since` is when its phase began; `drafted` the tokens in hand when ready. can_draft: a live device that
    has caught up. `joined` orders sessions by arrival.
    """

    session: str
    joined: int
    phase: Phase
    since: float
    length: int
    remaining: int  # tokens it may still emit
    drafted: int
    can_draft: bool
    device: str
    alpha: float  # estimate
    draft_s_per_token: float  # estimate, of its device
    link_s: float  # estimate, verdict to device and draft back
    spread_s: float = 0.0  # estimate, the part of link_s that varies
    seen: float = 1e9  # observations of its own that alpha rests on
    expected_alpha: float = 0.7  # what alpha was before
    prior_weight: float = 16.0  # observations that this counts
    requested: int = 0  # tokens its device was told to draft, when drafting

    @property
    def due(self) -> float:
        """When drafting: by then its draft is there, or it is late."""
        usual_s = self.requested * self.draft_s_per_token + self.link_s
        return self.since + usual_s + 2 * self.spread_s + LATE_S


@dataclass(frozen=True, slots=True)
class VerifierView:
    """A verifier as a policy sees it: staged batches without a verdict yet, and the rows in them."""

    name: str
    in_flight: int
    rows_in_flight: int
    expected_free: float
    max_rows: int  # in one batch
