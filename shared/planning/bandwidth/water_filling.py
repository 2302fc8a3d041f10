"""Water-filling: one level for all users, within floors and ceilings, that uses up the bandwidth. Exact.

At level T user k gets the band that it needs to end at T, but not less than its floor and not more than its ceiling.
The bands fall with T, so there is one level at which they add up to the bandwidth. Who is at a floor, at a ceiling or
between them changes only at 2n known levels. They are searched by halving; between two of them the same users are free
all along, and there the level is the root of a smooth function.
"""

from typing import Final, Protocol

import numpy as np

from shared.planning.bandwidth.uploads import ROUNDING, Bools, Floats, Limits

MAX_STEPS: Final = 100  # of root-finding; halving alone needs about 60
TINY: Final = float(np.finfo(float).tiny)
CONVERGED: Final = 4e-16  # relative change of the level


class Demand(Protocol):
    """What n users need: the band as a function of time, and its inverse."""

    def band_hz(self, time_ms: Floats) -> Floats:
        """The bands with which the uploads take these times [n], above zero. It falls with the time."""
        ...

    def slope(self, time_ms: Floats, band_hz: Floats) -> Floats:
        """The derivative of band_hz, in Hz/ms [n], at these times and the bands that belong to them."""
        ...

    def time_ms(self, band_hz: Floats) -> Floats:
        """The times that the uploads take with these bands [n]; inf with none, 0 where nothing is uploaded."""
        ...

    def take(self, users: Bools) -> "Demand":
        """The demand of some users, chosen by a mask [n]."""
        ...


class FixedEfficiency:
    """Demand at a fixed spectral efficiency: a band of a_k/t Hz uploads in t ms. demand: a_k in Hz·ms [n]."""

    def __init__(self, demand: Floats) -> None:
        self._demand = demand

    def band_hz(self, time_ms: Floats) -> Floats:
        """a/t."""
        return self._demand / time_ms

    def slope(self, time_ms: Floats, band_hz: Floats) -> Floats:
        """−a/t²."""
        return -band_hz / time_ms

    def time_ms(self, band_hz: Floats) -> Floats:
        """a/B."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self._demand > 0, self._demand / band_hz, 0.0)

    def take(self, users: Bools) -> "FixedEfficiency":
        """The demand of some users, chosen by a mask [n]."""
        return FixedEfficiency(self._demand[users])


def fill(demand: Demand, busy: Bools, offset_ms: Floats, bandwidth_hz: float, limits: Limits) -> Floats:
    """The bands [n] in Hz with which all users whom no limit holds end at one level.

    B_k = clip(band_k(T − d_k), floor_k, ceiling_k), with T such that Σ B_k = B. If all ceilings fit into the bandwidth
    together, everybody has its ceiling. busy [n]: who uploads anything; others get their floors. offset_ms [n]: d_k.
    """
    band = limits.floor_hz.copy()
    if not busy.any():
        return band
    free, offset = demand.take(busy), offset_ms[busy]
    floor, ceiling = limits.floor_hz[busy], limits.ceiling_hz[busy]
    total = bandwidth_hz - float(limits.floor_hz[~busy].sum())
    if ceiling.sum() <= total:
        band[busy] = ceiling
        return band
    if floor.sum() >= total * (1 - ROUNDING):
        band[busy] = floor
        return band
    # Levels at which a user leaves its ceiling, and at which it reaches its floor.
    leaves, reaches = offset + free.time_ms(ceiling), offset + free.time_ms(floor)

    def bands_at(level: float) -> Floats:
        inside = (level > leaves) & (level < reaches)
        result = np.where(level > leaves, floor, ceiling)
        result[inside] = free.take(inside).band_hz(level - offset[inside])
        return result

    levels = np.unique(np.concatenate([leaves, reaches]))
    low, high = 0, len(levels)  # the bands at levels[low] need at least the total, those at levels[high] less
    while high - low > 1:
        middle = (low + high) // 2
        if np.isfinite(levels[middle]) and bands_at(float(levels[middle])).sum() >= total:
            low = middle
        else:
            high = middle
    start = float(levels[low])
    end = float(levels[high]) if high < len(levels) else np.inf
    between = (leaves <= start) & (reaches > start)
    held = float(np.where(leaves <= start, floor, ceiling)[~between].sum())
    result = np.where(leaves <= start, floor, ceiling)
    if between.any():
        part = free.take(between)
        level = _root(part, offset[between], total - held, start, end)
        result[between] = part.band_hz(np.maximum(level - offset[between], TINY))
    band[busy] = result
    return band


def _root(demand: Demand, offset: Floats, total: float, start: float, end: float) -> float:
    """The level in [start, end] at which these users' bands add up to the total, in Hz.

    Newton's method on 1/Σ band, which is concave for a fixed efficiency (a harmonic mean of straight lines), so that it
    converges from either side; with one offset it is a straight line, and one step is enough. Steps that leave the
    bracket are replaced by halving it.
    """
    level = start
    for _ in range(MAX_STEPS):
        time = level - offset
        bands = demand.band_hz(time)
        needed = float(bands.sum())
        if needed > total:
            start = level
        else:
            end = level
        slope = -float(demand.slope(time, bands).sum()) / needed**2
        step = (1.0 / max(total, TINY) - 1.0 / needed) / slope
        new = level + step
        if not start <= new <= end:
            new = (start + end) / 2 if np.isfinite(end) else 2 * level - float(offset.min())
        if abs(new - level) <= CONVERGED * max(abs(new), abs(level)):
            return new
        level = new
    return level
