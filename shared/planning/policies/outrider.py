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
from shared.planning.policy import Plan, Selection, middle
from shared.planning.problem import Bounds, Problem, Server
from shared.planning.session_index import Cohort
from shared.planning.solvers.solve import Infeasible, solve
from shared.planning.strategies.best_strategy import ServingQuery, best_strategy, strategies_of_batches
from shared.planning.strategies.probing import probe, worth_trying
from shared.planning.strategies.simulation import Strategies
from shared.planning.strategies.user_arrays import UserArrays, users_of
from shared.planning.views import SessionView, VerifierView

MAX_DRAFT: Final = 20  # as DiP-SD
CHANGED: Final = 0.25  # share of sessions that came or went, up to which the plan in force is bettered
UNPLANNED_K: Final = 2  # while there is no plan
TICK_S: Final = 1e-6  # a timer may come this much early
LEAD_S: Final = 0.003  # from closing a batch to its pass: the hop to the verifier


class Outrider:
    """objective: what the plan is to be good at. `outrider` has the most tokens, `outrider-fair` minds the slow."""

    k = 0
    lanes = 1
    plans = True

    def __init__(self, objective: ObjectiveName = "throughput") -> None:
        self._objective = objective
        self.name = "outrider" if objective == "throughput" else f"outrider-{objective}"

    def plan(
        self, cohort: Sequence[SessionView], server: Server, max_rows: int, last: Plan | None
    ) -> Plan | None:
        """See Policy.plan."""
        if not cohort:
            return None
        asked = ServingQuery(UserArrays.of(cohort, MAX_DRAFT), server, self._objective, max_rows, MAX_DRAFT)
        warm = last is not None and len(
            last.lengths.keys() ^ {view.session for view in cohort}
        ) <= CHANGED * len(cohort)
        force = in_force(cohort, asked, last)
        found = (
            best_strategy(asked, [], looks=1, force=force)
            if warm
            else best_strategy(asked, self._cycle(cohort, asked), force=force)
        )
        ids, lane = [view.session for view in cohort], found.way.lane[0]
        probes = zip(ids, worth_trying(asked, found).tolist(), strict=True)
        used = np.unique(lane).tolist()
        batches = [tuple(ids[m] for m in np.flatnonzero(lane == n)) for n in used]
        return Plan(
            batches=tuple(batches),
            lengths=dict(zip(ids, found.way.lengths[0].tolist(), strict=True)),
            newcomer=middle(found.way.lengths[0].tolist()),
            least=tuple(found.way.least[0, used].tolist()),
            most=int(found.way.most[0]),
            cycle_ms=float(len(ids) / found.rounds.sum()),
            tokens_per_s=1e3 * float(found.rates.sum()),
            busy=found.busy,
            probes={session: k for session, k in probes if k},
        )

    def _cycle(self, cohort: Sequence[SessionView], asked: ServingQuery) -> list[Strategies]:
        """DiP-SD's plan, where it has one."""
        problem = Problem(tuple(users_of(cohort)), asked.server, Bounds(MAX_DRAFT, min_draft=0))
        try:
            found, _ = solve(problem, Objective(self._objective), "outrider")
        except Infeasible:
            return []
        lengths = np.minimum(np.array(found.split.lengths), asked.crew.most)
        ways = strategies_of_batches(lengths, found.split.batches, asked.max_rows)
        return [ways] if ways else []

    def select(self, cohort: Cohort, verifier: VerifierView, plan: Plan | None, now: float) -> Selection:
        """See Policy.select."""
        if verifier.in_flight > 1:
            return Selection()
        if verifier.in_flight and (wait := self._waits_for_flight(cohort, verifier, plan, now)):
            return wait
        lanes = [lane for lane in range(cohort.lanes) if cohort.ready_count(lane)]
        complete = [lane for lane in lanes if _is_complete(cohort, lane, plan, now)]
        if not complete:
            return Selection(wait_until=_next_due(cohort, lanes, now))
        first = {lane: cohort.ready(lane)[0] for lane in complete}
        lane = min(complete, key=lambda lane: (first[lane].since, lane))
        rows = dict.fromkeys(view.session for view in cohort.passed_over())
        rows |= dict.fromkeys(view.session for view in cohort.ready(lane))
        others = (view for other in lanes if other != lane for view in cohort.ready(other))
        rows |= dict.fromkeys(view.session for view in others if view.drafted == 0)
        most = min(plan.most, verifier.max_rows) if plan else verifier.max_rows
        return Selection(tuple(rows)[:most], lane=lane)

    def _waits_for_flight(
        self, cohort: Cohort, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection | None:
        """While a batch is being verified: until just before its end, or to its end if some of it will be ready then.

        Who does not draft would else never meet the others again, and every pass would be half as full.
        """
        at = verifier.expected_free - LEAD_S
        if now + TICK_S < at:
            return Selection(wait_until=at)
        stays = any(
            view.phase == "verifying" and not (view.can_draft and self.next_length(view, plan, now))
            for view in cohort
        )
        return Selection() if stays else None

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """See Policy.next_length."""
        k = plan.length(session.session) if plan else UNPLANNED_K
        return k or probe(session, plan)


def make(k: int, batches: int) -> Outrider:
    """For the registry."""
    return Outrider()


def make_fair(k: int, batches: int) -> Outrider:
    """For the registry: `outrider-fair`."""
    return Outrider("fair")


def in_force(cohort: Sequence[SessionView], asked: ServingQuery, last: Plan | None) -> Strategies | None:
    """The last plan for the sessions that there are now; newcomers draft like the middle one, in the smallest lane."""
    if last is None or not last.lengths:
        return None
    lane_of = {session: lane for lane, batch in enumerate(last.batches) for session in batch}
    smallest = min(range(len(last.batches)), key=lambda lane: len(last.batches[lane]))
    lane = np.array([lane_of.get(view.session, smallest) for view in cohort])
    lengths = np.array([last.length(view.session) for view in cohort])
    sizes = np.bincount(lane, minlength=len(last.least))
    least = np.minimum(np.array(last.least), sizes)
    least[(least == 0) & (sizes > 0)] = 1
    most = np.array([min(last.most, asked.max_rows)])
    return Strategies(np.minimum(lengths, asked.crew.most)[None], lane[None], least[None], most)


def _is_complete(cohort: Cohort, lane: int, plan: Plan | None, now: float) -> bool:
    """Whether enough of a lane are ready, or nobody who is missing is on time."""
    ready = cohort.ready_count(lane)
    least = plan.least[lane] if plan and lane < len(plan.least) else cohort.members(lane)
    if ready >= least:
        return True
    away = [view for view in cohort.drafting(lane) if plan is None or _drafts(view, plan)]
    probed = len(cohort.drafting(lane)) - len(away)
    coming = cohort.verifying(lane) + sum(view.due > now + TICK_S for view in away)
    return ready >= min(least - probed, ready + coming)


def _drafts(view: SessionView, plan: Plan) -> bool:
    """Whether the plan has it draft, and it is not just being probed: nobody waits for that."""
    return plan.length(view.session) > 0


def _next_due(cohort: Cohort, lanes: Sequence[int], now: float) -> float | None:
    """When the next of those waited for is late."""
    return min((v.due for lane in lanes for v in cohort.drafting(lane) if v.due > now + TICK_S), default=None)
