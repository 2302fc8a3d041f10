"""Non-negative least squares against a search."""

import itertools

import numpy as np
import pytest

from shared.planning.least_squares import nonnegative


@pytest.mark.parametrize("seed", range(20))
def test_no_point_of_a_grid_is_better(seed: int) -> None:
    draw = np.random.default_rng(seed)
    terms, target = draw.normal(size=(9, 3)), draw.normal(size=9)

    def loss(x: np.ndarray) -> float:
        return float(((terms @ x - target) ** 2).sum())

    solution = np.array(nonnegative((terms.T @ terms).tolist(), (terms.T @ target).tolist()))
    assert solution.min() >= 0
    steps = np.linspace(0, 2, 21)
    assert loss(solution) <= min(loss(np.array(x)) for x in itertools.product(steps, steps, steps)) + 1e-4


def test_coefficients_are_zero_when_every_term_has_a_negative_moment() -> None:
    assert nonnegative([[1.0, 0.0], [0.0, 1.0]], [-1.0, -2.0]) == [0.0, 0.0]
