"""Closing rules: when a batch of a policy with fixed batches is verified."""

from shared.planning.policy import Selection
from shared.planning.session_index import SessionIndex


def close_when_all_are_ready(sessions: SessionIndex, max_rows: int) -> Selection:
    """One batch of all sessions, once none drafts or is being verified. Rows beyond max_rows follow in the next batch.

    A lost draft does not block the batch: the scheduler's timer makes its session ready without one.
    """
    waiting = sessions.passed_over()
    if not waiting and not sessions.busy(0):
        waiting = sessions.ready(0)
    return Selection(tuple(view.session for view in waiting[:max_rows]))


def close_in_turn(sessions: SessionIndex, max_rows: int) -> Selection:
    """The lane whose turn it is, once all its members are ready, and ready sessions of other lanes without a draft."""
    lanes = range(sessions.lanes)
    inhabited = [lane for lane in lanes if sessions.ready_count(lane) or sessions.busy(lane)]
    if not inhabited:
        return Selection()
    turn = min(inhabited, key=lambda lane: (sessions.closed_at(lane), lane))
    if sessions.busy(turn):
        return Selection()
    # First the sessions that were passed over, then the lane itself, then k = 0 sessions of other lanes.
    rows = dict.fromkeys(view.session for view in sessions.passed_over())
    rows |= dict.fromkeys(view.session for view in sessions.ready(turn))
    others = (view for lane in lanes if lane != turn for view in sessions.ready(lane))
    rows |= dict.fromkeys(view.session for view in others if view.drafted == 0)
    return Selection(tuple(rows)[:max_rows], lane=turn)
