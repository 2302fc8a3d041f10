"""`outrider train-awc`: sweep, examples, fit, report."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from cli.train_awc.cell import draw_cell
from cli.train_awc.dataset import Examples, read_examples
from cli.train_awc.fit import fit, held_out_costs, judge
from cli.train_awc.sweep import sweep
from shared.compute.acceptance_record import read_record
from shared.planning.windows.cost_network import CostNetwork, write_weights

REPORT: Final = "report.json"
WEIGHTS: Final = "awc_weights.json"
ROWS: Final = {
    "awc": "awc",
    "goodput": "goodput",
    "static_4": "static, k = 4",
    "best_static": "static, the best k of all cells",
    "best_static_of_each_cell": "static, the best k of each cell",
}


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The command's options. jobs: processes at a time."""

    cells: int
    seed: int
    recordings: tuple[Path, ...]
    jobs: int
    out: Path


def train(options: TrainOptions, console: Console) -> None:
    """Make OUT/awc_weights.json and OUT/report.json. Raises CommandError, RecordError, OSError."""
    for recording in options.recordings:
        read_record(recording)  # before the first simulation
    recordings = tuple(recording.resolve() for recording in options.recordings)
    files = sweep(options.cells, options.seed, recordings, options.jobs, options.out / "cells", console)
    examples = read_examples(files)
    console.print(f"fitting to {len(examples.cell)} looks of {options.cells} cells")
    network = fitted(examples, options)
    write_weights(options.out / WEIGHTS, network)
    report = json.dumps(network.about, indent=1) + "\n"
    (options.out / REPORT).write_text(report, encoding="utf-8")
    for name, title in ROWS.items():
        regrets = [100 * of[name] for of in network.about["held_out_regret"].values()]
        console.print(f"{title:34}" + "".join(f"{one:12.1f} %" for one in regrets), highlight=False)
    policies = "".join(f"{policy:>14}" for policy in network.about["held_out_regret"])
    console.print(f"{'more a token than the best length':34}{policies}", highlight=False)
    console.print(f"of each moment, in cells not seen. Weights: {options.out / WEIGHTS}", soft_wrap=True)


def fitted(examples: Examples, options: TrainOptions) -> CostNetwork:
    """The network of all cells, with its origin, and what such a network is worth in cells that it has not seen."""
    network = fit(examples, options.seed, {})
    costs = held_out_costs(examples, options.seed)
    cells = [draw_cell(number, options.seed, options.recordings) for number in range(options.cells)]
    policy = np.array([cells[number].policy for number in examples.cell])
    regret = {"all": judge(costs, examples)}
    for name in sorted(set(policy)):
        regret[name] = judge(costs[policy == name], examples.of(policy == name))
    about: dict[str, Any] = {
        "cells": options.cells,
        "seed": options.seed,
        "recordings": [recording.name for recording in options.recordings],
        "looks": len(examples.cell),
        "data_sha256": examples.digest,
        "held_out_regret": regret,
        "probe": _probe(network, examples),
    }
    return replace(network, about=about)


def _probe(network: CostNetwork, examples: Examples) -> dict[str, Any]:
    """One example and its predicted costs, by which a test sees that features still mean what they did."""
    features, predicted = examples.features[0].astype("f4"), examples.predicted[0].astype("f4")
    costs = network.log_costs(features, predicted)
    return {
        name: [round(float(v), 6) for v in values]
        for name, values in (("features", features), ("predicted", predicted), ("log_costs", costs))
    }
