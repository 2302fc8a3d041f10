"""Fits both cost laws to measured passes and judges each on passes that were held out.

Both fits minimise the squared *relative* error: each pass is divided by its own time, because otherwise the few longest
passes would decide alone. No coefficient is negative.

Passes of fewer than four tokens in all are left out, because they run other code. On a CPU a single token is a
matrix-vector product, which in bfloat16 costs a fraction of what the law of the other passes predicts. Up to three
tokens in float32 are multiplied by weights in another layout (services/verifier/linear.py). A law fitted to those
passes too would be wrong for batches, which planners ask about. The errors for such passes are stated separately.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import numpy as np

from shared.planning.cost import CostLaw, Packed, Padded, Shape
from shared.planning.least_squares import nonnegative
from shared.planning.profile import LawErrors

MIN_SHAPES: Final = 4  # for a fit
MIN_TOKENS: Final = 4  # passes with fewer tokens are left out of the fit


class FitError(ValueError):
    """The passes do not determine a law; the text says why."""


@dataclass(frozen=True, slots=True)
class Timed:
    """The median time of passes of one shape, with all rows alike.

    new: new tokens of a row. cached: tokens of a row before the new ones.
    """

    rows: int
    new: int
    cached: int
    ms: float

    @property
    def shape(self) -> Shape:
        """The shape that a law takes."""
        return Shape.of([(self.new, self.cached)] * self.rows)

    @property
    def name(self) -> str:
        """The name of the shape in a profile."""
        return f"{self.rows} x {self.new} @ {self.cached}"

    @property
    def tokens(self) -> int:
        """New tokens of all rows."""
        return self.rows * self.new


@dataclass(frozen=True, slots=True)
class Fit:
    """Both laws of a pass by itself, with their errors."""

    packed: Packed
    padded: Padded
    packed_errors: LawErrors
    padded_errors: LawErrors


def fit(passes: Sequence[Timed], layers: int, hidden: int, feed_forward: int) -> Fit:
    """Fit both laws on two thirds of the grid and judge them on the rest. Raises FitError."""
    fitted, held_out = split(passes)
    left_out = [one for one in passes if one.tokens < MIN_TOKENS]
    packed, padded = fit_packed(fitted), fit_padded(fitted, layers, hidden, feed_forward)
    return Fit(
        packed,
        padded,
        judge(packed, len(fitted), held_out, left_out),
        judge(padded, len(fitted), held_out, left_out),
    )


def split(passes: Sequence[Timed]) -> tuple[list[Timed], list[Timed]]:
    """Split passes into (to fit on, to judge on); passes of few tokens are in neither.

    Every third diagonal of the grid is held out, so all levels of the grid are on both sides. Raises FitError when the
    first part does not determine the three terms of a law, or when the second is empty.
    """
    eligible = [one for one in passes if one.tokens >= MIN_TOKENS]
    axes = [sorted({axis(one) for one in eligible}) for axis in (_rows, _new, _cached)]
    sides: tuple[list[Timed], list[Timed]] = ([], [])
    for one in eligible:
        place = sum(
            levels.index(axis(one)) for levels, axis in zip(axes, (_rows, _new, _cached), strict=True)
        )
        sides[place % 3 == 2].append(one)
    if len(sides[0]) < MIN_SHAPES or not sides[1] or np.linalg.matrix_rank(_terms(sides[0])) < 3:
        raise FitError(
            f"{len(eligible)} shapes of {MIN_TOKENS} tokens and more are too few or too much alike "
            "to fit a law and judge it: more widths, lengths or contexts"
        )
    return sides


def fit_packed(passes: Sequence[Timed]) -> Packed:
    """Fit the packed law: least relative squares over (1, Σ new, Σ cached)."""
    return Packed(*_relative(_terms(passes), passes))


def fit_padded(passes: Sequence[Timed], layers: int, hidden: int, feed_forward: int) -> Padded:
    """Fit the padded law: least relative squares over (1, b · F(L, I)).

    Raises FitError when time does not grow with operations.
    """
    operations = Padded(0.0, 1.0, layers, hidden, feed_forward)
    beta, per_operation = _relative([[1.0, operations.pass_ms(one.shape)] for one in passes], passes)
    if per_operation <= 0:
        raise FitError(
            "larger passes did not take longer; measure again while nothing else runs on the machine"
        )
    return Padded(beta, per_operation, layers, hidden, feed_forward)


def judge(law: CostLaw, points: int, held_out: Sequence[Timed], left_out: Sequence[Timed]) -> LawErrors:
    """Errors of a law. points: passes that it was fitted on. left_out: passes of few tokens."""
    errors = relative_errors(law, held_out)
    return LawErrors(
        points=points,
        held_out=len(errors),
        mean=fmean(map(abs, errors)),
        bias=fmean(errors),
        worst=max(errors, key=abs),
        single_token=_mean(relative_errors(law, [one for one in left_out if one.tokens == 1])),
        few_tokens=_mean(relative_errors(law, [one for one in left_out if one.tokens > 1])),
    )


def relative_errors(law: CostLaw, passes: Sequence[Timed]) -> list[float]:
    """(law − measured) / measured, for each pass."""
    return [float(law.pass_ms(one.shape)) / one.ms - 1 for one in passes]


def _terms(passes: Sequence[Timed]) -> Sequence[Sequence[float]]:
    """(1, Σ new, Σ cached) of every pass. [passes, 3]"""
    return [[1.0, one.tokens, one.rows * one.cached] for one in passes]


def _mean(errors: Sequence[float]) -> float | None:
    return fmean(errors) if errors else None


def _relative(terms: Sequence[Sequence[object]], passes: Sequence[Timed]) -> list[float]:
    """Coefficients of the terms by least relative squares. terms: [passes, coefficients]"""
    weighted = np.array(terms, dtype=float) / np.array([[one.ms] for one in passes])
    return nonnegative((weighted.T @ weighted).tolist(), weighted.sum(axis=0).tolist())


def _rows(one: Timed) -> int:
    return one.rows


def _new(one: Timed) -> int:
    return one.new


def _cached(one: Timed) -> int:
    return one.cached
