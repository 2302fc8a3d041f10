"""The dynamic programme against all ways to cut sorted users, on the steady period; memory; the paper's scalar."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from shared.planning.latency.batching import (
    Rest,
    equal_batchings,
    pareto_batchings,
    scalar_batching,
    serial_batching,
)
from shared.planning.latency.brute_force import interval_batchings
from shared.planning.latency.interval_costs import IntervalCosts, Intervals, ends_of, weight_bytes
from shared.planning.latency.random_cohorts import random_cohort


def costs_of(seed: int, users: int, resident: float = inf) -> IntervalCosts:
    group = replace(random_cohort(seed, users), resident_bytes=resident)
    return Intervals.of(group, group.by_input()).costs(1 + seed % 4)


def feasible(costs: IntervalCosts) -> list[tuple[tuple[int, int], ...]]:
    return [each for each in interval_batchings(costs.users) if costs.admits(*ends_of(each))]


@pytest.mark.parametrize("seed", range(100))
def test_labels_find_the_shortest_period(seed: int) -> None:
    costs = costs_of(seed, 2 + seed % 9)
    best = min(costs.period_ms(each) for each in feasible(costs))
    rest = Rest.of(costs)
    assert rest.period_ms <= best * (1 + 1e-12)
    found = pareto_batchings(costs, inf, rest, 3)[0]
    assert costs.period_ms(found) == pytest.approx(best, rel=1e-12)
    bounded = pareto_batchings(costs, best * (1 + 1e-9), rest, 3)[0]
    assert costs.period_ms(bounded) == pytest.approx(best, rel=1e-12)
    assert pareto_batchings(costs, best * (1 - 1e-9), rest, 3) == []


@pytest.mark.parametrize("seed", range(60))
def test_memory_of_all_batches_is_kept(seed: int) -> None:
    free = costs_of(seed, 7)
    caches = free.intervals.cache_bytes
    smallest = min(caches[ends_of(each)].sum() for each in feasible(free))
    largest = max(caches[ends_of(each)].sum() for each in feasible(free))
    room = smallest + (largest - smallest) * (seed % 3) / 2
    costs = costs_of(seed, 7, (weight_bytes(free.intervals.cohort) + room) * (1 + 1e-12))
    best = min(costs.period_ms(each) for each in feasible(costs))
    found = pareto_batchings(costs, inf, Rest.of(costs), 1)[0]
    assert costs.admits(*ends_of(found))
    assert costs.period_ms(found) == pytest.approx(best, rel=1e-12)


def test_one_scalar_for_each_prefix_misses_the_best_by_per_cent() -> None:
    gaps = []
    for seed in range(200):
        costs = costs_of(seed, 8)
        scalar = scalar_batching(costs)
        assert scalar is not None
        best = costs.period_ms(pareto_batchings(costs, inf, Rest.of(costs), 1)[0])
        gaps.append(costs.period_ms(scalar) / best - 1)
    assert min(gaps) >= -1e-12
    assert max(gaps) > 0.02


@pytest.mark.parametrize("seed", range(60))
def test_the_best_batching_without_a_pipeline(seed: int) -> None:
    costs = costs_of(seed, 7)
    found = serial_batching(costs)
    assert found is not None
    totals = [costs.loop_ms[ends_of(each)].sum() for each in feasible(costs)]
    assert costs.loop_ms[ends_of(found)].sum() == pytest.approx(min(totals), rel=1e-12)


def test_nothing_fits() -> None:
    group = random_cohort(1, 4)
    group = replace(group, verifier=replace(group.verifier, memory_bytes=1.0))
    costs = Intervals.of(group, group.by_input()).costs(1)
    assert scalar_batching(costs) is None
    assert serial_batching(costs) is None
    assert equal_batchings(costs) == []
    assert pareto_batchings(costs, inf, Rest.of(costs), 1) == []


def test_equal_batches_cover_all_users() -> None:
    for batching in equal_batchings(costs_of(1, 30)):
        assert batching[0][0] == 0
        assert batching[-1][1] == 30
        assert np.array_equal([end for _, end in batching[:-1]], [first for first, _ in batching[1:]])
