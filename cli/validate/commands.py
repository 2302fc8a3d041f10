"""`outrider validate`: its options. Heavy libraries are imported inside the command."""

from pathlib import Path
from typing import Annotated, Final

import typer

from cli.command.cli_errors import cli_errors
from cli.command.options import STATE, Measure, OutFolder, Settle, StateDir

TUNING: Final = Path("scenarios/tuning.yaml")


def validate(
    scenarios: Annotated[
        list[Path],
        typer.Argument(help="Scenario files, see scenarios/validation.", exists=True, dir_okay=False),
    ],
    tuning: Annotated[
        Path,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Scenario on which serving costs are fitted; not one of the others.",
        ),
    ] = TUNING,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="Take the profile's serving costs, fit none.")
    ] = False,
    target: Annotated[str, typer.Option(help="Target: name of a fetched pair or folder.")] = "smollm2",
    dtype: Annotated[str, typer.Option(help="Of the target: float32 or bfloat16.")] = "bfloat16",
    profile: Annotated[
        Path, typer.Option(dir_okay=False, help="Of `outrider calibrate`, same machine, target and dtype.")
    ] = STATE / "profile.json",
    any_profile: Annotated[
        bool, typer.Option("--any-profile", help="Take a profile of another machine, model or version.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, max=20, help="Live runs of every cell.")] = 2,
    settle: Settle = 0,
    measure: Measure = 0,
    quick: Annotated[bool, typer.Option("--quick", help="One short live run of every cell.")] = False,
    modelled: Annotated[
        bool, typer.Option("--modelled", help="Live with a modelled core, which computes nothing.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live/--no-live", help="Run live what is not kept in --out; or only simulate.")
    ] = True,
    out: OutFolder = STATE / "validate",
    state: StateDir = STATE,
) -> None:
    """Run scenarios live and simulated, and print how far the simulation is off.

    Live is the real stack: broker, gateway, scheduler, and a verifier of the real target; devices are emulated behind
    emulated links, and their users are real clients. Simulated are the same users, devices and policies, with the
    passes of --profile. First the tuning scenario runs live, and two numbers are fitted to it: how much longer passes
    take while the stack serves, and what a hop takes. Then every policy of every scenario runs --repeats times, each
    between two calibrations, again if these differ by more than 5 %. Live runs are kept in --out: after Ctrl-C the same
    command goes on, and --no-live compares them with the simulator as it is now. Nothing else should run meanwhile.

    Results: tables, OUT/validation.json and .png, and OUT/profile.json, which `outrider simulate --profile` takes.
    """
    from cli.validate.options import QUICK_MEASURE_S, QUICK_SETTLE_S, ValidateOptions
    from cli.validate.run import run_validate
    from shared.planning.profile import ProfileError
    from shared.scenario.scenario import ScenarioError

    options = ValidateOptions(
        scenarios=scenarios,
        tuning=None if tuned else tuning,
        target=target,
        dtype=dtype,
        profile=profile,
        repeats=1 if quick else repeats,
        settle_s=settle or (QUICK_SETTLE_S if quick else 0.0),
        measure_s=measure or (QUICK_MEASURE_S if quick else 0.0),
        modelled=modelled,
        live=live,
        any_profile=any_profile,
        out=out,
        state_dir=state,
    )
    with cli_errors(ScenarioError, ProfileError):
        run_validate(options)
