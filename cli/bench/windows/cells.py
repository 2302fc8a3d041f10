"""The runs of a comparison: every controller in every cell of round-trip time, load, recording and seed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import yaml

from cli.bench.windows.capacity import saturating_rate
from cli.command.errors import CommandError
from cli.simulate.options import SimulateOptions
from cli.simulate.planned_run import PlannedRun, plan_runs
from cli.simulate.sweep_field import SEED, SweepField, with_value
from loadgen.run.runner import ClosedLoop
from shared.compute.acceptance_record import RecordError, read_record
from shared.planning.windows import WINDOW_NAMES
from shared.scenario.scenario import checked, read_fields
from simulator.load import load_plan
from simulator.run import MODEL
from simulator.scenario import SimulatedScenario

DELAY, RATE = "devices.*.link.delay", "load.rate"
STATIC_K: Final = 4
BATCHING: Final = "fixed-k"  # of all controllers
BASELINE, ORACLE = "static", "oracle"
COMPARED: Final = (
    *(name for name in WINDOW_NAMES if name not in ("fused", "flowspec")),
    ORACLE,
)  # this verifier has no drafter
SCENARIO: Final = Path(__file__).resolve().parents[3] / "scenarios" / "windows.yaml"
RECORDINGS: Final = SCENARIO.parent / "recordings"


@dataclass(frozen=True, slots=True)
class Cell:
    """Where controllers are compared. recording: the file's name. rtt_ms: of the links. load: share of saturation."""

    recording: str
    rtt_ms: float
    load: float

    def __str__(self) -> str:
        return f"{self.recording}, {self.rtt_ms:g} ms, load {self.load:g}"


@dataclass(frozen=True, slots=True)
class CellRun:
    """One controller in a cell, with one seed. rate: requests per second."""

    cell: Cell
    controller: str
    rate: float
    run: PlannedRun


@dataclass(frozen=True, slots=True)
class Grid:
    """What is compared. scenario: of devices, verifier and requests; duration: seconds of arrivals, 0 = its own."""

    scenario: Path
    recordings: Sequence[Path]
    rtts_ms: Sequence[float]
    loads: Sequence[float]
    seeds: Sequence[int]
    controllers: Sequence[str]
    duration: float = 0.0

    def runs(self, options: SimulateOptions) -> list[CellRun]:
        """All runs, checked. Their scenario files are below options.out. Raises CommandError, ScenarioError."""
        return [run for recording in self.recordings for run in self._of_recording(recording, options)]

    def _of_recording(self, recording: Path, options: SimulateOptions) -> Iterator[CellRun]:
        data = with_recording(self.scenario, recording)
        if self.duration:
            data["load"] = {**data["load"], "duration": self.duration}
        file = options.out / f"{recording.stem}.yaml"
        write_scenario(file, data)
        for rtt_ms in self.rtts_ms:
            delay = f"{rtt_ms / 2:g} ms"
            saturated = rate_at_saturation(with_value(data, DELAY, delay), recording)
            loads = {round(load * saturated, 3): load for load in self.loads}
            fields = [
                SweepField(DELAY, [delay]),
                SweepField(RATE, list(loads)),
                SweepField(SEED, list(self.seeds)),
            ]
            only = ",".join(policy_word(controller) for controller in self.controllers)
            for run in plan_runs(replace(options, scenarios=[file], only=only), fields):
                rate = run.fields[RATE]
                cell = Cell(recording.stem, rtt_ms, loads[rate])
                yield CellRun(cell, run.simulation.policy.window, rate, run)


def policy_word(controller: str) -> str:
    """A controller as `--only` names it, with the length at which it begins."""
    return f"{BATCHING}+{controller}:{STATIC_K}"


def with_recording(scenario: Path, recording: Path) -> dict[str, Any]:
    """The scenario's fields with another recording. Raises CommandError, ScenarioError."""
    data = read_fields(scenario)
    if not data.get("load"):
        raise CommandError(f"{scenario}: load: it is missing; the grid sets its rate")
    return with_value(data, "devices.*.recording", str(recording.resolve()))


def write_scenario(file: Path, data: Mapping[str, Any]) -> None:
    """Write a scenario. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(dict(data), sort_keys=False, width=120), encoding="utf-8")


def rate_at_saturation(data: Mapping[str, Any], recording: Path) -> float:
    """Requests per second at load 1 of a scenario's fields. Raises CommandError, ScenarioError."""
    scenario = checked(SimulatedScenario, data, recording)
    plan = load_plan(scenario.load or {}, scenario.seed, MODEL)
    if isinstance(plan.load, ClosedLoop):
        raise CommandError("load.concurrency: the grid needs arrivals at a rate")
    requests = [planned.request for planned in plan.load]
    try:
        record = read_record(recording).at(requests[0].temperature)
    except RecordError as error:
        raise CommandError(str(error)) from None
    return saturating_rate(
        record,
        scenario.fleet(scenario.core.pass_cost.cost_ms([(1, 128)])),
        scenario.core.pass_cost.server,
        STATIC_K,
        fmean(len(request.prompt) for request in requests),
        fmean(request.max_tokens for request in requests),
    )
