"""Posteriors of α: differences that may be chance are shrunk, others remain."""

import numpy as np
import pytest

from shared.planning.estimates import PRIOR_OBSERVATIONS, Acceptance
from shared.planning.strategies.posteriors import MAX_ALPHA, Posteriors
from shared.planning.views import SessionView
from tests.shared.planning.session_views import view


def seen(truth: list[float], rounds: int, expected: float = 0.7) -> list[SessionView]:
    """Sessions of these α that drafted four tokens in each of so many rounds."""
    rng, views = np.random.default_rng(1), []
    for n, alpha in enumerate(truth):
        known = Acceptance(expected)
        for _ in range(rounds):
            wrong = np.flatnonzero(rng.random(4) > alpha)
            known.observe(4, int(wrong[0]) if wrong.size else 4)
        views.append(
            view(
                n,
                alpha=known.alpha,
                seen=known.seen,
                expected_alpha=expected,
                prior_weight=known.prior_weight,
            )
        )
    return views


def test_without_observations_alpha_is_the_prior_with_a_large_deviation() -> None:
    posteriors = Posteriors.of([view(n, alpha=0.7, seen=0.0) for n in range(5)])
    assert posteriors.alpha.tolist() == pytest.approx([0.7] * 5)
    assert posteriors.alpha_std.tolist() == pytest.approx(
        [(0.7 * 0.3 / PRIOR_OBSERVATIONS) ** 0.5] * 5, rel=0.01
    )


def test_differences_that_may_be_chance_are_shrunk() -> None:
    views = seen([0.78] * 20, 20)
    raw, posteriors = [view.alpha for view in views], Posteriors.of(views)
    assert np.ptp(posteriors.alpha) < 0.6 * np.ptp(raw)
    assert posteriors.alpha.mean() == pytest.approx(0.78, abs=0.02)  # though each had drawn it towards 0.7


def test_differences_that_cannot_be_chance_remain() -> None:
    posteriors = Posteriors.of(seen([0.5, 0.95] * 10, 20))
    assert posteriors.alpha[::2].mean() == pytest.approx(0.5, abs=0.05)
    assert posteriors.alpha[1::2].mean() == pytest.approx(0.95, abs=0.05)


def test_the_deviation_shrinks_with_observations_and_has_the_right_size() -> None:
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.5, 0.95, 200).tolist()
    few, many = Posteriors.of(seen(truth, 4)), Posteriors.of(seen(truth, 64))
    assert many.alpha_std.mean() < 0.5 * few.alpha_std.mean()
    for posteriors in (few, many):
        off = (posteriors.alpha - truth) / posteriors.alpha_std
        assert 0.7 < off.std() < 1.4


def test_a_common_error_of_the_prior_is_corrected_for_new_sessions() -> None:
    tried, newcomer = seen([0.9] * 10, 40, expected=0.6), view(99, alpha=0.6, seen=0.0, expected_alpha=0.6)
    assert Posteriors.of([*tried, newcomer]).alpha[-1] > 0.8


def test_no_alpha_is_one_and_none_is_negative() -> None:
    sure = [view(n, alpha=1.0, seen=50.0, expected_alpha=1.0) for n in range(3)]
    never = [view(n, alpha=0.0, seen=50.0, expected_alpha=0.0) for n in range(3)]
    assert Posteriors.of(sure).alpha.max() == pytest.approx(MAX_ALPHA)
    assert Posteriors.of(never).alpha.min() >= 0.0
    assert np.isfinite(Posteriors.of([*sure, *never]).alpha_std).all()
