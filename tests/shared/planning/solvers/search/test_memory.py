"""Many users whose batches are limited by memory: search effort, and equal splits as a floor."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from shared.planning import paper_setting
from shared.planning.instances import heterogeneous, memory_bound
from shared.planning.objective import Objective
from shared.planning.problem import LengthBounds, PaddedServer, Problem, User
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.branch_and_bound.graphs import line
from shared.planning.solvers.branch_and_bound.paths import best_paths, counted_paths
from shared.planning.solvers.exact.lengths import best_lengths
from shared.planning.solvers.search import search_solver
from shared.planning.solvers.search.pieces import PARTS, Pieces
from tests.shared.planning.solvers.brute_force import fits

GOAL = Objective()


def sorted_equally(users: tuple[User, ...], key: str, batches: int) -> list[tuple[int, ...]]:
    """All users in equal batches, sorted."""
    order = np.argsort([getattr(user, key) for user in users], kind="stable")
    return [tuple(batch.tolist()) for batch in np.array_split(order, batches)]


@pytest.mark.parametrize("limited", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_no_equal_split_is_better(seed: int, limited: bool) -> None:
    problem = memory_bound(seed, 200)
    if not limited:
        server = replace(problem.server, memory_bytes=float("inf"))  # type: ignore[type-var]  # a dataclass behind a protocol
        problem = Problem(problem.users, server)
    arrays = ProblemArrays.of(problem, GOAL)
    plan = search_solver.solve(arrays)
    assert plan is not None
    assert fits(problem, [list(batch) for batch in plan.split.batches])
    assert sorted(m for batch in plan.split.batches for m in batch) == list(range(200))
    tried = 0
    for key in ("draft_ms", "prefix"):
        for count in range(1, 16):
            batches = sorted_equally(problem.users, key, count)
            if fits(problem, [list(batch) for batch in batches]):
                near = plan.cycle_ms * 0.5, plan.cycle_ms * 2
                split = best_lengths(arrays, batches, plan.score, near, 1e-6)
                assert split is None or ScoredPlan.of(arrays, split).score <= plan.score * (1 + 1e-6)
                tried += 1
    assert tried > 5


def test_equal_users_are_divided_evenly_where_memory_requires_batches() -> None:
    problem = paper_setting.equal_users(980, 0.8)  # twenty times 49
    plan = search_solver.solve(ProblemArrays.of(problem, GOAL))
    assert plan is not None
    assert len(plan.split.batches) == 20


@pytest.mark.parametrize("widest", [2048, 4096])
def test_pieces_are_few_and_fit_into_batches_for_all_prefixes(widest: int) -> None:
    draw = np.random.default_rng(widest)
    free = heterogeneous(1, 400, law="padded").users
    prefixes = np.exp(draw.uniform(np.log(64), np.log(widest), 400)).astype(int).tolist()
    users = tuple(replace(user, prefix=prefix) for user, prefix in zip(free, prefixes, strict=True))
    arrays = ProblemArrays.of(
        Problem(users, PaddedServer(paper_setting.SERVER, paper_setting.MEMORY_BYTES)), GOAL
    )
    orders = np.array([np.argsort(arrays.prefix), np.argsort(-arrays.prefix), np.argsort(arrays.draft_ms)])
    pieces = Pieces.of(arrays, orders)
    assert pieces.which.tolist() == [0, 1]  # an order by speed mixes short prefixes with long ones
    full = sum(user.prefix for user in users) / (49 * 512)  # batches, if none were padded
    assert pieces.count <= 3 * PARTS[-1] * full
    assert pieces.max_per_batch <= 4 * PARTS[-1]
    for order, edges in zip(orders[pieces.which], pieces.edges, strict=True):
        assert edges[0] == 0
        assert edges[-1] == 400
        for low, high in pairwise(edges):
            own = arrays.prefix[order[low:high]]
            assert len(own) == 1 or len(own) * own.max() <= 49.9 * 512 / PARTS[0]


def test_a_minimum_number_of_batches_needs_few_nodes() -> None:
    _, graph = line(200, 5, 2, 200)
    assert graph.last == 2 * 200


@pytest.mark.parametrize(("min_batches", "max_batches"), [(1, 3), (6, 20), (4, 4)])
def test_prices_on_a_batch_keep_the_number_within_bounds(min_batches: int, max_batches: int) -> None:
    groups, graph = line(20, 20, 1, 20)
    size = (groups.ends - groups.starts).astype(float)
    worth = (-0.1 * (size - 4) ** 2)[:, None]  # best in five batches of four
    assert (best_paths(graph, worth) >= 0).sum() == 5
    paths = counted_paths(graph, worth, min_batches, max_batches)
    assert min_batches <= (paths >= 0).sum() <= max_batches
    assert size[paths[paths >= 0]].sum() == 20


@pytest.mark.parametrize(
    "bounds", [LengthBounds(min_batches=9), LengthBounds(max_batches=7), LengthBounds(min_batches=30)]
)
def test_the_number_of_batches_is_within_bounds_where_memory_is_short(bounds: LengthBounds) -> None:
    free = memory_bound(1, 150)
    users = tuple(replace(user, prefix=512) for user in free.users)
    problem = Problem(users, free.server, bounds)
    plan = search_solver.solve(ProblemArrays.of(problem, GOAL))
    assert plan is not None
    assert fits(problem, [list(batch) for batch in plan.split.batches])
