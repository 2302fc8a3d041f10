"""Simulates one cell under every arm, with common random numbers: `python -m cli.train_awc.cell_run NUMBER SEED OUT`.

A process of its own for each cell. The file has the looks of all arms, and what each request took under each arm.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from cli.train_awc.arm import Arm, Look
from cli.train_awc.cell import ARMS, Cell, draw_cell
from loadgen.request import Record
from loadgen.run.drive import RunState
from shared.compute.acceptance_record import Replay, read_record
from shared.scenario.scenario import PolicyConfig
from simulator.load import plan_of
from simulator.run import MODEL, simulate
from simulator.simulation import Simulation

Arrays = dict[str, npt.NDArray[Any]]


def run_cell(cell: Cell) -> Arrays:
    """Simulate the cell under every arm.

    Returns took_ms [arms, requests] (NaN: failed), tokens [requests], and of all looks: features [L, F], predicted
    [L, MAX_K + 1], arm [L], present [L, requests].
    """
    took, tokens, arm_of = [], np.empty(0), []
    looks: list[Look] = []
    for arm, k in enumerate(ARMS):
        seen, records = _run_arm(cell, k)
        took.append([1e3 * (one.ended - one.scheduled) if not one.fault else np.nan for one in records])
        tokens = np.array([one.request.max_tokens for one in records], dtype=float)
        looks += seen
        arm_of += [arm] * len(seen)
    present = np.zeros((len(looks), len(tokens)), dtype=np.bool_)
    for row, look in enumerate(looks):
        present[row, list(look.requests)] = True
    return {
        "took_ms": np.array(took),
        "tokens": tokens,
        "features": np.array([look.features for look in looks]),
        "predicted": np.array([look.predicted for look in looks]),
        "arm": np.array(arm_of),
        "present": present,
    }


def _run_arm(cell: Cell, k: int) -> tuple[list[Look], list[Record]]:
    """One simulation: the arm's looks, and the records in order of arrival."""
    scenario, arm = cell.scenario, Arm("distributed" if k else "none", k)
    recordings = {group.recording for group in scenario.devices if group.recording}
    replays = {name: Replay(read_record(Path(name))) for name in recordings}
    simulation = Simulation(
        scenario,
        PolicyConfig(policy=cell.policy, k=k or 1),
        scenario.seed,
        plan_of(scenario, scenario.seed, MODEL),
        replays=replays,
        window=lambda: arm,
    )
    state = RunState()
    simulate(simulation, state)
    return arm.looks, sorted(state.records, key=lambda record: record.scheduled)


def write_arrays(path: Path, arrays: Arrays, digest: str) -> None:
    """Write a cell's file atomically. Raises OSError."""
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, digest=np.array(digest), **arrays)
    partial.replace(path)


def main(arguments: Sequence[str]) -> None:
    """Simulate one cell. Arguments: its number, the sweep's seed, the file, recordings."""
    number, seed, out, *recordings = arguments
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    cell = draw_cell(int(number), int(seed), tuple(Path(name) for name in recordings))
    write_arrays(Path(out), run_cell(cell), cell.digest)


if __name__ == "__main__":
    main(sys.argv[1:])
