"""Cohorts of users whose devices share a radio cell: the latency to the last answer, by how the band is shared.

    python -m cli.bench.cell [--scenario FILE] [--repeats 5] [--out FILE]

Real services, modelled target and drafters, and emulated links: the radio is modelled bit by bit (shared/cells) while
everything else runs on the real clock. Under `contention` those who transfer share the band equally, and no shares are
given; else devices keep the shares that the scheduler gives them. In a last cohort a ninth device joins and leaves.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from cli.admin import Admin
from cli.bench.cell.cohort import Cohort, Visitor, requests_of, run_cohort
from cli.command.bench_main import bench_main
from cli.command.errors import CommandError
from cli.stack.stack import LocalStack, Ports, StackOptions
from loadgen.measuring.arms import measure_arms_async
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from services.draft_worker.radio import Radio
from shared.cells.sharing import Sharing
from shared.planning.server_laws import PackedLaw
from shared.runtime import logs
from shared.scenario.cell_spec import bands_text
from simulator.scenario import SimulatedScenario, read_simulated

ARMS: Final[dict[str, tuple[Sharing, str]]] = {  # how the cell is shared, and the scheduler's rule
    "uniform": ("shares", "uniform"),
    "contention": ("contention", "none"),
    "minmax": ("shares", "minmax"),
    "joint": ("shares", "joint"),
}
VOCAB: Final = 49152
VERIFY_MS: Final = 1.0  # unused: all times of these devices are in milliseconds
VISIT_S: Final = 3.0


def main(
    scenario: Annotated[Path, typer.Option(help="File of the cell, its devices and the core.")] = Path(
        "scenarios/cell-cohort.yaml"
    ),
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Cohorts of each arm, interleaved.")] = 5,
    policy: Annotated[str, typer.Option(help="Policy of all cohorts.")] = "outrider-latency",
    out: Annotated[Path, typer.Option(help="Result file.")] = Path(".outrider/cell-live.json"),
    state_dir: Annotated[Path, typer.Option(help="Folder of the stack's logs.")] = Path(
        ".outrider/bench-cell"
    ),
) -> None:
    """Cohorts of users whose devices share a radio cell: the latency to the last answer, by how the band is shared."""
    console = Console(stderr=True)
    described = read_simulated(scenario.resolve()) if scenario.is_file() else None
    if described is None or len(described.cells) != 1:
        raise CommandError(f"--scenario {scenario}: give a scenario file with one cell")
    logs.configure("warning", "console", role="bench")
    body = asyncio.run(measure(described, policy, repeats, state_dir, console))
    write_measurement(out, "cell", {"scenario": str(scenario), "policy": policy, "repeats": repeats}, body)
    show(body, console)
    console.print(f"written to {out}")
    if body["different_texts"]:
        raise CommandError(f"{body['different_texts']} texts differ")


async def measure(
    scenario: SimulatedScenario, policy: str, repeats: int, state_dir: Path, console: Console
) -> dict[str, Any]:
    """All cohorts; a first one of each arm is not counted: speeds and acceptance are learnt in it."""
    async with LocalStack(_options(scenario, state_dir)) as stack, Steps(console) as steps:
        step = steps.step("cohorts", (repeats + 1) * len(ARMS) + 1)

        async def cohort(arm: str, visitor: Visitor | None = None) -> Cohort:
            sharing, rule = ARMS[arm]
            async with Admin(stack.url) as admin:
                await admin.set_policy(policy, bandwidth=rule)
            radio, devices = _radio(scenario, sharing), scenario.fleet(VERIFY_MS)
            found = await run_cohort(
                stack, devices, radio, requests_of(devices, VOCAB, stack.options.served_name), visitor
            )
            stack.raise_if_failed()
            step.advance(f"{arm} {found.latency_s:.1f} s")
            return found

        for arm in ARMS:
            await cohort(arm)
        found = await measure_arms_async(list(ARMS), repeats, cohort)
        visited = await cohort("joint", _visitor(scenario, stack.options.served_name))
    return body_of(found, visited)


def _options(scenario: SimulatedScenario, state_dir: Path) -> StackOptions:
    """A stack with a modelled target and the scenario's law of a pass, and no devices of its own."""
    core = scenario.core
    law = core.server
    if not isinstance(law, PackedLaw) or law.per_context_ms:
        raise CommandError(
            "core.server: give a packed law with per_context_ms: 0, which a modelled target has"
        )
    return StackOptions(
        modelled=True,
        served_name="modelled",
        draft_workers=0,
        ports=Ports.free(),
        state_dir=state_dir,
        env={
            "OUTRIDER_CELLS": bands_text(scenario.cells),
            "OUTRIDER_MOVE_TIMEOUT_S": str(core.move_timeout.ms_at(0.0, 0.0) / 1e3),
            "OUTRIDER_PREFILL_TOKENS": str(core.prefill_tokens),
            "OUTRIDER_MODEL_BETA_MS": str(law.beta_ms),
            "OUTRIDER_MODEL_PER_TOKEN_MS": str(law.per_token_ms),
        },
    )


def _radio(scenario: SimulatedScenario, sharing: Sharing) -> Radio:
    (spec,) = scenario.cells
    return Radio(spec.model_copy(update={"sharing": sharing}).cell(scenario.fleet(VERIFY_MS)))


def _visitor(scenario: SimulatedScenario, model: str) -> Visitor:
    """A device like the middle one."""
    devices = scenario.fleet(VERIFY_MS)
    device = replace(devices[len(devices) // 2], name="visitor", seed=99)
    (request,) = requests_of([device], VOCAB, model)
    return Visitor(device, request, VISIT_S)


def body_of(found: Mapping[str, Sequence[Cohort]], visited: Cohort) -> dict[str, Any]:
    """The figures, and the number of texts that are not those of the first cohort."""
    first = next(iter(found.values()))[0].texts
    every = [visited, *(cohort for cohorts in found.values() for cohort in cohorts)]
    different = sum(cohort.texts[name] != text for cohort in every for name, text in first.items())
    uniform = fmean(cohort.latency_s for cohort in found["uniform"])
    arms = {
        arm: {
            "latency_s": [round(cohort.latency_s, 3) for cohort in cohorts],
            "mean_s": round(fmean(cohort.latency_s for cohort in cohorts), 3),
            "of_uniform": round(fmean(cohort.latency_s for cohort in cohorts) / uniform, 3),
            "uploading": round(fmean(cohort.uploading for cohort in cohorts), 3),
            "of_share": _of_share(cohorts),
            "ends_s": {name: round(end, 2) for name, end in cohorts[-1].ends_s.items()},
        }
        for arm, cohorts in found.items()
    }
    return {
        "arms": arms,
        "visited": {"latency_s": round(visited.latency_s, 3), "of_share": _of_share([visited])},
        "different_texts": different,
    }


def _of_share(cohorts: Sequence[Cohort]) -> list[float] | None:
    """The least and the most of what a device carried by what its share allowed; None without shares."""
    ratios = [one["of_share"] for cohort in cohorts for one in cohort.carried.values()]
    known = [ratio for ratio in ratios if ratio is not None]
    return [round(min(known), 4), round(max(known), 4)] if known else None


def show(body: Mapping[str, Any], console: Console) -> None:
    """The arms as a table."""
    table = Table("arm", "s to the last answer", "of uniform", "of it on the air", "carried by share")
    for arm, row in body["arms"].items():
        shares = "–".join(f"{ratio:.3f}" for ratio in row["of_share"] or [])
        table.add_row(
            arm, f"{row['mean_s']:.1f}", f"{row['of_uniform']:.2f}", f"{row['uploading']:.0%}", shares
        )
    console.print(table)


if __name__ == "__main__":
    bench_main(main)
