"""Solver `outrider` of objective `latency`: all draft lengths, batchings by Pareto labels, shares, refinement.

For every draft length l, shortest possible end first, the dynamic programme gives the batchings of the shortest periods
over some orders of the users. The best few, with the shares that suit them, are refined. The paper's batching is among
the candidates, so the plan is never worse than the paper's method with the same sharing, or with all uploads ending
together under `joint`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Final

from shared.planning.latency.batching import (
    Rest,
    equal_batchings,
    pareto_batchings,
    scalar_batching,
)
from shared.planning.latency.cohort import Cohort
from shared.planning.latency.interval_costs import Batching, IntervalCosts, Intervals
from shared.planning.latency.latency_plan import LatencyPlan, plan_of
from shared.planning.latency.radio import Radio
from shared.planning.latency.refinement import ends_at, refined, sequences
from shared.planning.solvers.solve import Infeasible

FINALISTS: Final = 8  # that are kept, over all lengths and orders, and refined
FEW_USERS: Final = 50  # above that two are refined, in fewer steps
CANDIDATES: Final = 6  # batchings of each length and order whose end is computed
SLACK: Final = 0.1  # of the period, at most, above the shortest one: other rounds may make up for it
REFINING_STEPS: Final = 40, 16  # of few users, of many


@dataclass(frozen=True)
class Candidate:
    """A batching of an order with a draft length, and the end of its cohort."""

    costs: IntervalCosts
    batching: Batching
    latency_ms: float


@dataclass
class _Best:
    """The best candidates so far, earliest end first."""

    kept: list[Candidate] = field(default_factory=list)

    @property
    def latency_ms(self) -> float:
        return self.kept[0].latency_ms if self.kept else inf

    def add(self, candidate: Candidate) -> None:
        self.kept = sorted([*self.kept, candidate], key=lambda each: each.latency_ms)[:FINALISTS]


def solve(cohort: Cohort) -> LatencyPlan:
    """The best plan found. Raises Infeasible where the users do not fit into the memories."""
    best = best_candidate(cohort)
    return plan_of(best.costs, best.batching, Radio(cohort))


def best_candidate(cohort: Cohort) -> Candidate:
    """The best batching found. Raises Infeasible."""
    radio, best = Radio(cohort), _Best()
    for order in user_orders(cohort):
        intervals = Intervals.of(cohort, order)
        waiting = [intervals.costs(length) for length in cohort.lengths]
        bounded = [(each.rounds * (rest := Rest.of(each)).period_ms, each, rest) for each in waiting]
        for bound, costs, rest in sorted(bounded, key=lambda part: part[0]):
            if bound < best.latency_ms:
                for batching in _batchings(costs, rest):
                    _add_sequences(costs, batching, radio, best)
    if not best.kept:
        raise infeasible(cohort)
    many = len(cohort.users) > FEW_USERS
    for candidate in best.kept[: 2 if many else FINALISTS]:
        batching, latency = refined(
            candidate.costs, candidate.batching, radio, candidate.latency_ms, REFINING_STEPS[many]
        )
        best.add(Candidate(candidate.costs, batching, latency))
    return best.kept[0]


def infeasible(cohort: Cohort) -> Infeasible:
    """Why no batching fits, with the user who needs most."""
    largest = max(cohort.users, key=lambda user: user.prefix)
    need = float(cohort.verifier.needed_bytes(1, largest.prefix, largest.prefix))
    if need > cohort.verifier.memory_bytes:
        return Infeasible(
            f"memory_bytes: user {largest.id!r} with prefix {largest.prefix} alone needs {need:.4g} bytes, "
            f"the server has {cohort.verifier.memory_bytes:.4g}"
        )
    return Infeasible(
        f"resident_bytes: the caches of all users do not fit into {cohort.resident_bytes:.4g} bytes; "
        f"give the server more or leave users out"
    )


def user_orders(cohort: Cohort) -> list[tuple[int, ...]]:
    """By input, for padding; where devices draft also by the time of a draft, since the slowest delays its batch."""
    orders = [cohort.by_input()]
    if cohort.drafter is None:
        orders.append(cohort.sorted_by([user.ready_ms(cohort.max_draft) for user in cohort.users]))
    return list(dict.fromkeys(orders))


def _batchings(costs: IntervalCosts, rest: Rest) -> Iterator[Batching]:
    simple = [scalar_batching(costs), *equal_batchings(costs)]
    known = sorted((costs.period_ms(each), each) for each in simple if each is not None)
    bound = inf
    if known:
        bound = known[0][0] * (1 + min(SLACK, 1 / costs.rounds))
        yield known[0][1]
    if simple[0] is not None:
        yield simple[0]
    yield from pareto_batchings(costs, bound, rest, CANDIDATES)


def _add_sequences(costs: IntervalCosts, batching: Batching, radio: Radio, best: _Best) -> None:
    for each in sequences(batching):
        if any(kept.batching == each and kept.costs is costs for kept in best.kept):
            continue
        best.add(Candidate(costs, each, ends_at(costs, each, radio)))
