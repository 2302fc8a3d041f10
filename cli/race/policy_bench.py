"""`outrider bench policies`: policies on scenarios, by turns, beside transformers' own generation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.admin import Admin
from cli.command.errors import CommandError
from cli.race import picture
from cli.race.attention import fastest_baseline
from cli.race.emulated import emulated
from cli.race.fairness import fair_rates
from cli.race.race import BATCH, ONE, Race, RaceRun, race
from cli.race.recording import prompts_of, record
from cli.race.statistics import ceiling, rows
from cli.stack.stack import LocalStack
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from shared.planning.profile import Profile, ProfileError, read_profile
from shared.scenario.scenario import Scenario, read_scenario


@dataclass(frozen=True, slots=True)
class PolicyBenchOptions:
    """What is to be run. settle_s, measure_s 0: as the scenario says. rivals: transformers as well. only: these
    policies, () = all of the scenario's.
    """

    scenarios: Sequence[Path]
    target: str
    dtype: str
    repeats: int
    settle_s: float
    measure_s: float
    rivals: bool
    profile: Path
    out: Path
    state_dir: Path
    only: tuple[str, ...] = ()


async def run_policies(wanted: PolicyBenchOptions, target: Path, name: str) -> None:
    """All scenarios; tables, a result file and a picture each. Raises CommandError if a text is not the target's."""
    console = Console()
    profile = _profile(wanted, name)
    wrong = []
    for path in wanted.scenarios:
        scenario = chosen(read_scenario(path), wanted.only, path)
        found = await one(wanted, scenario, path, target, name, profile, console)
        base = "autoregressive" if "autoregressive" in found else next(iter(found))
        show(console, path.stem, scenario, found, base)
        out = wanted.out / f"policies-{'-'.join([path.stem, *wanted.only])}.json"
        config = {
            "scenario": path.stem,
            **scenario.model_dump(mode="json"),
            "model": name,
            "dtype": wanted.dtype,
            "repeats": wanted.repeats,
            "verify_ms": verify_ms(profile),
            "server": profile.server.model_dump(),
        }
        most = ceiling(
            profile.pass_law,
            [device.alpha for device in scenario.fleet(verify_ms(profile))],
            scenario.workload.prompt + scenario.workload.answer / 2,
        )
        console.print(f"ceiling (verifier always busy, drafts for nothing): {most:.0f} tok/s")
        write_measurement(out, "policies", config, {"ceiling_tokens_per_s": most, "entrants": found})
        picture.draw(out.with_suffix(".png"), f"{path.stem}: {name} {wanted.dtype}", found, base)
        console.print(f"written to {out} and {out.with_suffix('.png')}")
        wrong += [
            f"{path.stem}, {entrant}: {w}"
            for entrant, row in found.items()
            for w in row.get("wrong_texts", [])
        ]
    if wrong:
        raise CommandError(f"{len(wrong)} texts are not the target's; the first: {wrong[0]}")


def chosen(scenario: Scenario, only: Sequence[str], path: Path) -> Scenario:
    """The scenario with some of its policies. Raises CommandError for one that it does not have."""
    if not only:
        return scenario
    has = [entrant.policy for entrant in scenario.policies]
    for policy in only:
        if policy not in has:
            raise CommandError(f"--only {policy}: {path} has {', '.join(has)}")
    kept = tuple(entrant for entrant in scenario.policies if entrant.policy in only)
    return scenario.model_copy(update={"policies": kept})


async def one(
    wanted: PolicyBenchOptions,
    scenario: Scenario,
    path: Path,
    target: Path,
    name: str,
    profile: Profile,
    console: Console,
) -> dict[str, dict[str, Any]]:
    """One scenario: rows by entrant."""
    devices = tuple(device.name for device in scenario.fleet(verify_ms(profile)))
    work = scenario.workload
    settle_s = wanted.settle_s or scenario.settle.at(0)
    measure_s = wanted.measure_s or scenario.measure.at(0)
    rivals = (1, len(devices)) if wanted.rivals else ()
    async with Steps(console) as steps:
        step = steps.step(f"{path.stem}: recording the target", 1)
        prompts = prompts_of(len(devices), work.prompt)
        async with fastest_baseline(target, wanted.dtype, prompts[: len(devices)]) as rival:
            recording = await record(rival, target, wanted.dtype, prompts, work.answer, wanted.state_dir)
            step.advance()
            step = steps.step(path.stem, wanted.repeats * (len(scenario.policies) + len(rivals)))
            options = emulated(
                target,
                name,
                path,
                recording.file,
                wanted.state_dir / "stack",
                verify_ms=verify_ms(profile),
                env={
                    "OUTRIDER_DTYPE": wanted.dtype,
                    "OUTRIDER_KV_TOKENS": str(max(16384, 2 * len(devices) * (work.prompt + work.answer))),
                    "OUTRIDER_PROFILE": str(wanted.profile.resolve()),
                },
            )
            async with LocalStack(options) as stack, Admin(stack.url) as admin:
                course = Race(stack, admin, rival, name, scenario, recording, devices, settle_s, measure_s)

                def told(entrant: str, run: RaceRun) -> None:
                    step.advance(f"{entrant} {run.tokens_per_s:.1f} tok/s")

                fair = fair_rates(
                    scenario.fleet(verify_ms(profile)), profile.pass_law, work.prompt + work.answer / 2
                )
                return rows(await race(course, wanted.repeats, rivals, told), fair)


def verify_ms(profile: Profile) -> float:
    """One row of one token, at the context nearest to a scenario's."""
    single = {name: ms for name, ms in profile.passes.items() if name.startswith("1 x 1 @")}
    if not single:
        raise CommandError("the profile has no pass of one row of one token: calibrate with 1 among --widths")
    return single.get("1 x 1 @ 128") or next(iter(single.values()))


def _profile(wanted: PolicyBenchOptions, name: str) -> Profile:
    """The profile, which has to be of the same model and type."""
    try:
        profile = read_profile(wanted.profile)
    except ProfileError as error:
        raise CommandError(str(error)) from None
    if (profile.model, profile.dtype) != (name, wanted.dtype):
        raise CommandError(
            f"{wanted.profile} is of {profile.model} in {profile.dtype}, not of {name} in {wanted.dtype}: "
            f"run `outrider calibrate --target {wanted.target} --dtype {wanted.dtype} --out {wanted.profile}`"
        )
    return profile


def show(
    console: Console, name: str, scenario: Scenario, found: dict[str, dict[str, Any]], base: str
) -> None:
    """The table for people."""
    table = Table(
        title=f"{name}: {scenario.about}",
        caption="in brackets: 95 % interval; model: realised over predicted; busy: the verifier (predicted); "
        "slowest: user's tok/s; of fair: least of any user's rate over its rate under the fairest plan",
    )
    headings = ["", "tok/s", f"× {base}"]
    rivals = [other for other in ("greedy-batch", "dip-sd", ONE, BATCH) if other in found]
    for heading in [
        *headings,
        *(f"× {other}" for other in rivals),
        "model",
        "busy",
        "slowest",
        "of fair",
        "same",
    ]:
        table.add_column(heading, justify="left" if not heading else "right")
    for entrant, row in found.items():
        over = [_interval(row["over"].get(other)) for other in (base, *rivals)]
        model = _interval(row.get("realised_over_predicted"))
        busy = f"{row['verifier_busy']:.2f}" if "verifier_busy" in row else ""
        busy += f" ({row['predicted_busy']:.2f})" if row.get("predicted_busy") else ""
        slowest = f"{row['slowest_user']:.1f}" if "slowest_user" in row else ""
        fair = f"{row['least_of_fair_rate']:.2f}" if "least_of_fair_rate" in row else ""
        same = "" if "wrong_texts" not in row else "NO" if row["wrong_texts"] else "yes"
        table.add_row(entrant, f"{row['tokens_per_s']:.1f}", *over, model, busy, slowest, fair, same)
    console.print(table)


def _interval(told: list[float] | None) -> str:
    return f"{told[0]:.2f} ({told[1]:.2f} to {told[2]:.2f})" if told else ""
