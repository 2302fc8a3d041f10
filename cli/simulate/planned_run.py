"""The runs that the options describe: every policy of every scenario, with every combination of the swept fields."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final

from cli.command.errors import CommandError
from cli.simulate.options import SimulateOptions
from cli.simulate.sweep_field import EVERY, POLICY, SEED, K, SweepField, with_value
from shared.compute.acceptance_record import RecordError, Replay, read_record
from shared.planning.bandwidth_rules import RULES
from shared.planning.policies import POLICY_NAMES, make_policy
from shared.planning.profile import Profile, read_profile
from shared.planning.windows import SIMULATED_NAMES, WINDOW_NAMES
from shared.scenario.scenario import PolicyConfig, ScenarioError, checked, read_fields
from simulator.load import plan_of
from simulator.run import MODEL
from simulator.scenario import SimulatedScenario
from simulator.simulation import Simulation

MAX_RUNS: Final = 10_000


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run. scenario: name of the file; data: its fields, with the swept ones set; folder: of all results.

    fields: the swept values by path.
    """

    scenario: str
    file: Path
    data: Mapping[str, Any]
    simulation: Simulation
    folder: Path
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def policy(self) -> str:
        """The policy's name, with its draft length."""
        return str(self.simulation.policy)

    @property
    def name(self) -> str:
        """The run in one line."""
        swept = [f"{path}={value}" for path, value in self.fields.items() if path not in (POLICY, K)]
        return " ".join([self.scenario, *swept, self.policy])

    @property
    def result(self) -> Path:
        """The result file."""
        return self.folder / self.file.stem / f"{self.policy.replace(' ', '-')}.json"


def plan_runs(options: SimulateOptions, fields: Sequence[SweepField]) -> list[PlannedRun]:
    """All runs, checked. Raises CommandError, ScenarioError, ProfileError that names the field."""
    profile = read_profile(options.profile) if options.profile else None
    count = len(options.scenarios)
    for swept in fields:
        count *= len(swept.values)
    if count > MAX_RUNS:
        raise CommandError(f"--sweep: {count} combinations; give values for at most {MAX_RUNS}")
    runs = [run for path in options.scenarios for run in _of_scenario(options, path, profile, fields)]
    seen: dict[Path, PlannedRun] = {}
    for run in runs:
        if (other := seen.setdefault(run.result, run)) is not run:
            raise CommandError(
                f"{run.name}: its result would replace that of {other.name}; give scenarios and policies "
                "different names"
            )
    return runs


def _of_scenario(
    options: SimulateOptions, path: Path, profile: Profile | None, fields: Sequence[SweepField]
) -> Iterator[PlannedRun]:
    data = read_fields(path)
    scenario = checked(SimulatedScenario, data, path)
    for swept in fields:
        _check_effect(options, scenario, swept)
    of_scenario = [swept for swept in fields if not swept.of_policy]
    of_policy = [swept for swept in fields if swept.of_policy]
    for combination in _combinations(of_scenario):
        changed, source = data, str(path)
        for field_path, value in combination.items():
            changed = with_value(changed, field_path, value)
        if combination:
            source = ", ".join(f"--sweep {name}={value}" for name, value in combination.items())
        cell = checked(SimulatedScenario, changed, source)
        for chosen in _combinations(of_policy):
            for policy in _policies(options.only or str(chosen.get(POLICY, "")), cell, chosen.get(K)):
                simulation = _simulation(options, cell, policy, profile, source)
                file = options.out / path.stem / f"{_stem(combination) or path.stem}.yaml" if fields else path
                folder = options.out / path.stem if fields else options.out
                yield PlannedRun(path.stem, file, changed, simulation, folder, {**combination, **chosen})


def _combinations(fields: Sequence[SweepField]) -> Iterator[dict[str, Any]]:
    for values in product(*(swept.values for swept in fields)):
        yield {swept.path: value for swept, value in zip(fields, values, strict=True)}


def _stem(combination: Mapping[str, Any]) -> str:
    """A file's name of swept values, without characters that have a meaning in paths."""
    text = ",".join(f"{path}={value}" for path, value in combination.items()).replace(EVERY, "all")
    return "".join(one if one.isalnum() or one in "._=+~,-" else "" for one in text)[:200]


def _check_effect(options: SimulateOptions, scenario: SimulatedScenario, swept: SweepField) -> None:
    """Raise CommandError for a field whose values would not make a difference, or which an option sets."""
    top, has_load = swept.path.partition(".")[0], scenario.load is not None
    refusals = {
        "policies": "sweep policy or k",
        "about": "it has no effect",
        "workload": "the scenario's load says what users send; sweep a field of load" if has_load else "",
        "settle": "the load's warmup counts" if has_load else "--settle sets it" if options.settle_s else "",
        "measure": "the load's duration counts"
        if has_load
        else "--measure sets it"
        if options.measure_s
        else "",
        "load": "" if has_load else "the scenario has no load",
        POLICY: "--only chooses policies already" if options.only else "",
        SEED: "--seed sets it" if options.seed else "",
    }
    reason = refusals.get(top, "")
    if options.profile and f"{swept.path}.".startswith("core.server."):
        reason = "the profile's law replaces it"
    if reason:
        raise CommandError(f"--sweep {swept.path}: {reason}")


def _policies(only: str, scenario: SimulatedScenario, k: Any) -> list[PolicyConfig]:
    """The policies to run, with a swept draft length if there is one. Raises CommandError."""
    chosen = [_policy(word, scenario) for word in only.replace(",", " ").split()] or list(scenario.policies)
    if k is None:
        return chosen
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= 64:
        raise CommandError(f"--sweep k: {k} is not a draft length from 1 to 64")
    for policy in chosen:
        if not make_policy(policy.policy).k:
            raise CommandError(
                f"--sweep k: {policy.policy} chooses lengths by itself; name policies with a fixed one, "
                "for example --only fixed-k"
            )
    return [policy.model_copy(update={"k": k}) for policy in chosen]


def _policy(word: str, scenario: SimulatedScenario) -> PolicyConfig:
    """POLICY, with +WINDOW, @BANDWIDTH and :K if need be, as the scenario configures it if it does.

    Raises CommandError.
    """
    whole, _, text = word.partition(":")
    pair, _, bandwidth = whole.partition("@")
    name, _, window = pair.partition("+")
    known = name in POLICY_NAMES and window in ("", *WINDOW_NAMES, *SIMULATED_NAMES)
    known = known and bandwidth in ("", *RULES)
    if not known or (text and not (text.isdecimal() and int(text) <= 64)):
        raise CommandError(
            f"policy {word!r}: give POLICY, POLICY:K, POLICY+WINDOW or POLICY@BANDWIDTH; policies are "
            f"{', '.join(POLICY_NAMES)}, window controllers {', '.join((*WINDOW_NAMES, *SIMULATED_NAMES))}, "
            f"bandwidths {', '.join(RULES)}"
        )
    k = int(text or 0)
    configured = [
        one
        for one in scenario.policies
        if (one.policy, one.window) == (name, window) and bandwidth in ("", one.bandwidth)
    ]
    exact = next((policy for policy in configured if policy.k == k), None)
    base = exact or next(iter(configured), PolicyConfig(policy=name, window=window))
    given = {"k": k} if text else {}
    return base.model_copy(update=given | ({"bandwidth": bandwidth} if bandwidth else {}))


def _simulation(
    options: SimulateOptions,
    scenario: SimulatedScenario,
    policy: PolicyConfig,
    profile: Profile | None,
    source: str,
) -> Simulation:
    seed = options.seed or scenario.seed
    try:
        plan = plan_of(scenario, seed, MODEL)
    except ScenarioError as error:
        raise ScenarioError(f"{source}: {error}") from None
    profile_file = str(options.profile.resolve()) if options.profile else ""
    return Simulation(
        scenario.model_copy(update={"seed": seed}),  # of its devices and users
        policy,
        seed,
        plan,
        profile,
        profile_file,
        options.settle_s,
        options.measure_s,
        options.trace,
        _replays(scenario, source),
        serving=profile.serving if profile else None,
    )


def _replays(scenario: SimulatedScenario, source: str) -> dict[str, Replay]:
    """The recordings that the devices name. Raises ScenarioError."""
    named = sorted({group.recording for group in scenario.devices if group.recording})
    try:
        return {name: Replay(read_record(Path(name))) for name in named}
    except RecordError as error:
        raise ScenarioError(f"{source}: devices: recording: {error}") from None
