"""All devices draft the same length, then all drafts are verified in one batch."""

from shared.planning.policies.closing import close_when_all_are_ready
from shared.planning.policies.unplanned import Unplanned
from shared.planning.policy import Plan, Selection
from shared.planning.session_index import SessionIndex
from shared.planning.views import SessionView, VerifierView


class FixedK(Unplanned):
    """`fixed-k`: devices and verifier take turns; neither works while the other does."""

    name = "fixed-k"
    lanes = 1

    def __init__(self, k: int) -> None:
        self.k = k

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """One batch of all sessions, once all are ready."""
        return close_when_all_are_ready(sessions, verifier.max_rows)

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """The fixed draft length."""
        return self.k


def make(k: int, batches: int) -> FixedK:
    """Make the policy, for the registry."""
    return FixedK(k)
