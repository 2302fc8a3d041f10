"""A cell simulated: the same users, devices and policy on virtual time."""

from typing import Any

from cli.validate.cell import Cell
from cli.validate.core_model import Core, Texts
from cli.validate.figures import Figures, figures
from loadgen.metrics.summary import Window
from loadgen.run.drive import RunState
from shared.planning.profile import ServingCosts
from simulator.run import simulate
from simulator.simulation import Simulation


def simulate_cell(
    cell: Cell, core: Core, texts: Texts, serving: ServingCosts
) -> tuple[Figures, dict[str, Any]]:
    """Figures of the cell, and what the services counted."""
    simulation = Simulation(
        policy=cell.policy,
        settle_s=cell.settle_s,
        measure_s=cell.measure_s,
        serving=serving,
        **core.simulated(cell.fields, texts),
    )
    state = RunState()
    outcome = simulate(simulation, state)
    return figures(state.records, Window(state.started, state.last_due)), dict(outcome.body["stack"])
