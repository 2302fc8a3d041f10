"""What plans of objective `latency` are compared with: the paper's method, and its own baselines.

The paper names heuristic and static batching without defining them. Here heuristic batching puts inputs of a power of
two together (1, 2, 3–4, 5–8, …), and static batching takes users as they come, STATIC_USERS in a batch.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np

from shared.planning.latency.batching import scalar_batching, serial_batching
from shared.planning.latency.cohort import Cohort
from shared.planning.latency.interval_costs import Batching, IntervalCosts, Intervals
from shared.planning.latency.latency_plan import LatencyPlan, plan_of
from shared.planning.latency.latency_solver import infeasible, solve
from shared.planning.latency.radio import Radio

STATIC_USERS: Final = 8
FIXED_LENGTH: Final = 7

Rule = Callable[[IntervalCosts], Batching | None]


def paper(cohort: Cohort) -> LatencyPlan:
    """The paper's method: all uploads end together, batches by its scalar dynamic programme. Raises Infeasible."""
    return paper_batching(cohort.with_sharing("minmax"))


def paper_batching(cohort: Cohort) -> LatencyPlan:
    """The paper's batches, with cells shared as they are. Raises Infeasible."""
    return _best_length(cohort, cohort.by_input(), scalar_batching)


def uniform_bandwidth(cohort: Cohort) -> LatencyPlan:
    """Our solver, with equal shares of each cell. Raises Infeasible."""
    return solve(cohort.with_sharing("uniform"))


def without_pipeline(cohort: Cohort) -> LatencyPlan:
    """R·Σ(A + V) after uploads that end together, with the batches that are best for it. Raises Infeasible."""
    return _best_length(cohort.with_sharing("minmax"), cohort.by_input(), serial_batching, pipelined=False)


def maximal_batching(cohort: Cohort) -> LatencyPlan:
    """Batches as large as memory allows, uploads that end together. Raises Infeasible."""
    return _best_length(cohort.with_sharing("minmax"), cohort.by_input(), _maximal)


def heuristic_batching(cohort: Cohort) -> LatencyPlan:
    """Inputs between two powers of two in a batch, uploads that end together. Raises Infeasible."""
    return _best_length(cohort.with_sharing("minmax"), cohort.by_input(), _by_power_of_two)


def static_batching(cohort: Cohort) -> LatencyPlan:
    """STATIC_USERS users in a batch, as they come, uploads that end together. Raises Infeasible."""
    arrival = tuple(range(len(cohort.users)))
    return _best_length(cohort.with_sharing("minmax"), arrival, _static)


def fixed_length(cohort: Cohort) -> LatencyPlan:
    """Our solver with drafts of FIXED_LENGTH. Raises Infeasible."""
    return solve(cohort.with_length(FIXED_LENGTH))


def _best_length(
    cohort: Cohort, order: tuple[int, ...], rule: Rule, *, pipelined: bool = True
) -> LatencyPlan:
    radio, intervals, plans = Radio(cohort), Intervals.of(cohort, order), []
    for length in cohort.lengths:
        costs = intervals.costs(length)
        if (batching := rule(costs)) is not None:
            plans.append(plan_of(costs, batching, radio, pipelined=pipelined))
    if not plans:
        raise infeasible(cohort)
    return min(plans, key=lambda plan: plan.latency_ms)


def _maximal(costs: IntervalCosts) -> Batching | None:
    return _greedy(costs, lambda first, end: True)


def _static(costs: IntervalCosts) -> Batching | None:
    return _greedy(costs, lambda first, end: end - first <= STATIC_USERS)


def _by_power_of_two(costs: IntervalCosts) -> Batching | None:
    users, order = costs.intervals.cohort.users, costs.intervals.order
    group = [int(np.ceil(np.log2(max(1, users[m].prefix)))) for m in order]
    return _greedy(costs, lambda first, end: group[first] == group[end - 1])


def _greedy(costs: IntervalCosts, admits: Callable[[int, int], bool]) -> Batching | None:
    """Batches that grow user by user as long as the rule admits [first, end) and memory holds it."""
    fits, k = costs.intervals.fits, costs.users
    cuts = [0]
    for end in range(1, k + 1):
        if not (fits[cuts[-1], end] and admits(cuts[-1], end)):
            if end - 1 == cuts[-1]:
                return None
            cuts.append(end - 1)
            if not fits[end - 1, end]:
                return None
    cuts.append(k)
    batching = tuple(pairwise(cuts))
    first, ends = np.array(cuts[:-1]), np.array(cuts[1:])
    return batching if costs.admits(first, ends) else None
