"""The latency of a plan beside that of the deployed services, which play its cohort in virtual time.

    python -m cli.plan.measure_cohort --out docs/results/latency-cohort.json

First as the formula assumes: one node that drafts batch by batch, a fixed cycle, an even acceptance, prompts that cost
nothing to read. Then without one of these, and under deployed policies.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from cli.command.bench_main import bench_main
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from shared.planning.latency.cohort import Cohort
from shared.planning.latency.latency_plan import LatencyPlan
from shared.planning.latency.latency_solver import solve
from shared.planning.latency.paper_cell import Setting, paper_cohort
from shared.runtime import logs
from simulator.cohort.play import Assumptions, play

SETTING: Final = Setting(bits_per_token=12_288.0, drafter_scale=10.0)
PLAYS: Final[Mapping[str, Assumptions]] = {
    "as the formula assumes": Assumptions(),
    "prompts are read": Assumptions(free_prompts=False),
    "acceptance is chance": Assumptions(even_acceptance=False),
    "answers of 1 to 2 x their mean": Assumptions(even_acceptance=False),
    "policy cyclic-k": Assumptions(even_acceptance=False, policy="cyclic-k"),
    "policy fixed-k": Assumptions(even_acceptance=False, policy="fixed-k"),
    "policy outrider-latency": Assumptions(even_acceptance=False, policy="outrider-latency"),
    "policy greedy-batch": Assumptions(even_acceptance=False, policy="greedy-batch"),
}
OWN_OUTPUTS: Final = "answers of 1 to 2 x their mean"


def main(
    users: Annotated[int, typer.Option(min=1, max=1000, help="K.")] = 100,
    output: Annotated[int, typer.Option(min=2, max=4096, help="Tokens of each answer.")] = 512,
    cohorts: Annotated[int, typer.Option(min=1, max=100, help="Random cohorts.")] = 5,
    out: Annotated[Path, typer.Option(help="Result file.")] = Path(".outrider/latency-cohort.json"),
) -> None:
    """The latency of a plan beside that of the deployed services, which play its cohort in virtual time."""
    console = Console(stderr=True)
    logs.configure("warning", "console", role="plan")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in PLAYS}
    with Steps(console) as steps:
        step = steps.step("plays", cohorts * len(PLAYS))
        for seed in range(1, cohorts + 1):
            drawn = paper_cohort(seed, SETTING, users=users)
            for name, assumed in PLAYS.items():
                cohort = replace(drawn, outputs=_outputs(drawn, output, own=name == OWN_OUTPUTS))
                rows[name].append(_played(cohort, assumed))
                step.advance(f"{name} {rows[name][-1]['difference']:+.1%}")
    config = {"users": users, "output": output, "cohorts": cohorts}
    write_measurement(out, "latency-cohort", config, {"plays": rows})
    console.print(table(rows))
    console.print(f"written to {out}")


def _outputs(drawn: Cohort, output: int, own: bool) -> tuple[int, ...]:
    """The same for everybody, or spread as the paper's, of 1 to 2048, with that mean."""
    return tuple(max(2, round(each * output / 1024)) if own else output for each in drawn.outputs)


def _played(cohort: Cohort, assumed: Assumptions) -> dict[str, Any]:
    plan: LatencyPlan = solve(cohort)
    seconds = play(cohort, plan, assumed) / 1e3
    formula = plan.latency_ms / 1e3
    return {
        "batches": [len(batch) for batch in plan.batches],
        "draft_length": plan.draft_length,
        "rounds": plan.rounds,
        "formula_s": round(formula, 3),
        "services_s": round(seconds, 3),
        "difference": round(seconds / formula - 1, 5),
    }


def table(rows: Mapping[str, list[dict[str, Any]]]) -> Table:
    """Differences of the services' latency from the formula's."""
    shown = Table("played", "formula s", "services s", "difference, mean", "least", "most")
    for name, plays in rows.items():
        differences = [play["difference"] for play in plays]
        mean = {key: sum(play[key] for play in plays) / len(plays) for key in ("formula_s", "services_s")}
        shown.add_row(
            name,
            f"{mean['formula_s']:.1f}",
            f"{mean['services_s']:.1f}",
            f"{sum(differences) / len(differences):+.1%}",
            f"{min(differences):+.1%}",
            f"{max(differences):+.1%}",
        )
    return shown


if __name__ == "__main__":
    bench_main(main)
