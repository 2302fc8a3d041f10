"""Tables and JSON of a validation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console

from cli.validate.agreement import Compared, errors_over, ranking
from cli.validate.cell import LiveRepeat
from cli.validate.run_metrics import METRICS, RunMetrics
from loadgen.measuring.table import table
from shared.planning.profile import ServingCosts

SHOWN: Final = ("throughput", "TTFT p50", "TPOT p50", "round p50")
CELLS: Final = "live figures, and in brackets how far the simulation is off; TTFT, TPOT, round: medians, ms"
ERRORS: Final = "|error|: of simulated / live − 1; live: the same of the second repeat against the first"
RANKS: Final = (
    "τ: Kendall's, of policies by throughput; alike: of the pairs whose live intervals separate; regret: of the "
    "simulation's pick against the best, live"
)


def body(
    cells: Sequence[Compared], live: Mapping[str, Sequence[LiveRepeat]], serving: ServingCosts
) -> dict[str, Any]:
    """The result. live: the kept runs by the cell's name."""
    errors = {name: errors_over([cell.errors()[name] for cell in cells]) for name in METRICS}
    live_errors = {name: errors_over([cell.live_errors()[name] for cell in cells]) for name in METRICS}
    return {
        "serving": serving.model_dump(),
        "errors": {name: asdict(of) for name, of in errors.items()},
        "live_errors": {name: asdict(of) for name, of in live_errors.items()},
        "rankings": {
            scenario: asdict(ranking([cell for cell in cells if cell.scenario == scenario]))
            for scenario in dict.fromkeys(cell.scenario for cell in cells)
        },
        "cells": [_cell(cell, live[f"{cell.scenario} {cell.policy}"]) for cell in cells],
    }


def _cell(cell: Compared, runs: Sequence[LiveRepeat]) -> dict[str, Any]:
    return {
        "scenario": cell.scenario,
        "policy": cell.policy,
        "live": _values(cell.live),
        "simulated": _values(cell.simulated),
        "errors": cell.errors(),
        "live_errors": cell.live_errors(),
        "busy": [run.stack["verifier_utilisation"] for run in runs],
        "drift": [run.drift for run in runs],
        "steady": all(run.steady for run in runs),
        "requests": [run.metrics.requests for run in runs],
        "wrong_texts": sum(len(run.wrong) for run in runs),
    }


def _values(metrics: RunMetrics) -> dict[str, float]:
    return {name: metric.of(metrics) for name, metric in METRICS.items()}


def show(console: Console, cells: Sequence[Compared], result: Mapping[str, Any]) -> None:
    """Print cells, errors and rankings. result: of `body`."""
    rows = [_row(cell) for cell in result["cells"]]
    columns = {"": "{name}", **{name: f"{{{name}}}" for name in SHOWN}, "busy": "{busy:.0%}"}
    console.print(table(rows, columns, "cells", CELLS))
    errors = [
        {"name": name, "live": result["live_errors"][name], **of} for name, of in result["errors"].items()
    ]
    over = {
        "": "{name}",
        "mean |error|": "{mean:.1%}",
        "p95 |error|": "{p95:.1%}",
        "bias": "{bias:+.1%}",
        "worst": "{worst:+.1%}",
        "live mean": "{live[mean]:.1%}",
        "live p95": "{live[p95]:.1%}",
    }
    console.print(table(errors, over, f"errors over {len(cells)} cells", ERRORS))
    order = [{"name": name, **of} for name, of in result["rankings"].items()]
    ranks = {
        "": "{name}",
        "τ": "{tau:.2f}",
        "alike": "{alike} of {separated}",
        "picked": "{picked}",
        "best live": "{best}",
        "regret": "{regret:.1%}",
    }
    console.print(table(order, ranks, "policies", RANKS))
    serving = result["serving"]
    console.print(
        f"serving costs: passes × {serving['pass_scale']:.3f}, hop {serving['hop_ms']:.2f} ms, a message "
        f"{serving['message_ms']:.2f} ms, on a device {serving['device_ms']:.2f} ms, a request "
        f"{serving['request_ms']:.1f} ms; fitted on "
        f"{', '.join(serving['fitted_on'])}"
    )


def _row(cell: Mapping[str, Any]) -> dict[str, Any]:
    unsteady = "" if cell["steady"] else " (unsteady)"
    return {
        "name": f"{cell['scenario']} {cell['policy']}{unsteady}",
        "busy": cell["busy"][0],
        **{name: f"{cell['live'][name]:.1f} ({cell['errors'][name]:+.1%})" for name in SHOWN},
    }
