"""Runs scenarios on virtual time, one policy after the other, with progress, a table and result files."""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog
from rich.console import Console
from rich.table import Table

from cli.command.errors import CommandError
from loadgen.commands.exit import progress_console
from loadgen.metrics.summary import Window
from loadgen.run.drive import RunState
from loadgen.run.outcome import RunOutcome
from shared.compute.acceptance_record import Replay, read_record
from shared.planning.policies import POLICY_NAMES
from shared.planning.profile import Profile, read_profile
from shared.planning.windows import WINDOW_NAMES
from shared.scenario.scenario import PolicyConfig
from simulator.client import SimulatedClient
from simulator.load import load_plan
from simulator.results import write_simulated
from simulator.run import MODEL, simulate
from simulator.run_class import classify
from simulator.scenario import SimulatedScenario, read_simulated
from simulator.simulation import Simulation

COLUMNS: Final = ("scenario", "policy", "tok/s", "TTFT ms", "TPOT ms", "α", "busy", "class", "× real")
PROGRESS_S: Final = 2.0  # wall-clock seconds between lines of progress


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """Options of `outrider simulate`. seed, settle_s, measure_s: 0 = the scenario's."""

    scenarios: list[Path]
    only: str
    profile: Path | None
    seed: int
    settle_s: float
    measure_s: float
    trace: bool
    out: Path
    quiet: bool


def run_scenarios(options: SimulateOptions) -> None:
    """Run every policy of every scenario. Raises ScenarioError, ProfileError, CommandError."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    profile = read_profile(options.profile) if options.profile else None
    scenarios = [(path, read_simulated(path)) for path in options.scenarios]
    runs = [
        (
            path.stem,
            replace(_simulation(options, scenario, policy, profile), replays=_replays(path, scenario)),
        )
        for path, scenario in scenarios
        for policy in _policies(options.only, scenario)
    ]
    table = _Table()
    for name, simulation in runs:
        _run(options, name, simulation, table)
    table.print()


def _replays(path: Path, scenario: SimulatedScenario) -> dict[str, Replay]:
    """The recordings that the scenario's devices name. Raises RecordError."""
    named = {group.recording for group in scenario.devices if group.recording}
    return {name: Replay(read_record(path.parent / name)) for name in sorted(named)}


def _policies(only: str, scenario: SimulatedScenario) -> list[PolicyConfig]:
    """The policies to run. Raises CommandError."""
    if not only:
        return list(scenario.policies)
    given = []
    for word in only.replace(",", " ").split():
        name, _, k = word.partition(":")
        name, _, window = name.partition("+")
        if name not in POLICY_NAMES or window not in ("", *WINDOW_NAMES) or (k and not k.isdigit()):
            raise CommandError(
                f"--only {word!r}: POLICY, POLICY:K or POLICY+WINDOW; policies are {', '.join(POLICY_NAMES)}, "
                f"window controllers {', '.join(WINDOW_NAMES)}"
            )
        own = next(
            (policy for policy in scenario.policies if policy.policy == name), PolicyConfig(policy=name)
        )
        given.append(own.model_copy(update={"k": int(k or own.k), "window": window or own.window}))
    return given


def _simulation(
    options: SimulateOptions, scenario: SimulatedScenario, policy: PolicyConfig, profile: Profile | None
) -> Simulation:
    seed = options.seed or scenario.seed
    plan = load_plan(scenario.load, seed, MODEL) if scenario.load is not None else None
    return Simulation(
        scenario.model_copy(update={"seed": seed}),  # of its devices and users
        policy,
        seed,
        plan,
        profile,
        str(options.profile.resolve()) if options.profile else "",
        options.settle_s,
        options.measure_s,
        options.trace,
    )


def _run(options: SimulateOptions, name: str, simulation: Simulation, table: "_Table") -> None:
    state, began = RunState(), time.perf_counter()
    progress = _Progress(progress_console(), f"{name} {simulation.policy}", options.quiet)
    outcome = simulate(simulation, state, progress)
    took_s = time.perf_counter() - began
    file = options.out / name / f"{str(simulation.policy).replace(' ', '-')}.json"
    run_class = classify(
        state.records, Window(*(state.started + end for end in outcome.body["window"].values()))
    )
    outcome = replace(outcome, body={**outcome.body, "class": run_class})
    write_simulated(outcome, _config(simulation, name), state, file)
    table.add(name, str(simulation.policy), outcome, run_class, progress.virtual_s / took_s)
    for problem in outcome.problems:
        raise CommandError(f"{name} {simulation.policy}: {problem}")


def _config(simulation: Simulation, name: str) -> dict[str, Any]:
    """The configuration to repeat the run."""
    return {
        "simulated": True,
        "scenario": name,
        "policy": str(simulation.policy),
        "label": str(simulation.policy),
        "seed": simulation.seed,
        "settle": simulation.settle_s,
        "measure": simulation.measure_s,
        "profile": simulation.profile.model_dump(mode="json", by_alias=True) if simulation.profile else None,
        **simulation.scenario.model_dump(mode="json", exclude={"policies", "seed"}),
    }


class _Progress:
    """Lines of progress: virtual time, requests, and how much faster than real time it runs."""

    def __init__(self, console: Console, name: str, quiet: bool) -> None:
        self.virtual_s = 0.0
        self._console, self._name, self._quiet = console, name, quiet
        self._began = self._shown = time.perf_counter()

    def __call__(self, state: RunState, client: SimulatedClient) -> None:
        self.virtual_s = client.now()
        now = time.perf_counter()
        if self._quiet or now < self._shown + PROGRESS_S:
            return
        self._shown = now
        speed = self.virtual_s / (now - self._began)
        done = f"{len(state.records)} of {state.total}" if state.total else str(len(state.records))
        self._console.print(
            f"{self._name}: {client.now() - state.started:.0f} s of virtual time, {done} requests done, "
            f"{len(client.in_flight)} in flight, {speed:.1f} × real time",
            soft_wrap=True,
            highlight=False,
        )


class _Table:
    """One row per run."""

    def __init__(self) -> None:
        self._table = Table()
        for heading in COLUMNS:
            is_text = heading in ("scenario", "policy", "class")
            self._table.add_column(heading, justify="left" if is_text else "right", no_wrap=True)

    def add(self, name: str, policy: str, outcome: RunOutcome, run_class: str, speed: float) -> None:
        """Add a run."""
        metrics, stack = outcome.metrics, outcome.body["stack"]
        self._table.add_row(
            name,
            policy,
            f"{metrics['output_throughput']:.1f}",
            f"{metrics['median_ttft_scheduled_ms']:.0f}",
            f"{metrics['median_tpot_ms']:.1f}",
            f"{stack['alpha']:.2f}" if stack["drafted_tokens"] else "–",
            f"{stack['verifier_utilisation']:.0%}",
            run_class,
            f"{speed:.1f}",
        )

    def print(self) -> None:
        """Print it to stdout."""
        Console().print(self._table)
