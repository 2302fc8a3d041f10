"""All draft the same length, then all are verified in one batch."""

from shared.planning.cohort import Cohort
from shared.planning.policies.unplanned import Unplanned
from shared.planning.policy import Plan, Selection
from shared.planning.views import SessionView, VerifierView


def close_when_all_are_ready(cohort: Cohort, max_rows: int) -> Selection:
    """One batch of everybody, once nobody drafts or is being verified; who did not fit goes at once after it.

    A late draft does not hold the batch up for ever: the scheduler's timer makes its session ready without one.
    """
    waiting = cohort.passed_over()
    if not waiting and not cohort.busy(0):
        waiting = cohort.ready(0)
    return Selection(tuple(view.session for view in waiting[:max_rows]))


class FixedK(Unplanned):
    """`fixed-k`: device and verifier take turns; neither works while the other does."""

    name = "fixed-k"
    lanes = 1

    def __init__(self, k: int) -> None:
        self.k = k

    def select(self, cohort: Cohort, verifier: VerifierView, plan: Plan | None, now: float) -> Selection:
        """See Policy.select."""
        return close_when_all_are_ready(cohort, verifier.max_rows)

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """See Policy.next_length."""
        return self.k
