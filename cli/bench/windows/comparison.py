"""What controllers achieve in each cell, against a fixed length and against the oracle."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from cli.bench.windows.cells import BASELINE, ORACLE, Cell, CellRun
from cli.simulate.finished import is_finished
from loadgen.metrics.summary import Window, answered, tpot_ms
from loadgen.request import Record
from loadgen.results.rows import record_of

MEASURES: Final = ("speed", "throughput")


@dataclass(frozen=True, slots=True)
class Metrics:
    """speed: tokens per second of one user, 1 / TPOT, mean over requests. throughput: tokens per second of all."""

    speed: float
    throughput: float

    @classmethod
    def mean(cls, some: Sequence["Metrics"]) -> "Metrics":
        """The mean over seeds."""
        return cls(*(fmean(getattr(one, measure) for one in some) for measure in MEASURES))


@dataclass(frozen=True, slots=True)
class CellResult:
    """A cell's metrics by controller, means over seeds. rate: requests per second."""

    cell: Cell
    rate: float
    metrics: Mapping[str, Metrics]

    def ratio(self, controller: str, measure: str, base: str = BASELINE) -> float:
        """A controller's metric over that of another."""
        ours, theirs = (getattr(self.metrics[name], measure) for name in (controller, base))
        return float(ours / theirs)

    def regret(self, controller: str, measure: str) -> float:
        """The share of the oracle's figure that a controller misses; negative where it is better."""
        return 1 - self.ratio(controller, measure, ORACLE)


def metrics_of(run: CellRun) -> Metrics:
    """The metrics of a finished run. Raises OSError, ValueError."""
    body = json.loads(run.run.result.read_text(encoding="utf-8"))
    with (run.run.result.parent / body["requests_file"]).open(encoding="utf-8") as lines:
        records = [record_of(json.loads(line)) for line in lines]
    return Metrics(mean_speed(records, Window(**body["window"])), float(body["figures"]["output_throughput"]))


def mean_speed(records: Iterable[Record], window: Window) -> float:
    """Tokens per second after the first, mean over the requests that are due in the window and have two or more."""
    counted = [record for record in records if window.has(record.scheduled) and answered(record)]
    return fmean(1e3 / tpot_ms(record) for record in counted if record.count > 1)


def results_of(runs: Sequence[CellRun]) -> list[CellResult]:
    """One result per cell of which all runs are finished, in the order of the runs."""
    open_cells = {run.cell for run in runs if not is_finished(run.run)}
    found: dict[Cell, dict[str, list[Metrics]]] = defaultdict(lambda: defaultdict(list))
    rates: dict[Cell, float] = {}
    for run in runs:
        if run.cell in open_cells:
            continue
        found[run.cell][run.controller].append(metrics_of(run))
        rates[run.cell] = run.rate
    return [
        CellResult(cell, rates[cell], {name: Metrics.mean(some) for name, some in by_name.items()})
        for cell, by_name in found.items()
    ]


def summary(results: Sequence[CellResult], controller: str) -> dict[str, Any]:
    """A controller over all cells: mean and least ratio to the fixed length, mean and greatest regret."""
    row: dict[str, Any] = {"controller": controller}
    for measure in MEASURES:
        ratios = {result.cell: result.ratio(controller, measure) for result in results}
        worst = min(ratios, key=lambda cell: ratios[cell])
        row |= {
            measure: fmean(ratios.values()),
            f"{measure}_least": ratios[worst],
            f"{measure}_least_at": str(worst),
        }
        if all(ORACLE in result.metrics for result in results):
            regrets = {result.cell: result.regret(controller, measure) for result in results}
            worst = max(regrets, key=lambda cell: regrets[cell])
            row |= {
                f"{measure}_regret": fmean(regrets.values()),
                f"{measure}_regret_most": regrets[worst],
                f"{measure}_regret_most_at": str(worst),
            }
    return row


def as_rows(results: Sequence[CellResult]) -> list[dict[str, Any]]:
    """The cells for the result file."""
    return [
        {
            "recording": result.cell.recording,
            "rtt_ms": result.cell.rtt_ms,
            "load": result.cell.load,
            "rate": result.rate,
            **{
                name: {measure: round(getattr(metrics, measure), 3) for measure in MEASURES}
                for name, metrics in result.metrics.items()
            },
        }
        for result in results
    ]
