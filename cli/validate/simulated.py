"""A cell simulated: the same users, devices and policy on virtual time."""

from typing import Any

from cli.validate.cell import Cell
from cli.validate.core_model import Core, Texts
from cli.validate.run_metrics import RunMetrics, mean_of, metrics_of
from loadgen.metrics.summary import Window
from loadgen.run.drive import RunState
from shared.planning.profile import ServingCosts
from simulator.run import simulate
from simulator.simulation import Simulation


def simulate_cell(
    cell: Cell, core: Core, texts: Texts, serving: ServingCosts, seeds: int = 1
) -> tuple[RunMetrics, dict[str, Any]]:
    """Metrics of the cell, means over as many seeds, and what the services counted with the last of them.

    A seed draws the chance of messages. Requests, and where drafts are right, are the scenario's, as live.
    """
    runs = [_simulate(cell, core, texts, serving, seed) for seed in range(1, 1 + seeds)]
    return mean_of([run for run, _ in runs]), runs[-1][1]


def _simulate(
    cell: Cell, core: Core, texts: Texts, serving: ServingCosts, seed: int
) -> tuple[RunMetrics, dict[str, Any]]:
    simulation = Simulation(
        policy=cell.policy,
        seed=seed,
        settle_s=cell.settle_s,
        measure_s=cell.measure_s,
        serving=serving,
        **core.simulated(cell.fields, texts),
    )
    state = RunState()
    outcome = simulate(simulation, state)
    return metrics_of(state.records, Window(state.started, state.last_due)), dict(outcome.body["stack"])
