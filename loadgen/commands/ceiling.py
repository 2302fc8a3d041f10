"""`loadgen ceiling`."""

import uvloop
from rich.console import Console

from loadgen.commands.exit import cli_errors
from loadgen.run.ceiling import Step, ceiling


def measure_ceiling() -> None:
    """How many requests a second this machine can send and read in time, against the mock server."""
    console = Console()

    def shown(step: Step) -> None:
        console.print(
            f"{step.rate:5.0f}/s: {step.served:.0f} served, dispatch delay {step.dispatch_median_ms:.2f} ms median, "
            f"{step.dispatch_p99_ms:.2f} p99, {100 * step.busy:.0f} % of a core here"
            + ("" if step.kept_up else "; not kept up with"),
            soft_wrap=True,
        )

    with cli_errors():
        steps = uvloop.run(ceiling(shown))
    good = [step for step in steps if step.kept_up]
    if not good:
        console.print("not even the first was kept up with: something else needs this machine")
        return
    limit = steps[-1]
    why = "this process" if limit.busy > 0.9 else "the mock server, or the machine"
    console.print(
        f"ceiling: {good[-1].rate:.0f} requests/s" + ("" if limit.kept_up else f"; then {why} is the limit")
    )
