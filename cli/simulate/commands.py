"""`outrider simulate`: its options. Heavy libraries are imported inside the command."""

from pathlib import Path
from typing import Annotated, Final

import typer

from cli.command.cli_errors import cli_errors
from cli.command.cores import cores
from cli.command.options import STATE, Measure, OutFolder, Settle

ONLY: Final = "These policies: POLICY, POLICY:K, POLICY+WINDOW or POLICY@BANDWIDTH; empty = the scenario's."
SWEEP: Final = (
    "A field of the scenario, policy, k or seed, and its values: load.rate=1,2,4. May be repeated: every combination "
    "runs. Finished runs are not repeated."
)


def simulate(
    scenarios: Annotated[
        list[Path], typer.Argument(help="Scenario files, see scenarios/.", exists=True, dir_okay=False)
    ],
    only: Annotated[str, typer.Option(metavar="POLICY,...", help=ONLY)] = "",
    profile: Annotated[
        Path | None, typer.Option(dir_okay=False, exists=True, help="Costs of `outrider calibrate`.")
    ] = None,
    sweep: Annotated[list[str] | None, typer.Option(metavar="FIELD=VALUE,...", help=SWEEP)] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=1 << 31, help="Of everything random; 0 = the scenario's.")
    ] = 0,
    settle: Settle = 0,
    measure: Measure = 0,
    trace: Annotated[bool, typer.Option(help="Collect a timeline, which `loadgen report` draws.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=0, max=1024, help="Runs at a time; 0 = all cores.")
    ] = 0,
    out: OutFolder = STATE / "simulate",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Run the deployed services on virtual time: modelled target and drafts, emulated links, real scheduling.

    Each policy's result goes to OUT/SCENARIO/POLICY.json in loadgen's form, for `loadgen report` and `loadgen compare`
    (with a live run); a sweep's to OUT/SCENARIO/sweep.json and .png. docs/simulator.md says what is real, what is
    modelled, and how exact it is. The same seed gives the same bytes.
    """
    from cli.simulate.options import SimulateOptions
    from cli.simulate.run import run_scenarios
    from loadgen.run.scenario_users import UsersError
    from shared.planning.profile import ProfileError
    from shared.scenario.scenario import ScenarioError
    from simulator.stall import Stalled
    from simulator.virtual_loop import Deadlock

    at_once, swept = jobs or cores(), sweep or ()
    options = SimulateOptions(
        scenarios, only, profile, seed, settle, measure, trace, swept, at_once, out, quiet
    )
    with cli_errors(ScenarioError, ProfileError, UsersError, Stalled, Deadlock, AssertionError):
        run_scenarios(options)
