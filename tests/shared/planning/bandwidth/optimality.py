"""Karush–Kuhn–Tucker residuals of shares, relative, and a general optimiser to compare with."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize

from shared.planning.bandwidth.uploads import Floats, Limits


def band_residual(band: Floats, bandwidth: float, limits: Limits) -> float:
    """How far bands are outside their limits or their sum is off.

    Band may be left over where all have their ceiling.
    """
    outside = np.maximum(limits.floor_hz - band, band - limits.ceiling_hz).max(initial=0.0)
    rest = bandwidth - band.sum()
    if rest > 0 and np.all(band >= limits.ceiling_hz):
        rest = 0.0
    return float(max(outside, abs(rest)) / bandwidth)


def min_max_residual(end_ms: Floats, band: Floats, limits: Limits) -> float:
    """Of the smallest latest end, users with an upload only.

    With a price λ ≥ 0 of band and weights μ_k ≥ 0 of the ends, Σ μ = 1: μ_k·|dT_k/dB_k| = λ − ν_k + ξ_k, ν_k > 0 at
    floors and ξ_k > 0 at ceilings alone, μ_k > 0 for the latest alone. A user at a ceiling who is latest satisfies this
    with μ_k = 1 and λ = 0. Else everybody who is not at a floor or a ceiling has to be latest; those at floors end
    earlier. The shares go further: below a user held by its ceiling, the others are level too. Returned is the spread
    of the free users' ends, and how far users at floors end after them or users at ceilings before.
    """
    at_floor = band <= limits.floor_hz * (1 + 1e-12)
    at_ceiling = band >= limits.ceiling_hz * (1 - 1e-12)
    free = ~at_floor & ~at_ceiling
    if not free.any():
        return 0.0
    level, scale = end_ms[free].max(), np.abs(end_ms).max()
    spread = level - end_ms[free].min()
    late_at_floor = (end_ms[at_floor & ~at_ceiling] - level).max(initial=0.0)
    early_at_ceiling = (level - end_ms[at_ceiling & ~at_floor]).max(initial=0.0)
    return float(max(spread, late_at_floor, early_at_ceiling) / scale)


def weighted_residual(price: Floats, band: Floats, limits: Limits) -> float:
    """Of the smallest weighted sum. price [n]: w_k·a_k/B_k², the gain of a Hz: equal for all whom no limit holds."""
    at_floor = band <= limits.floor_hz * (1 + 1e-12)
    at_ceiling = band >= limits.ceiling_hz * (1 - 1e-12)
    free = ~at_floor & ~at_ceiling
    if not free.any():
        return 0.0
    high, low = price[free].max(), price[free].min()
    cheap_at_ceiling = (low - price[at_ceiling & ~at_floor]).max(initial=0.0)
    dear_at_floor = (price[at_floor & ~at_ceiling] - high).max(initial=0.0)
    return float(max(high - low, cheap_at_ceiling, dear_at_floor) / high)


def search(
    cost: Callable[[Floats], float],
    gradient: Callable[[Floats], Floats],
    start: Floats,
    total: float,
    limits: Limits,
) -> Floats:
    """The bands that SLSQP finds for a smooth cost. All are in shares of the total; so are cost and gradient."""
    bounds = [
        (max(low / total, 1e-9), min(high / total, 1.0))
        for low, high in zip(limits.floor_hz, limits.ceiling_hz, strict=True)
    ]
    found = minimize(
        cost,
        np.clip(start, [low for low, _ in bounds], [high for _, high in bounds]),
        jac=gradient,
        bounds=bounds,
        constraints={"type": "ineq", "fun": lambda x: 1.0 - x.sum(), "jac": lambda x: -np.ones_like(x)},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 300},
    )
    return fitted(found.x * total, total, limits)


def search_level(
    ends: Callable[[Floats], Floats],
    slopes: Callable[[Floats], Floats],
    start: Floats,
    total: float,
    limits: Limits,
    scale: float,
) -> Floats:
    """The bands that SLSQP finds for the smallest latest end: a level as one more variable, ends below it.

    ends, slopes: of the ends in ms and their derivatives by the shares of the total. scale: a typical end, in ms.
    """
    n = len(start)
    bounds = [
        (max(low / total, 1e-9), min(high / total, 1.0))
        for low, high in zip(limits.floor_hz, limits.ceiling_hz, strict=True)
    ]
    first = np.clip(start, [low for low, _ in bounds], [high for _, high in bounds])
    level = np.append(np.zeros(n), 1.0)

    def room(x: Floats) -> Floats:
        return np.append(x[-1] - ends(x[:-1]) / scale, 1.0 - x[:-1].sum())

    def room_slopes(x: Floats) -> Floats:
        rows = np.column_stack([np.diag(-slopes(x[:-1]) / scale), np.ones(n)])
        return np.vstack([rows, np.append(-np.ones(n), 0.0)])

    found = minimize(
        lambda x: x[-1],
        np.append(first, ends(first).max() / scale),
        jac=lambda _: level,
        bounds=[*bounds, (None, None)],
        constraints={"type": "ineq", "fun": room, "jac": room_slopes},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 300},
    )
    return fitted(found.x[:-1] * total, total, limits)


def check_gaps(gaps: Sequence[float]) -> None:
    """An optimiser is never better by more than 10⁻⁶, and mostly as good: else it would not be worth comparing with."""
    assert min(gaps) >= -1e-6
    assert np.quantile(gaps, 0.9) <= 1e-6


def fitted(band: Floats, total: float, limits: Limits) -> Floats:
    """Bands brought within floors and the total, since an optimiser oversteps by its tolerance."""
    band = np.clip(band, limits.floor_hz, limits.ceiling_hz)
    above = band - limits.floor_hz
    excess = band.sum() - total
    return band if excess <= 0 else limits.floor_hz + above * (1 - excess / above.sum())
