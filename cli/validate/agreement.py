"""How well simulated figures agree with live ones: errors, order of policies, regret. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite, nan, sqrt
from typing import Final

import numpy as np

from cli.validate.run_metrics import METRICS, RunMetrics

T_95: Final = 2.0  # Student's t for some dozens of slices


@dataclass(frozen=True, slots=True)
class Compared:
    """One cell: a scenario under one policy. live: the mean of `repeats`."""

    scenario: str
    policy: str
    live: RunMetrics
    simulated: RunMetrics
    repeats: tuple[RunMetrics, ...]

    def errors(self) -> dict[str, float]:
        """simulated / live − 1 by metric."""
        return {
            name: _off(metric.of(self.simulated), metric.of(self.live)) for name, metric in METRICS.items()
        }

    def live_errors(self) -> dict[str, float]:
        """The last repeat / the first − 1 by metric: how far live is from live; nan with one repeat."""
        first, last = self.repeats[0], self.repeats[-1]
        same = len(self.repeats) < 2
        return {
            name: nan if same else _off(metric.of(last), metric.of(first)) for name, metric in METRICS.items()
        }


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one metric over cells. mean, p95: of the absolute errors; bias: mean of the signed ones."""

    mean: float
    p95: float
    bias: float
    worst: float
    cells: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """Throughput of one scenario's policies.

    tau: Kendall's, of all pairs. separated: pairs whose live 95 % intervals do not overlap; alike: those of them that
    the simulation puts in the same order. picked: the simulation's best; best: live; regret: what picked loses live.
    """

    tau: float
    separated: int
    alike: int
    picked: str
    best: str
    regret: float


def errors_over(errors: Sequence[float]) -> Errors:
    """Errors of one metric over cells; cells without a figure do not count."""
    known = np.array([error for error in errors if isfinite(error)])
    if not len(known):
        return Errors(nan, nan, nan, nan, 0)
    size = np.abs(known)
    worst = float(known[size.argmax()])
    return Errors(float(size.mean()), float(np.percentile(size, 95)), float(known.mean()), worst, len(known))


def ranking(cells: Sequence[Compared]) -> Ranking:
    """The order of one scenario's policies."""
    live = {cell.policy: cell.live.tokens_per_s for cell in cells}
    simulated = {cell.policy: cell.simulated.tokens_per_s for cell in cells}
    separated = [
        (one.policy, other.policy)
        for one, other in combinations(cells, 2)
        if _apart(interval(one.live.rates), interval(other.live.rates))
    ]
    alike = sum(
        (live[one] - live[other]) * (simulated[one] - simulated[other]) > 0 for one, other in separated
    )
    picked, best = max(simulated, key=simulated.__getitem__), max(live, key=live.__getitem__)
    regret = 1 - live[picked] / live[best]
    return Ranking(kendall_tau(live, simulated), len(separated), alike, picked, best, regret)


def kendall_tau(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    """Kendall's τ (a) of two scores: (pairs in the same order − pairs in the opposite one) / pairs; nan for one."""
    pairs = list(combinations(ours, 2))
    order = [np.sign(ours[a] - ours[b]) * np.sign(theirs[a] - theirs[b]) for a, b in pairs]
    return float(np.mean(order)) if order else nan


def interval(rates: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of slices."""
    half = T_95 * float(np.std(rates, ddof=1)) / sqrt(len(rates)) if len(rates) > 1 else 0.0
    centre = float(np.mean(rates))
    return centre - half, centre + half


def _apart(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[1] < other[0] or other[1] < one[0]


def _off(value: float, true: float) -> float:
    return value / true - 1 if true else nan
