"""Options within a cycle bound, against every combination of lengths."""

from itertools import product

import numpy as np
import pytest

from shared.planning.instances import LAWS, heterogeneous
from shared.planning.objective import Objective
from shared.planning.problem import PackedServer, verify_ms
from shared.planning.solvers.arrays.options import Batches, exact_options
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays

BATCHES = [(0,), (1, 2), (0, 1, 2)]


def pareto(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """(time, value) pairs that no other pair beats in both, rounded."""
    kept: list[tuple[float, float]] = []
    for time, value in sorted((round(t, 6), -round(v, 9)) for t, v in pairs):
        if not kept or -value > kept[-1][1]:
            kept.append((time, -value))
    return kept


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cycle_bound", [150.0, 400.0, 1500.0])
def test_options_are_the_undominated_ones_within_a_cycle_bound(
    seed: int, law: str, cycle_bound: float
) -> None:
    problem = heterogeneous(seed, 3, law=law, max_draft=4, min_draft=seed % 2)
    arrays = ProblemArrays.of(problem, Objective())
    options = exact_options(Batches.of(arrays, BATCHES), cycle_bound)
    lengths = range(problem.bounds.min_draft, 5)
    for index, batch in enumerate(BATCHES):
        users = [problem.users[m] for m in batch]
        possible = []
        for chosen in product(lengths, repeat=len(batch)):
            time = verify_ms(problem.server, users, chosen)
            if max(user.ready_ms(k) for user, k in zip(users, chosen, strict=True)) + time <= cycle_bound:
                possible.append((time, sum(user.emitted(k) for user, k in zip(users, chosen, strict=True))))
        ours = list(zip(options.verify_ms[index], options.values[index], strict=True))
        assert pareto([pair for pair in ours if pair[1] > -np.inf]) == pareto(possible)


@pytest.mark.parametrize("law", LAWS)
def test_lengths_are_those_of_the_option(law: str) -> None:
    problem = heterogeneous(3, 3, law=law, max_draft=6)
    arrays = ProblemArrays.of(problem, Objective())
    options = exact_options(Batches.of(arrays, BATCHES), 600.0)
    for index, batch in enumerate(BATCHES):
        users = [problem.users[m] for m in batch]
        for option in np.flatnonzero(options.values[index] > -np.inf):
            chosen = options.lengths(index, int(option))
            value = sum(user.emitted(k) for user, k in zip(users, chosen, strict=True))
            assert value == pytest.approx(options.values[index, option])
            time = verify_ms(problem.server, users, chosen)
            assert time <= options.verify_ms[index, option] + 1e-9
            assert max(user.ready_ms(k) for user, k in zip(users, chosen, strict=True)) + time <= 600.0 + 1e-6


def test_a_batch_that_does_not_fit_has_no_options() -> None:
    problem = heterogeneous(0, 3, law="packed")
    assert isinstance(problem.server, PackedServer)
    small = PackedServer(problem.server.law, problem.users[0].prefix * 1e5, 1e5)
    arrays = ProblemArrays.of(type(problem)(problem.users, small, problem.bounds), Objective())
    options = exact_options(Batches.of(arrays, BATCHES), 1e6)
    assert options.values[0].max() > 0
    assert options.values[2].max() == -np.inf
