"""`outrider`: our policy. DiP-SD's model without its fixed cycle: a free verifier takes the users that are ready.

The plan (`shared/planning/strategies/best_strategy.py`) gives every user's draft length (k = 0 where drafting does not
pay), the lanes, and how many members of a lane must be ready before it closes. A lane also closes when every draft
that it waits for is late: it has taken clearly longer than its length, the link and the link's usual spread explain.
A batch closes as late as possible, just before the verifier is free, so that it includes every draft that has arrived.
It closes when the verifier is free if some users of the batch in flight will not draft.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from shared.planning.objective import Objective, ObjectiveName
from shared.planning.policy import Plan, Selection, median_length
from shared.planning.problem import LengthBounds, Problem, Server
from shared.planning.session_index import SessionIndex
from shared.planning.solvers.solve import Infeasible, solve
from shared.planning.strategies.best_strategy import ServingQuery, best_strategy, strategies_of_batches
from shared.planning.strategies.probing import probe, probe_lengths
from shared.planning.strategies.simulation import Strategies
from shared.planning.strategies.user_arrays import UserArrays, users_of
from shared.planning.views import SessionView, VerifierView

MAX_DRAFT: Final = 20  # L_max of the DiP-SD paper
CHANGED: Final = (
    0.25  # share of sessions that joined or left, up to which planning starts from the plan in force
)
UNPLANNED_K: Final = 2  # while there is no plan
TICK_S: Final = 1e-6  # a timer may fire this much early
LEAD_S: Final = 0.003  # from the closing of a batch to its pass: the message to the verifier


class Outrider:
    """Serves by strategies without a fixed cycle.

    objective: `outrider` maximises throughput, `outrider-fair` proportional fairness.
    """

    k = 0
    lanes = 1
    plans = True
    trees = True

    def __init__(self, objective: ObjectiveName = "throughput") -> None:
        self._objective = objective
        self.name = "outrider" if objective == "throughput" else f"outrider-{objective}"

    def plan(
        self, sessions: Sequence[SessionView], server: Server, max_rows: int, last: Plan | None
    ) -> Plan | None:
        """The best serving strategy for these sessions; a small change of the set starts from the plan in force."""
        if not sessions:
            return None
        query = ServingQuery(UserArrays.of(sessions, MAX_DRAFT), server, self._objective, max_rows, MAX_DRAFT)
        is_warm = last is not None and len(
            last.lengths.keys() ^ {view.session for view in sessions}
        ) <= CHANGED * len(sessions)
        current = current_strategy(sessions, query, last)
        candidate = (
            best_strategy(query, [], iterations=1, current=current)
            if is_warm
            else best_strategy(query, self._cycle(sessions, query), current=current)
        )
        ids, lane = [view.session for view in sessions], candidate.strategy.lane[0]
        probes = zip(ids, probe_lengths(query, candidate).tolist(), strict=True)
        used = np.unique(lane).tolist()
        batches = [tuple(ids[m] for m in np.flatnonzero(lane == n)) for n in used]
        return Plan(
            batches=tuple(batches),
            lengths=dict(zip(ids, candidate.strategy.lengths[0].tolist(), strict=True)),
            newcomer_length=median_length(candidate.strategy.lengths[0].tolist()),
            min_ready=tuple(candidate.strategy.min_ready[0, used].tolist()),
            max_rows=int(candidate.strategy.max_rows[0]),
            cycle_ms=float(len(ids) / candidate.rounds.sum()),
            tokens_per_s=1e3 * float(candidate.rates.sum()),
            busy=candidate.busy,
            probes={session: k for session, k in probes if k},
        )

    def _cycle(self, sessions: Sequence[SessionView], query: ServingQuery) -> list[Strategies]:
        """Strategies with the lanes and lengths of a DiP-SD plan; none where there is no such plan."""
        problem = Problem(tuple(users_of(sessions)), query.server, LengthBounds(MAX_DRAFT, min_draft=0))
        try:
            candidate, _ = solve(problem, Objective(self._objective), "outrider")
        except Infeasible:
            return []
        lengths = np.minimum(np.array(candidate.split.lengths), query.user_arrays.max_lengths)
        strategies = strategies_of_batches(lengths, candidate.split.batches, query.max_rows)
        return [strategies] if strategies else []

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """The lane that has been complete for longest, and every ready session without a draft."""
        if verifier.in_flight > 1:
            return Selection()
        if verifier.in_flight and (wait := self._waits_for_flight(sessions, verifier, plan, now)):
            return wait
        lanes = [lane for lane in range(sessions.lanes) if sessions.ready_count(lane)]
        complete = [lane for lane in lanes if _is_complete(sessions, lane, plan, now)]
        if not complete:
            return Selection(wait_until=_next_due(sessions, lanes, now))
        first = {lane: sessions.ready(lane)[0] for lane in complete}
        lane = min(complete, key=lambda lane: (first[lane].since, lane))
        rows = dict.fromkeys(view.session for view in sessions.passed_over())
        rows |= dict.fromkeys(view.session for view in sessions.ready(lane))
        others = (view for other in lanes if other != lane for view in sessions.ready(other))
        rows |= dict.fromkeys(view.session for view in others if view.drafted == 0)
        max_rows = min(plan.max_rows, verifier.max_rows) if plan else verifier.max_rows
        return Selection(tuple(rows)[:max_rows], lane=lane)

    def _waits_for_flight(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection | None:
        """How long to wait while a batch is in flight; None when it is time to close.

        Wait until just before the end of the batch; or to its end, if some of its sessions will not draft and are
        ready then. Without that wait they would never share a pass with the others again, and each pass would be half
        as full.
        """
        at = verifier.expected_free - LEAD_S
        if now + TICK_S < at:
            return Selection(wait_until=at)
        stays = any(
            view.phase == "verifying" and not (view.can_draft and self.next_length(view, plan, now))
            for view in sessions
        )
        return Selection() if stays else None

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """The planned draft length, or that of a probe; UNPLANNED_K without a plan."""
        k = plan.length(session.session) if plan else UNPLANNED_K
        return k or probe(session, plan)


def make(k: int, batches: int) -> Outrider:
    """Make the policy, for the registry."""
    return Outrider()


def make_fair(k: int, batches: int) -> Outrider:
    """Make `outrider-fair`, for the registry."""
    return Outrider("fair")


def current_strategy(
    sessions: Sequence[SessionView], query: ServingQuery, last: Plan | None
) -> Strategies | None:
    """The last plan as a strategy for the present sessions; None without one.

    Newcomers join the smallest lane and take the plan's length for newcomers.
    """
    if last is None or not last.lengths:
        return None
    lane_of = {session: lane for lane, batch in enumerate(last.batches) for session in batch}
    smallest = min(range(len(last.batches)), key=lambda lane: len(last.batches[lane]))
    lane = np.array([lane_of.get(view.session, smallest) for view in sessions])
    lengths = np.array([last.length(view.session) for view in sessions])
    sizes = np.bincount(lane, minlength=len(last.min_ready))
    min_ready = np.minimum(np.array(last.min_ready), sizes)
    min_ready[(min_ready == 0) & (sizes > 0)] = 1
    max_rows = np.array([min(last.max_rows, query.max_rows)])
    return Strategies(
        np.minimum(lengths, query.user_arrays.max_lengths)[None], lane[None], min_ready[None], max_rows
    )


def _is_complete(sessions: SessionIndex, lane: int, plan: Plan | None, now: float) -> bool:
    """Whether enough members of a lane are ready, or all missing drafts are late."""
    ready = sessions.ready_count(lane)
    min_ready = plan.min_ready[lane] if plan and lane < len(plan.min_ready) else sessions.members(lane)
    if ready >= min_ready:
        return True
    away = [view for view in sessions.drafting(lane) if plan is None or _drafts(view, plan)]
    probed = len(sessions.drafting(lane)) - len(away)
    coming = sessions.verifying(lane) + sum(view.due > now + TICK_S for view in away)
    return ready >= min(min_ready - probed, ready + coming)


def _drafts(view: SessionView, plan: Plan) -> bool:
    """Whether the session drafts by plan. No batch waits for a probe."""
    return plan.length(view.session) > 0


def _next_due(sessions: SessionIndex, lanes: Sequence[int], now: float) -> float | None:
    """When the next of the awaited drafts will be late; None if there is none."""
    return min(
        (v.due for lane in lanes for v in sessions.drafting(lane) if v.due > now + TICK_S), default=None
    )
