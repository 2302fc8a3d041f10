"""Speed of the simulator: verified rounds per second of wall-clock time, by number of devices.

    python -m cli.bench.simulator [--devices 14,64] [--repeats 3] [--against CHECKOUT]
    python -m cli.bench.simulator --devices 14,64,256,1000,4000 --picture docs/results/simulator-speed.png
    python -m cli.bench.simulator --calls --against CHECKOUT
    python -m cli.bench.simulator --scenario scenarios/thousand.yaml --policy outrider --verifiers 24

Without a scenario: equal users as in the DiP-SD paper (its server's cost law, 33.9 ms for a drafted token, α = 0.78,
links of 3 ms there and back) under fixed-k 3, with a verifier for every 14 devices, so that a device has as many rounds
a second at every size. A round is a verified row whose tokens have reached the client. Counted from the moment when
every user has its first token. Each measurement is a process of its own; --against measures the simulator of another
checkout by turns, and ratios are within a repeat.

The simulator is one thread: on an idle core its CPU time is the wall-clock time. The ratio is of rounds per second of
CPU time, since other work on the machine stretches the wall-clock time by chance. With --calls the function calls of a
round are counted (cProfile), which no other work changes; rates are then those of a profiled run. Peak memory is that
of the whole process.
"""

import cProfile
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from cli.command.bench_main import bench_main
from cli.command.errors import CommandError
from cli.command.options import STATE
from loadgen.measuring.arms import measure_arms
from loadgen.measuring.intervals import mean_ratio
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from loadgen.measuring.table import interval, table
from loadgen.request import Record
from loadgen.run.drive import RunState
from shared.planning.paper_setting import COMM_MS, MEMORY_BYTES, SERVER, draft_ms
from shared.scenario.scenario import PolicyConfig
from simulator.client import SimulatedClient
from simulator.run import simulate
from simulator.scenario import SimulatedScenario, read_simulated
from simulator.simulation import Simulation

ROOT: Final = Path(__file__).resolve().parents[2]
PER_VERIFIER: Final = 14
COLUMNS: Final = {
    "devices": "{devices}",
    "rounds/s": "{rounds_per_s:.0f}",
    "× real time": "{times_real:.2f}",
    "rounds/CPU s": "{rounds_per_cpu_s:.0f}",
    "µs/round": "{us_per_round:.0f}",
    "peak MiB": "{peak_mib:.0f}",
    "start s": "{start_s:.1f}",
    "calls/round": "{calls_per_round:.0f}",
    "before": "{before:.0f}",
    "ratio": interval("ratio"),
}
BY_CALLS: Final = "calls_per_round"
BY_TIME: Final = "rounds_per_cpu_s"


@dataclass(frozen=True, slots=True)
class Case:
    """What is simulated. scenario: a file, "" = the paper's users. seconds: measured, of virtual time."""

    devices: int
    seconds: float
    scenario: str = ""
    policy: str = "fixed-k"
    k: int = 3
    verifiers: int = 0
    calls: bool = False

    def simulation(self) -> Simulation:
        """The case for the simulator. Raises ScenarioError."""
        scenario = read_simulated(Path(self.scenario)) if self.scenario else paper_like(self.devices)
        if self.verifiers:
            core = scenario.core.model_copy(update={"verifiers": self.verifiers})
            scenario = scenario.model_copy(update={"core": core})
        policy = PolicyConfig(policy=self.policy, k=self.k)
        return Simulation(scenario, policy, scenario.seed, settle_s=1.0, measure_s=self.seconds)


@dataclass(frozen=True, slots=True)
class Arm:
    """A case, on the simulator of a checkout."""

    case: Case
    checkout: str


class Stopwatch:
    """Marks, at whole virtual seconds: (virtual time, wall-clock time, CPU time of this process), in seconds.

    seconds: of virtual time in which calls are counted, after a first one; 0 = none. calls_per_round: function calls of
    Python and of C in that time, for each round that ended in it.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.marks: list[tuple[float, float, float]] = []
        self.calls_per_round = 0.0
        self._profile, self._seconds = cProfile.Profile(), seconds
        self._begun: float | None = None  # virtual time of the first counted call

    def __call__(self, state: RunState, client: SimulatedClient) -> None:
        now = client.now()
        self.marks.append((now, time.perf_counter(), time.process_time()))
        if not self._seconds or not state.started:
            return
        if self._begun is None and now >= state.started + 1.0:
            self._begun = now
            self._profile.enable()
        elif self._begun is not None and not self.calls_per_round and now >= self._begun + self._seconds:
            self._profile.disable()
            records = [*state.records, *client.in_flight.values()]
            rounds = sum(self._begun <= chunk.at < now for record in records for chunk in record.chunks)
            self.calls_per_round = sum(entry.callcount for entry in self._profile.getstats()) / rounds

    def rates(self, records: Sequence[Record], start: float) -> dict[str, float]:
        """Rates between the first mark after `start` and the last mark. start: virtual seconds."""
        marks = [mark for mark in self.marks if mark[0] >= start]
        (begin, wall_begin, cpu_begin), (end, wall_end, cpu_end) = marks[0], marks[-1]
        rounds = sum(begin <= chunk.at < end for record in records for chunk in record.chunks)
        wall_s, cpu_s = wall_end - wall_begin, cpu_end - cpu_begin
        return {
            "rounds": rounds,
            "rounds_per_s": rounds / wall_s,
            "rounds_per_cpu_s": rounds / cpu_s,
            "times_real": (end - begin) / wall_s,
            "us_per_round": 1e6 * cpu_s / rounds,
            "start_s": wall_begin,
        }


def paper_like(devices: int) -> SimulatedScenario:
    """Equal users as in the DiP-SD paper. devices: their number."""
    law = {
        "law": "padded",
        "layers": SERVER.layers,
        "hidden": SERVER.hidden,
        "ffn": SERVER.feed_forward,
        "c": SERVER.ms_per_operation,
        "beta_ms": SERVER.beta_ms,
        "memory_bytes": MEMORY_BYTES,
    }
    device = {
        "count": devices,
        "alpha": 0.78,
        "draft": f"{draft_ms():.4f} ms",
        "link": {"delay": f"{COMM_MS / 2} ms"},
    }
    return SimulatedScenario.model_validate(
        {
            "about": "Equal users as in the DiP-SD paper.",
            "seed": 14,
            "core": {"verifiers": -(-devices // PER_VERIFIER), "server": law},
            "devices": [device],
            "policies": [{"policy": "fixed-k", "k": 3}],
        }
    )


def measure_here(case: Case) -> dict[str, float]:
    """Simulate a case in this process and measure it."""
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    watch = Stopwatch(case.seconds - 1.0 if case.calls else 0.0)
    state, began = RunState(), time.perf_counter()
    outcome = simulate(case.simulation(), state, watch)
    if outcome.problems:
        raise CommandError(outcome.problems[0])
    found = watch.rates(state.records, state.started)
    found["start_s"] -= began
    if case.calls:
        found[BY_CALLS] = watch.calls_per_round
    return found | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure_apart(arm: Arm) -> dict[str, float]:
    """Measure an arm in a process of its own, which imports the arm's checkout. Raises CommandError."""
    done = subprocess.run(  # noqa: S603  # -P: this folder must not hide the package `simulator`
        [sys.executable, "-P", __file__, "--case", json.dumps(asdict(arm.case))],
        env={**os.environ, "PYTHONPATH": arm.checkout, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"{arm}: {done.stderr.strip() or done.stdout.strip()}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def rows(
    results: Mapping[Arm, Sequence[Mapping[str, float]]], cases: Sequence[Case], against: str
) -> list[dict[str, Any]]:
    """One row per case: medians over the repeats, and the ratio to the other checkout."""
    found = []
    for case in cases:
        ours = results[Arm(case, str(ROOT))]
        row: dict[str, Any] = {name: median(run[name] for run in ours) for name in ours[0]}
        row["devices"] = case.devices or case.scenario
        if against:
            theirs = results[Arm(case, against)]
            kind = BY_CALLS if case.calls else BY_TIME
            rates, before = ([run[kind] for run in runs] for runs in (ours, theirs))
            ratio = mean_ratio(before, rates) if case.calls else mean_ratio(rates, before)
            row["before"] = median(before)
            row["ratio"] = [ratio.value, ratio.low, ratio.high] if ratio else None
        found.append(row)
    return found


def main(
    devices: Annotated[str, typer.Option(help="Numbers of devices, separated by commas.")] = "14,64",
    scenario: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A scenario's devices instead.")
    ] = None,
    policy: str = "fixed-k",
    k: int = 3,
    verifiers: Annotated[int, typer.Option(help="Of the core; 0 = as described, or the scenario's.")] = 0,
    seconds: Annotated[float, typer.Option(min=2, help="Virtual time measured.")] = 20.0,
    repeats: int = 3,
    against: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Another checkout.")
    ] = None,
    calls: Annotated[
        bool, typer.Option(help="Count function calls, rather than time, for the ratio.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw the cost of a round by devices.")
    ] = None,
    out: Path = STATE / "simulator.json",
    case: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Speed of the simulator, by number of devices."""
    if case:
        print(json.dumps(measure_here(Case(**json.loads(case)))))
        return
    sizes = [0] if scenario else [int(number) for number in devices.split(",")]
    file, other = str(scenario.resolve()) if scenario else "", str(against.resolve()) if against else ""
    cases = [Case(size, seconds, file, policy, k, verifiers, calls) for size in sizes]
    arms = [Arm(one, checkout) for one in cases for checkout in filter(None, (str(ROOT), other))]
    console = Console()
    with Steps(console) as steps:
        step = steps.step("simulated", repeats * len(arms))

        def measure(arm: Arm) -> dict[str, float]:
            found = measure_apart(arm)
            step.advance(f"{found['rounds_per_s']:.0f} rounds/s")
            return found

        results = measure_arms(arms, repeats, measure)
    found = rows(results, cases, other)
    write_measurement(out, "simulator", {"cases": [asdict(one) for one in cases]}, {"rows": found})
    console.print(table(found, COLUMNS, f"{policy} k={k}"))
    if picture is not None:
        from cli.bench.simulator_picture import draw  # not in every checkout that is measured against

        draw(picture, found)


if __name__ == "__main__":
    bench_main(main)
