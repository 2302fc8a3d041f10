"""Fits the serving costs: how much longer a pass takes while the stack serves, and what a hop takes.

Both are fitted to live runs of one scenario, the tuning one, by simulating the same. The scenarios that are validated
have no part in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import fmean
from typing import Any, Final

from cli.validate.cell import Cell, LiveRepeat
from cli.validate.figures import Figures
from shared.planning.profile import ServingCosts

FIRST_HOP_MS: Final = 0.25
STEP_MS: Final = 0.25  # of the second trial
TRIALS: Final = 6
CLOSE: Final = 0.002  # rounds on average as long as live ones

Simulate = Callable[[Cell, ServingCosts], tuple[Figures, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Tuned:
    """A live run of a tuning cell."""

    cell: Cell
    live: LiveRepeat


def fit(runs: Sequence[Tuned], simulate: Simulate, on_trial: Callable[[ServingCosts], None]) -> ServingCosts:
    """Serving costs with which passes, and rounds on average, take as long as live. on_trial: after each trial.

    The hop is found by the secant method; each trial also corrects the pass.
    """
    names = tuple(run.cell.name for run in runs)
    costs = ServingCosts(pass_scale=1.0, hop_ms=FIRST_HOP_MS, fitted_on=names)
    before: tuple[float, float] | None = None  # hop, and by how much rounds were too long
    for _ in range(TRIALS):
        passes, rounds = _off(runs, costs, simulate)
        on_trial(costs)
        scale = costs.pass_scale / exp(passes)
        if abs(rounds) < CLOSE and abs(passes) < CLOSE:
            return costs
        hop, before = _next_hop(costs.hop_ms, rounds, before), (costs.hop_ms, rounds)
        costs = costs.model_copy(update={"pass_scale": scale, "hop_ms": hop})
    return costs


def _off(runs: Sequence[Tuned], costs: ServingCosts, simulate: Simulate) -> tuple[float, float]:
    """Mean logarithms of simulated / live: of the mean pass, and of the mean round."""
    passes, rounds = [], []
    for run in runs:
        figures, stack = simulate(run.cell, costs)
        passes.append(log(stack["mean_pass_ms"] / run.live.stack["mean_pass_ms"]))
        rounds.append(log(figures.round.mean / run.live.figures.round.mean))
    return fmean(passes), fmean(rounds)


def _next_hop(hop_ms: float, off: float, before: tuple[float, float] | None) -> float:
    if before is None:
        return max(0.0, hop_ms - STEP_MS if off > 0 else hop_ms + STEP_MS)
    slope = (off - before[1]) / (hop_ms - before[0]) if hop_ms != before[0] else 0.0
    if slope <= 0:  # chance is larger than the step
        return max(0.0, hop_ms - STEP_MS if off > 0 else hop_ms + STEP_MS)
    return max(0.0, hop_ms - off / slope)
