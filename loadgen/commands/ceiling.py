"""`loadgen ceiling`."""

import uvloop
from rich.console import Console

from loadgen.commands.exit import cli_errors
from loadgen.run.ceiling import RateStep, ceiling


def measure_ceiling() -> None:
    """Measure how many requests per second this machine can send in time, against the mock server."""
    console = Console()

    def show_step(step: RateStep) -> None:
        console.print(
            f"{step.rate:5.0f}/s: {step.served:.0f} served, dispatch delay {step.dispatch_median_ms:.2f} ms median, "
            f"{step.dispatch_p99_ms:.2f} p99, {100 * step.busy:.0f} % of a core here"
            + ("" if step.kept_up else "; not kept up with"),
            soft_wrap=True,
        )

    with cli_errors():
        steps = uvloop.run(ceiling(show_step))
    kept_up = [step for step in steps if step.kept_up]
    if not kept_up:
        console.print("not even the first rate was kept up with: something else uses this machine")
        return
    limit = steps[-1]
    why = "this process" if limit.busy > 0.9 else "the mock server, or the machine"
    console.print(
        f"ceiling: {kept_up[-1].rate:.0f} requests/s"
        + ("" if limit.kept_up else f"; then {why} is the limit")
    )
