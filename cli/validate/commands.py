"""`outrider validate`: its options. Heavy libraries are imported inside the command."""

from pathlib import Path
from typing import Annotated, Final

import typer

from cli.command.cli_errors import cli_errors
from cli.command.options import STATE, Measure, OutFolder, Settle, StateDir

TUNING: Final = Path("scenarios/tuning.yaml")
TUNING_DRAFTERS: Final = Path("scenarios/tuning-drafters.yaml")
Scenarios = Annotated[
    list[Path], typer.Argument(help="Scenario files, see scenarios/validation.", exists=True, dir_okay=False)
]
Tuning = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="Scenario on which serving costs are fitted, none of the others; default "
        "scenarios/tuning.yaml, or tuning-drafters.yaml.",
    ),
]
Tuned = Annotated[bool, typer.Option("--tuned", help="Take the profile's serving costs, fit none.")]
Target = Annotated[str, typer.Option(help="Target: name of a fetched pair or folder.")]
Dtype = Annotated[str, typer.Option(help="Of the target: float32, or bfloat16 with its near ties.")]
ProfileOf = Annotated[
    Path, typer.Option(dir_okay=False, help="Of `outrider calibrate`, same machine, target and dtype.")
]
AnyProfile = Annotated[
    bool, typer.Option("--any-profile", help="Take a profile of another machine, model or version.")
]
Repeats = Annotated[int, typer.Option(min=1, max=20, help="Live runs of every cell.")]
Quick = Annotated[bool, typer.Option("--quick", help="One short live run of every cell.")]
Modelled = Annotated[
    bool, typer.Option("--modelled", help="Live with a modelled core, which computes nothing.")
]
Drafters = Annotated[
    bool,
    typer.Option("--drafters", help="Real draft workers on this machine in place of emulated devices."),
]
Live = Annotated[
    bool, typer.Option("--live/--no-live", help="Run live what is not kept in --out; or only simulate.")
]


def validate(
    scenarios: Scenarios,
    tuning: Tuning = None,
    tuned: Tuned = False,
    target: Target = "smollm2",
    dtype: Dtype = "float32",
    profile: ProfileOf = STATE / "profile.json",
    any_profile: AnyProfile = False,
    repeats: Repeats = 2,
    settle: Settle = 0,
    measure: Measure = 0,
    quick: Quick = False,
    modelled: Modelled = False,
    drafters: Drafters = False,
    live: Live = True,
    out: OutFolder = STATE / "validate",
    state: StateDir = STATE,
) -> None:
    """Run scenarios live and simulated, and print how far the simulation is off.

    Live is the real stack with emulated devices, whose users are clients; simulated are the same users, devices and
    policies, with the passes of --profile. First the tuning scenario runs live, and what a stack costs beside its
    passes is fitted to it. Then every policy of every scenario runs --repeats times, each between two calibrations,
    again if these differ by more than 5 %. Live runs are kept in --out: after Ctrl-C the same command goes on, and
    --no-live compares them with the simulator as it is now. Nothing else should run meanwhile.

    With --drafters every device is a draft worker with the pair's draft model, on this machine.

    Results: tables, OUT/validation.json and .png, and OUT/profile.json, which `outrider simulate --profile` takes.
    """
    from cli.validate.options import ValidateOptions
    from cli.validate.run import run_validate
    from shared.planning.profile import ProfileError
    from shared.scenario.scenario import ScenarioError

    usual = TUNING_DRAFTERS if drafters else TUNING
    fitted = None if tuned else tuning or usual
    flags = (1 if quick else repeats, settle, measure, modelled, live, any_profile, quick, drafters)
    with cli_errors(ScenarioError, ProfileError):
        run_validate(ValidateOptions(scenarios, fitted, target, dtype, profile, *flags, out, state))
