"""Rules by which policies without a plan of their own close a batch."""

from shared.planning.policy import Selection
from shared.planning.session_index import Cohort


def close_when_all_are_ready(cohort: Cohort, max_rows: int) -> Selection:
    """One batch of everybody, once nobody drafts or is being verified; who did not fit goes at once after it.

    A late draft does not hold the batch up for ever: the scheduler's timer makes its session ready without one.
    """
    waiting = cohort.passed_over()
    if not waiting and not cohort.busy(0):
        waiting = cohort.ready(0)
    return Selection(tuple(view.session for view in waiting[:max_rows]))


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
