"""Window controllers after a step in mid-run: how soon each is as good again as it gets.

    python -m cli.bench.windows.steps [--seeds 1,2,3] [--jobs 2]         # goes on where it was stopped

The round-trip time rises from 20 to 200 ms and returns, or the load from 0.3 to 1.1 and back. Speed is tokens per
second of a user, over four seconds that roll, all seeds together, as a share of the oracle's at the same moment. Nobody
without foresight comes within 5 % of the oracle, static or not: so a controller is back when its share stays within 5 %
of what it is in the last third of the phase.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.console import Console

from cli.bench.windows.cells import (
    BASELINE,
    COMPARED,
    DELAY,
    ORACLE,
    RECORDINGS,
    SCENARIO,
    policy_word,
    rate_at_saturation,
    with_recording,
    write_scenario,
)
from cli.bench.windows.finish import finish
from cli.bench.windows.picture import draw_steps
from cli.bench.windows.rolling import Floats, rolling_speed, settling
from cli.command.bench_main import bench_main
from cli.command.options import STATE
from cli.simulate.options import SimulateOptions
from cli.simulate.planned_run import PlannedRun, plan_runs
from cli.simulate.sweep_field import SEED, SweepField, with_value
from loadgen.measuring.result import write_measurement
from loadgen.measuring.table import table
from loadgen.results.rows import record_of

PHASE_S: Final = 40.0  # before the step, after it, and after it is undone
NEAR_MS, FAR_MS = 20.0, 200.0
LOW, MIDDLE, HIGH = 0.3, 0.4, 1.1  # loads; the middle one is served at either round-trip time
COLUMNS: Final = {
    "": "{controller}",
    "step": "{step}",
    "share before": "{before_share:.0%}",
    "after": "{after_share:.0%}",
    "back in, s": "{after_seconds:.1f}",
    "undone": "{undone_share:.0%}",
    "back in, s ": "{undone_seconds:.1f}",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is made at PHASE_S and undone after as long again: its name, and the scenario's fields."""

    name: str
    data: Mapping[str, Any]


def steps_of(scenario: Path, recording: Path) -> list[Step]:
    """The steps in round-trip time and in load. Raises CommandError, ScenarioError."""
    data = with_value(with_recording(scenario, recording), DELAY, f"{NEAR_MS / 2:g} ms")
    saturated = rate_at_saturation(data, recording)

    def loaded(**load: Any) -> dict[str, Any]:
        usual = {name: value for name, value in data["load"].items() if name not in ("rate", "duration")}
        return {**data, "load": {**usual, "warmup": 0, "cooldown": 0, **load}}

    faults = [
        {"at": f"{PHASE_S:g} s", "delay": f"{FAR_MS / 2:g} ms"},
        {"at": f"{2 * PHASE_S:g} s", "delay": f"{NEAR_MS / 2:g} ms"},
    ]
    stages = " ".join(f"{load * saturated:.3f}:{PHASE_S:g}" for load in (LOW, HIGH, LOW))
    return [
        Step("rtt", {**loaded(rate=round(MIDDLE * saturated, 3), duration=3 * PHASE_S), "faults": faults}),
        Step("load", loaded(stages=stages)),
    ]


def planned(
    step: Step, controllers: Sequence[str], seeds: Sequence[int], options: SimulateOptions
) -> list[PlannedRun]:
    """The runs of a step."""
    file = options.out / f"step-{step.name}.yaml"
    write_scenario(file, step.data)
    only = ",".join(map(policy_word, controllers))
    return plan_runs(
        SimulateOptions([file], only, out=options.out, jobs=options.jobs), [SweepField(SEED, list(seeds))]
    )


def shares_of(runs: Sequence[PlannedRun]) -> tuple[Floats, dict[str, Floats]]:
    """Times [n], and each controller's share of the oracle's speed at these, [n]. Raises OSError, ValueError."""
    records: dict[str, list[Any]] = {}
    for run in runs:
        with run.result.with_suffix(".requests.jsonl").open(encoding="utf-8") as lines:
            of_run = [record_of(json.loads(line)) for line in lines]
        records.setdefault(run.simulation.policy.window, []).extend(of_run)
    found = {name: rolling_speed(some, 3 * PHASE_S) for name, some in records.items()}
    times, best = found[ORACLE]
    return times, {name: speeds / best for name, (_, speeds) in found.items()}


def rows_of(step: str, times: Floats, shares: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """One row per controller."""
    phases = ("before", "after", "undone")
    rows: list[dict[str, Any]] = []
    for name, values in shares.items():
        row: dict[str, Any] = {"step": step, "controller": name}
        for at, phase in enumerate(phases):
            found = settling(times, values, at * PHASE_S, (at + 1) * PHASE_S)
            row |= {f"{phase}_share": found.share, f"{phase}_seconds": found.seconds}
        rows.append(row)
    return rows


def main(
    recording: Annotated[Path, typer.Option(exists=True, dir_okay=False)] = RECORDINGS / "smollm2.json",
    controllers: Annotated[str, typer.Option(help="Window controllers.")] = ",".join(COMPARED),
    seeds: Annotated[str, typer.Option(help="Seeds, whose runs count as one.")] = "1,2",
    scenario: Annotated[Path, typer.Option(exists=True, dir_okay=False)] = SCENARIO,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time.")] = 1,
    runs: Annotated[Path, typer.Option(help="Folder of the single runs.")] = STATE / "windows",
    out: Annotated[Path, typer.Option(help="Result; the picture lies beside it.")] = STATE
    / "windows-steps.json",
) -> None:
    """Compare window controllers after a step in round-trip time and one in load."""
    names = list(dict.fromkeys([BASELINE, *controllers.split(","), ORACLE]))
    options = SimulateOptions([], jobs=jobs, out=runs)
    by_step = {
        step.name: planned(step, names, [int(seed) for seed in seeds.split(",")], options)
        for step in steps_of(scenario, recording)
    }
    finish([run for some in by_step.values() for run in some], options)
    found = {name: shares_of(some) for name, some in by_step.items()}
    rows = [row for name, (times, shares) in found.items() for row in rows_of(name, times, shares)]
    write_measurement(out, "windows-steps", {"recording": recording.name, "seeds": seeds}, {"rows": rows})
    draw_steps(out.with_suffix(".png"), found, np.arange(1, 3) * PHASE_S)
    console = Console()
    console.print(table(rows, COLUMNS, "share of the oracle's speed, and seconds until it is back"))
    console.print(f"written to {out} and {out.with_suffix('.png')}", soft_wrap=True)


if __name__ == "__main__":
    bench_main(main)
