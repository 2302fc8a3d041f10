"""When plans are requested, what a plan changes, and planners that fail."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from services.scheduler.debounce import MAX_WAIT_S, QUIET_S
from services.scheduler.planner import PLAN_POLL_S, Planner
from services.scheduler.plans import DRIFT_S, MAX_REPLAN_S, REPLAN_FACTOR
from shared.compute.compute import InlineCompute
from shared.planning.policies.outrider import Outrider
from shared.planning.policy import Plan
from shared.planning.problem import Server
from shared.planning.views import SessionView
from simulator.virtual_loop import run_virtual
from tests.services.scheduler.desk import Desk, beat

T = TypeVar("T")
SETTLING = round(QUIET_S / PLAN_POLL_S) + 3  # looks


def desk(*names: str) -> Desk:
    made = Desk("outrider")
    come(made, *names)
    return made


def come(at: Desk, *names: str) -> None:
    """Sessions come, and nobody else for a while."""
    at.submit(*names)
    assert at.core.plan_requests(at.now) == []
    at.tick(after=QUIET_S)


def planned(at: Desk) -> Plan | None:
    """Have the one request answered as the shell would."""
    (request,) = at.core.plan_requests(at.now)
    at.core.mark_plan_requested(request, at.now)
    plan = request.solve()
    at.core.take_plan(request, plan, at.now)
    at.tick()
    return plan


def test_a_cohort_is_planned_once_and_again_when_somebody_comes_or_goes() -> None:
    at = desk("a", "b")
    plan = planned(at)
    assert plan is not None
    assert set(plan.lengths) == {"a", "b"}
    at.tick(after=DRIFT_S + 1)
    assert at.core.plan_requests(at.now) == []
    come(at, "c")
    assert set(planned(at).lengths) == {"a", "b", "c"}  # type: ignore[union-attr]


def test_it_waits_until_nobody_comes_or_goes_but_not_for_ever() -> None:
    at = desk("a")
    planned(at)
    step, waited = QUIET_S / 2, 0.0
    at.submit("b0")
    while not at.core.plan_requests(at.now):
        at.tick(after=step)
        waited += step
        at.submit(f"b{waited}")
        assert waited <= MAX_WAIT_S
    assert waited == pytest.approx(MAX_WAIT_S)


def test_planning_rests_for_many_times_as_long_as_it_took() -> None:
    """People who come and go all the time must not have the planner compute all the time."""
    at = desk("a")
    (request,) = at.core.plan_requests(at.now)
    requested_at, took_s = at.now, 0.3
    at.core.mark_plan_requested(request, requested_at)
    plan = request.solve()
    at.tick(after=took_s)
    at.core.take_plan(request, plan, at.now)
    come(at, "b")
    at.tick(after=REPLAN_FACTOR * took_s - took_s - QUIET_S - 0.1)
    assert at.core.plan_requests(at.now) == []
    at.tick(after=0.2)
    assert len(at.core.plan_requests(at.now)) == 1


def test_drift_is_planned_for_but_not_all_the_time() -> None:
    at = desk("a", "b")
    planned(at)
    at.core._state.estimates.device("d:1").draft_s.value = 0.5
    for session in ("a", "b"):
        at.core._state.update_view(at.session(session), at.now)
    at.tick(after=DRIFT_S / 2)
    assert at.core.plan_requests(at.now) == []
    at.tick(after=DRIFT_S)
    assert len(at.core.plan_requests(at.now)) == 1


def test_policies_that_do_not_plan_are_not_asked_and_a_change_outdates_what_is_under_way() -> None:
    at = Desk("fixed-k")
    at.submit("a")
    assert at.core.plan_requests(at.now) == []
    at = desk("a")
    (request,) = at.core.plan_requests(at.now)
    at.core.restore({"policy": "dip-sd", "k": "0"})
    at.core.take_plan(request, request.solve(), at.now)
    assert at.core._state.verifiers["v"].plan is None
    assert at.metrics.plans.labels("outdated")._value.get() == 1
    assert at.core._state.verifiers["v"].throughput.at is None  # what comes of this one is counted anew


def test_another_policy_does_not_rest_for_the_one_before_it() -> None:
    at = desk("a")
    (request,) = at.core.plan_requests(at.now)
    at.core.mark_plan_requested(request, at.now)
    at.tick(after=5.0)
    at.core.take_plan(request, request.solve(), at.now)
    at.core.restore({"policy": "dip-sd", "k": "0"})
    assert len(at.core.plan_requests(at.now)) == 1


def test_no_plan_however_slow_is_rested_from_for_ever() -> None:
    at = desk("a")
    (request,) = at.core.plan_requests(at.now)
    at.core.mark_plan_requested(request, at.now)
    at.tick(after=9.0)
    at.core.take_plan(request, request.solve(), at.now)
    come(at, "b")
    at.tick(after=MAX_REPLAN_S - 9.0 - QUIET_S - 0.5)
    assert at.core.plan_requests(at.now) == []
    at.tick(after=1.0)
    assert len(at.core.plan_requests(at.now)) == 1


def test_what_was_promised_and_what_came_of_it_is_shown() -> None:
    at = desk("a", "b")
    plan = planned(at)
    assert plan is not None
    at.tick(after=2.0)
    at.core.update_plan_metrics(at.now)
    assert at.metrics.rate.labels("v", "predicted")._value.get() == plan.tokens_per_s
    assert at.metrics.cycle.labels("v", "predicted")._value.get() == plan.cycle_ms
    assert at.metrics.plan_age.labels("v")._value.get() == pytest.approx(2.0)


def test_absurd_figures_of_a_device_are_counted_and_it_is_not_asked_for_a_while() -> None:
    at = Desk("fixed-k")
    at.start("s")
    for turn, draft_us in enumerate((1000, 10**12, 10**12)):
        at.take(at.draft("s", draft_us=draft_us))
        assert at.metrics.absurd.labels("draft")._value.get() == (0 if turn == 0 else 1)
        row = at.row("s")
        at.take(at.verdict(row, emitted=3))
        if turn == 1:
            assert row.next_k == 0  # served without drafts
            return
        at.tick(after=0.01)


def test_what_a_device_reads_after_rounds_without_drafts_is_not_taken_for_slow_drafting() -> None:
    at = Desk("fixed-k")
    at.start("s")
    device = at.core._state.estimates.device("d:1")
    # The last draft follows forty tokens that its device did not draft.
    for emitted, draft_us in ((5, 40_000), (5, 40_000), (40, 40_000), (5, 90_000)):
        at.now += draft_us / 1e6 + 0.006
        at.take(at.draft("s", tokens=4, draft_us=draft_us))
        at.take(at.verdict(at.row("s"), emitted=emitted))
    assert device.draft_s.seen == 2  # neither the session's first draft nor the last
    assert device.draft_s.value == pytest.approx(0.010)


def test_absurd_heartbeats_are_counted_and_not_used() -> None:
    at = Desk("fixed-k", devices=[beat("draft_worker", "d:1", draft_us=10**12)])
    assert at.metrics.absurd.labels("heartbeat")._value.get() > 0
    assert at.core._state.estimates.device("d:1").draft_s.value < 1


class Failing(Outrider):
    """Plans once, then raises."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def plan(
        self, cohort: Sequence[SessionView], server: Server, max_rows: int, last: Plan | None
    ) -> Plan | None:
        self.made += 1
        if self.made > 1:
            raise ZeroDivisionError
        return super().plan(cohort, server, max_rows, last)


class Slow(InlineCompute):
    """Compute that takes its time over the second function and those after it."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.runs = seconds, 0

    async def run(self, fn: Callable[[], T], cost_s: float = 0.0) -> T:
        self.runs += 1
        return await super().run(fn, self.seconds if self.runs > 1 else 0.0)


async def turns(planner: Planner, at: Desk, count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await planner.turn()
        at.now = loop.time()


def test_a_planner_that_raises_leaves_the_last_good_plan_in_force() -> None:
    async def main() -> None:
        at = Desk("outrider")
        at.submit("a", "b")
        at.core._state.policy = Failing()
        planner = Planner(lambda: at.core, InlineCompute(), at.metrics, limit_s=1.0)
        await turns(planner, at, SETTLING)
        first = at.core._state.verifiers["v"].plan
        assert first is not None
        at.submit("c")
        await turns(planner, at, SETTLING)
        assert at.core._state.verifiers["v"].plan is first
        assert (
            at.metrics.plans.labels("raised")._value.get() == 1
        )  # and is not asked the same again and again
        at.submit("d")
        await turns(planner, at, SETTLING)
        assert at.metrics.plans.labels("raised")._value.get() == 2

    run_virtual(main())


def test_a_planner_that_overruns_leaves_the_last_good_plan_in_force_and_is_let_end() -> None:
    async def main() -> None:
        at = Desk("outrider")
        at.submit("a", "b")
        compute = Slow(5.0)
        planner = Planner(lambda: at.core, compute, at.metrics, limit_s=1.0)
        await turns(planner, at, SETTLING)
        first = at.core._state.verifiers["v"].plan
        assert first is not None
        at.submit("c")
        await turns(planner, at, SETTLING + 8)
        at.submit("d")
        await turns(planner, at, round(2 / PLAN_POLL_S))
        assert at.core._state.verifiers["v"].plan is first
        assert at.metrics.plans.labels("overran")._value.get() == 1
        assert compute.runs == 2  # nothing else is begun meanwhile
        compute.seconds = 0.0
        await turns(planner, at, round(4 / PLAN_POLL_S))
        assert set(at.core._state.verifiers["v"].plan.lengths) == {"a", "b", "c", "d"}

    run_virtual(main())
