"""`outrider bench policies`: interleaved policies on scenarios, against transformers' own generation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.command.errors import CommandError
from cli.race import picture
from cli.race.fairness import fair_rates
from cli.race.race import ONE_USER, PADDED_BATCH
from cli.race.scenario_run import ScenarioOptions, run_scenario
from cli.race.statistics import ceiling, rows
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from loadgen.measuring.table import interval, table
from shared.planning.profile import Profile, ProfileError, read_profile
from shared.scenario.cell_spec import bands_text
from shared.scenario.scenario import Scenario, read_scenario


@dataclass(frozen=True, slots=True)
class PolicyBenchOptions:
    """What to run. settle_s, measure_s: 0 = the scenario's. baselines: transformers, too. only: () = all policies."""

    scenarios: Sequence[Path]
    target: str
    dtype: str
    repeats: int
    settle_s: float
    measure_s: float
    baselines: bool
    profile: Path
    out: Path
    state_dir: Path
    only: tuple[str, ...] = ()


async def run_policies(options: PolicyBenchOptions, target: Path, name: str) -> None:
    """Run all scenarios; print a table, write a result file and a picture each.

    Raises CommandError if a text is not the target's.
    """
    console = Console()
    profile = _profile(options, name)
    wrong = []
    for path in options.scenarios:
        scenario = with_policies(read_scenario(path), options.only, path)
        arms = await one(options, scenario, path, target, name, profile, console)
        base = "autoregressive" if "autoregressive" in arms else next(iter(arms))
        show(console, path.stem, scenario, arms, base)
        out = options.out / f"policies-{'-'.join([path.stem, *options.only])}.json"
        config = {
            "scenario": path.stem,
            **scenario.model_dump(mode="json"),
            "model": name,
            "dtype": options.dtype,
            "repeats": options.repeats,
            "verify_ms": verify_ms(profile),
            "server": profile.server.model_dump(),
        }
        bound = ceiling(
            profile.pass_law,
            [device.alpha for device in scenario.fleet(verify_ms(profile))],
            scenario.workload.prompt + scenario.workload.answer / 2,
        )
        console.print(f"upper bound (verifier always busy, drafting free): {bound:.0f} tok/s")
        write_measurement(out, "policies", config, {"ceiling_tokens_per_s": bound, "entrants": arms})
        picture.draw(out.with_suffix(".png"), f"{path.stem}: {name} {options.dtype}", arms, base)
        console.print(f"written to {out} and {out.with_suffix('.png')}")
        wrong += [
            f"{path.stem}, {arm}: {text}" for arm, row in arms.items() for text in row.get("wrong_texts", [])
        ]
    if wrong:
        raise CommandError(f"{len(wrong)} texts are not the target's; the first: {wrong[0]}")


def with_policies(scenario: Scenario, only: Sequence[str], path: Path) -> Scenario:
    """The scenario with these policies alone; () = all. Raises CommandError for one that it does not have."""
    words = [
        f"{config.policy}+{config.window}" if config.window else config.policy for config in scenario.policies
    ]
    for word in only:
        if word not in words:
            raise CommandError(f"--only {word}: {path} has {', '.join(words)}")
    pairs = zip(scenario.policies, words, strict=True)
    kept = tuple(config for config, word in pairs if not only or word in only)
    return scenario.model_copy(update={"policies": kept})


async def one(
    options: PolicyBenchOptions,
    scenario: Scenario,
    path: Path,
    target: Path,
    name: str,
    profile: Profile,
    console: Console,
) -> dict[str, dict[str, Any]]:
    """Run one scenario; rows by policy and baseline."""
    fleet, work = scenario.fleet(verify_ms(profile)), scenario.workload
    kv_tokens = max(16384, 2 * len(fleet) * (work.prompt + work.answer))
    scenario_options = ScenarioOptions(
        target,
        name,
        options.dtype,
        scenario,
        path,
        verify_ms(profile),
        options.repeats,
        (1, len(fleet)) if options.baselines else (),
        options.state_dir,
        options.settle_s,
        options.measure_s,
        env={
            "OUTRIDER_KV_TOKENS": str(kv_tokens),
            "OUTRIDER_PROFILE": str(options.profile.resolve()),
            "OUTRIDER_CELLS": bands_text(scenario.cells),
        },
    )
    async with Steps(console) as steps:
        runs = await run_scenario(scenario_options, steps)
    return rows(runs, fair_rates(fleet, profile.pass_law, work.prompt + work.answer / 2))


def verify_ms(profile: Profile) -> float:
    """Milliseconds of a pass of one row with one token, at context 128 if there is one. Raises CommandError."""
    single = {name: ms for name, ms in profile.passes.items() if name.startswith("1 x 1 @")}
    if not single:
        raise CommandError("the profile has no pass of one row of one token: calibrate with 1 among --widths")
    return single.get("1 x 1 @ 128") or next(iter(single.values()))


def _profile(options: PolicyBenchOptions, name: str) -> Profile:
    """Read the profile. Raises CommandError unless it is of the same model and dtype."""
    try:
        profile = read_profile(options.profile)
    except ProfileError as error:
        raise CommandError(str(error)) from None
    if (profile.model, profile.dtype) != (name, options.dtype):
        raise CommandError(
            f"{options.profile} is of {profile.model} in {profile.dtype}, not of {name} in {options.dtype}: "
            f"run `outrider calibrate --target {options.target} --dtype {options.dtype} --out {options.profile}`"
        )
    return profile


def show(
    console: Console, name: str, scenario: Scenario, rows: Mapping[str, Mapping[str, Any]], base: str
) -> None:
    """Print the table. rows: by policy and baseline (cli/race/statistics.py)."""
    others = (base, *(other for other in ("greedy-batch", "dip-sd", ONE_USER, PADDED_BATCH) if other in rows))
    columns = {
        "": "{arm}",
        "tok/s": "{tokens_per_s:.1f}",
        **{f"× {other}": interval(f"over[{other}]") for other in others},
        "model": interval("realised_over_predicted"),
        "busy": "{verifier_busy:.2f}",
        "planned busy": "{predicted_busy:.2f}",
        "slowest": "{slowest_user:.1f}",
        "of fair": "{least_of_fair_rate:.2f}",
        "wrong": "{wrong}",
    }
    caption = (
        "in brackets: 95 % interval; model: realised / predicted; busy: share of the verifier's time; slowest: user's "
        "tok/s; of fair: smallest ratio of a user's rate to that under the fairest plan; wrong: texts"
    )
    cells = (
        {**row, "arm": arm, "wrong": len(row["wrong_texts"]) if "wrong_texts" in row else ""}
        for arm, row in rows.items()
    )
    console.print(table(cells, columns, f"{name}: {scenario.about}", caption))
