"""Fits the serving costs: what a simulation has to know of a live stack beyond passes by themselves.

They are fitted to live runs of one scenario, the tuning one, by simulating the same. The scenarios that are validated
have no part in it. Five numbers are chosen so that passes, rounds and first tokens take as long as live ones: the
factor of passes, a hop, a message in the core and on a device, a request. Rounds with drafts, rounds without and first
tokens cross different numbers of these, which tells them apart. A hop is half a commit at most, which is measured.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean
from typing import Any, Final

import numpy as np

from cli.validate.cell import Cell, LiveRepeat
from cli.validate.run_metrics import RunMetrics
from shared.planning.profile import ServingCosts

START: Final = (1.0, 0.3, 0.2, 1.0, 1.0)  # pass_scale, hop_ms, message_ms, device_ms, request_ms
MIN: Final = (0.3, 0.02, 0.0, 0.0, 0.0)
MAX: Final = (5.0, 20.0, 50.0, 50.0, 200.0)
STEPS: Final = (
    0.03,
    0.5,
    0.5,
    0.5,
    2.0,
)  # of derivatives, as shares: a run's figures are smooth only over larger ones
TRIALS: Final = 6
FIRST_WEIGHT: Final = 0.5  # of first tokens: there are fewer of them than of rounds

Simulate = Callable[[Cell, ServingCosts], tuple[RunMetrics, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Tuned:
    """A live run of a tuning cell."""

    cell: Cell
    live: LiveRepeat


def fit(runs: Sequence[Tuned], simulate: Simulate) -> ServingCosts:
    """The serving costs with the least squares of log(simulated / live)."""
    from scipy.optimize import least_squares  # slow to load

    names, probe_ms = tuple(run.cell.name for run in runs), fmean(run.live.probe_ms for run in runs)
    maxima = list(MAX)
    maxima[1] = max(2 * MIN[1], fmean(run.live.stack["mean_commit_ms"] for run in runs) / 2)
    start = np.minimum(START, 0.9 * np.array(maxima))

    def residuals(values: "np.ndarray") -> list[float]:
        costs = _costs(values, probe_ms, names)
        return [off for run in runs for off in _off(run, *simulate(run.cell, costs.at(run.live.probe_ms)))]

    found = least_squares(
        residuals, start, bounds=(MIN, maxima), x_scale=np.abs(start), diff_step=STEPS, max_nfev=TRIALS
    )
    return _costs(found.x, probe_ms, names)


def _costs(values: "np.ndarray", probe_ms: float, names: tuple[str, ...]) -> ServingCosts:
    scale, hop_ms, message_ms, device_ms, request_ms = (float(value) for value in values)
    return ServingCosts(
        pass_scale=scale,
        hop_ms=hop_ms,
        message_ms=message_ms,
        device_ms=device_ms,
        request_ms=request_ms,
        probe_ms=probe_ms,
        fitted_on=names,
    )


def _off(run: Tuned, simulated: RunMetrics, stack: dict[str, Any]) -> Iterator[float]:
    """log(simulated / live) of the mean pass, the mean round and the median first token; 0.0 where there was none."""
    live = run.live.metrics
    yield _log_ratio(stack["mean_pass_ms"], run.live.stack["mean_pass_ms"])
    yield _log_ratio(simulated.round.mean, live.round.mean)
    yield FIRST_WEIGHT * _log_ratio(simulated.ttft.p50, live.ttft.p50)


def _log_ratio(simulated: float, live: float) -> float:
    return log(simulated / live) if simulated > 0 and live > 0 else 0.0  # nan is neither
