"""N batches in a fixed cycle: one drafts while another is verified (the order of DiP-SD, lengths all equal)."""

from shared.planning.cohort import Cohort
from shared.planning.policies.unplanned import Unplanned
from shared.planning.policy import Plan, Selection
from shared.planning.views import SessionView, VerifierView


def close_in_turn(cohort: Cohort, max_rows: int) -> Selection:
    """The lane whose turn it is, once all its members are ready, and who rides along."""
    lanes = range(cohort.lanes)
    inhabited = [lane for lane in lanes if cohort.ready_count(lane) or cohort.busy(lane)]
    if not inhabited:
        return Selection()
    turn = min(inhabited, key=lambda lane: (cohort.closed_at(lane), lane))
    if cohort.busy(turn):
        return Selection()
    # Who was passed over goes first, then the lane itself, then k = 0 users of other lanes.
    rows = dict.fromkeys(view.session for view in cohort.passed_over())
    rows |= dict.fromkeys(view.session for view in cohort.ready(turn))
    others = (view for lane in lanes if lane != turn for view in cohort.ready(lane))
    rows |= dict.fromkeys(view.session for view in others if view.drafted == 0)
    return Selection(tuple(rows)[:max_rows], lane=turn)


class CyclicK(Unplanned):
    """`cyclic-k`: a batch closes when it is its turn and all its members are ready.

    Its turn: of the lanes with somebody to verify, the one whose last batch closed longest ago. It may close
    while another is being verified, so that the verifier never waits for a hop.
    """

    name = "cyclic-k"

    def __init__(self, k: int, batches: int) -> None:
        self.k = k
        self.lanes = batches

    def select(self, cohort: Cohort, verifier: VerifierView, plan: Plan | None, now: float) -> Selection:
        """See Policy.select."""
        return close_in_turn(cohort, verifier.max_rows)

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """See Policy.next_length."""
        return self.k
