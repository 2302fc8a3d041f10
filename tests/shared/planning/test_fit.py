"""Fits recover the laws that made the passes; errors are those of held-out passes."""

from collections.abc import Sequence

import numpy as np
import pytest

from shared.planning.cost import CostLaw, Packed, Padded
from shared.planning.fit import FitError, Timed, fit, fit_packed, fit_padded, judge, relative_errors, split

SHAPE = (30, 576, 1536)
GRID = [
    (rows, new, cached) for cached in (32, 128, 512) for rows in (1, 2, 4, 8, 16) for new in (1, 2, 3, 5, 9)
]
PACKED = Packed(40.0, 1.2, 0.004)
PADDED = Padded(50.0, 4e-9, *SHAPE)


def passes(law: CostLaw, noise: float = 0.0, seed: int = 1) -> list[Timed]:
    draw = np.random.default_rng(seed)
    return [
        Timed(rows, new, cached, law.cost_ms([(new, cached)] * rows) * float(draw.lognormal(0, noise)))
        for rows, new, cached in GRID
    ]


def coefficients(law: Packed | Padded) -> Sequence[float]:
    if isinstance(law, Packed):
        return (law.beta_ms, law.per_token_ms, law.per_context_ms)
    return (law.beta_ms, law.ms_per_operation)


@pytest.mark.parametrize(("noise", "near"), [(0.0, 1e-3), (0.05, 0.2)])
@pytest.mark.parametrize("seed", range(3))
def test_a_fit_recovers_the_law(noise: float, near: float, seed: int) -> None:
    packed = fit_packed(passes(PACKED, noise, seed))
    assert coefficients(packed) == pytest.approx(coefficients(PACKED), rel=near)
    padded = fit_padded(passes(PADDED, noise, seed), *SHAPE)
    assert coefficients(padded) == pytest.approx(coefficients(PADDED), rel=near)


def test_the_law_that_made_the_passes_has_a_small_error() -> None:
    ours = fit(passes(PACKED, 0.03), *SHAPE)
    assert ours.packed_errors.mean < 0.05
    assert ours.packed_errors.mean < ours.padded_errors.mean
    assert fit(passes(PADDED, 0.03), *SHAPE).padded_errors.mean < 0.05


def test_every_pass_counts_by_its_relative_error() -> None:
    """One pass in a hundred times the others' size is off by a fifth: it must not distort the fit of the small ones."""
    small = [Timed(1, new, 0, 10.0 + new) for new in range(4, 24)]
    large = Timed(100, 100, 0, 1.2 * 10_010)
    errors = relative_errors(fit_packed([*small, large]), small)
    assert max(map(abs, errors)) < 0.1


def test_no_coefficient_is_negative() -> None:
    """Times fall with context and tokens, so only the constant remains."""
    falling = [Timed(rows, new, cached, 100.0 - rows * new / 10 - cached / 10) for rows, new, cached in GRID]
    law = fit_packed(falling)
    assert min(coefficients(law)) >= 0
    assert law.per_token_ms == law.per_context_ms == 0
    with pytest.raises(FitError, match="nothing else runs"):
        fit_padded(falling, *SHAPE)


def test_held_out_passes_are_spread_over_the_grid_and_decide_the_error() -> None:
    fitted, held_out = split(passes(PACKED))
    assert len(fitted) + len(held_out) == sum(rows * new >= 4 for rows, new, _ in GRID)
    assert {one.name for one in fitted}.isdisjoint(one.name for one in held_out)
    for axis in ("rows", "new", "cached"):
        assert {getattr(one, axis) for one in fitted} == {getattr(one, axis) for one in held_out}
    wrong = [Timed(5, 1, 0, 100.0), Timed(4, 1, 0, 200.0)]
    errors = judge(Packed(110.0, 0.0), 7, wrong, [])
    assert (errors.points, errors.held_out) == (7, 2)
    assert errors.single_token is errors.few_tokens is None
    assert errors.mean == pytest.approx((0.1 + 0.45) / 2)
    assert errors.bias == pytest.approx((0.1 - 0.45) / 2)
    assert errors.worst == pytest.approx(-0.45)


def test_passes_of_few_tokens_are_left_out_and_their_errors_stated() -> None:
    """One token costs a fifth and up to three cost half of the law; the law for batches is unaffected."""
    factor = {1: 1 / 5, 2: 1 / 2, 3: 1 / 2}
    cheap = [
        Timed(one.rows, one.new, one.cached, one.ms * factor.get(one.tokens, 1)) for one in passes(PACKED)
    ]
    fitted = fit(cheap, *SHAPE)
    assert coefficients(fitted.packed) == pytest.approx(coefficients(PACKED), rel=1e-3)
    assert fitted.packed_errors.mean < 1e-3
    assert fitted.packed_errors.single_token == pytest.approx(4.0, rel=1e-2)
    assert fitted.packed_errors.few_tokens == pytest.approx(1.0, rel=1e-2)


def test_too_few_shapes_are_refused() -> None:
    with pytest.raises(FitError, match="more widths, lengths or contexts"):
        fit([Timed(1, new, 32, 40.0 + new) for new in (1, 2, 4, 8)], *SHAPE)
