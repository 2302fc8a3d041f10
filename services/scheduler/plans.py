"""Decides when to replan and applies a new plan. Pure; planner.py runs the planning itself on a thread."""

from dataclasses import dataclass
from typing import Final

from services.scheduler.state import State
from services.scheduler.verifiers import VerifierState
from shared.planning.drift import PlanInputs
from shared.planning.policy import Plan, Policy
from shared.planning.problem import PackedServer
from shared.planning.views import SessionView

DRIFT_S: Final = 2.0  # minimum time between plans for the same sessions
MAX_REPLAN_S: Final = 15.0
# Minimum time between plans, as a multiple of planning time, since planning uses CPU too.
REPLAN_FACTOR: Final = 20.0


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A request to plan for one verifier's sessions with the policy in force."""

    verifier: str
    policy: Policy
    views: tuple[SessionView, ...]
    server: PackedServer
    max_rows: int
    last: Plan | None
    planned: PlanInputs

    def solve(self) -> Plan | None:
        """Compute the plan; None = the policy has none. May be slow and raises whatever the policy raises."""
        return self.policy.plan(self.views, self.server, self.max_rows, self.last)


def requests(state: State, now: float) -> list[PlanRequest]:
    """Plan requests for all verifiers whose plan is out of date."""
    if not state.policy.plans:
        return []
    found = [_request(state, verifier, now) for verifier in state.verifiers.values() if verifier.live]
    return [request for request in found if request is not None]


def _request(state: State, verifier: VerifierState, now: float) -> PlanRequest | None:
    views = tuple(sorted(verifier.cohort, key=lambda view: view.joined))
    before = verifier.planned
    same = before is not None and before.same_sessions(views)
    waits = verifier.debounce.should_wait(views, same, now)
    age = now - verifier.planned_at
    if waits or not views or age < min(REPLAN_FACTOR * verifier.plan_took_s, MAX_REPLAN_S):
        return None
    if same and age < DRIFT_S:
        return None
    server = verifier.server()
    planned = PlanInputs.of(views, server)
    if same and before is not None and not before.drifted(planned):
        return None
    return PlanRequest(
        verifier.name, state.policy, views, server, state.config.max_rows, verifier.plan, planned
    )


def accept(state: State, request: PlanRequest, plan: Plan | None, now: float) -> None:
    """Apply a computed plan (None: no plan is possible). It takes effect at each session's next round."""
    verifier = state.verifiers.get(request.verifier)
    if verifier is None or request.policy is not state.policy:
        state.metrics.plans.labels("outdated").inc()
        return
    verifier.plan_took_s = now - verifier.planned_at
    state.metrics.plans.labels("made" if plan else "none").inc()
    if plan is None:
        return
    if verifier.plan is None or plan.batches != verifier.plan.batches:
        verifier.cohort = verifier.cohort.assign_lanes(plan.batches)
    verifier.plan, verifier.plan_at = plan, now
    state.dirty.add(verifier.name)


def mark_requested(state: State, request: PlanRequest, now: float) -> None:
    """Record that planning has begun, so that the same sessions are not planned again whatever the outcome."""
    verifier = state.verifiers.get(request.verifier)
    if verifier is not None:
        verifier.planned, verifier.planned_at = request.planned, now
        verifier.debounce.plan_stale_since = None


def update_metrics(state: State, now: float) -> None:
    """Update the metrics: plan age, predicted throughput and realised throughput."""
    metrics = state.metrics
    if state.estimates.alpha.seen:
        metrics.alpha.set(state.estimates.alpha.value)
    for verifier in state.verifiers.values():
        verifier.throughput.fade(now)
        throughput, name = verifier.throughput, verifier.name
        metrics.rate.labels(name, "realised").set(throughput.tokens.per_s)
        metrics.cycle.labels(name, "realised").set(throughput.cycle_ms(len(verifier.cohort)))
        plan = verifier.plan
        metrics.plan_age.labels(name).set(now - verifier.plan_at if plan else 0.0)
        metrics.plan_busy.labels(name).set(plan.busy if plan else 0.0)
        metrics.plan_lanes.labels(name).set(len(plan.batches) if plan else 0)
        metrics.rate.labels(name, "predicted").set(plan.tokens_per_s if plan else 0.0)
        metrics.cycle.labels(name, "predicted").set(plan.cycle_ms if plan else 0.0)
