"""A pipeline whose ranks are in network namespaces of their own, with a delay and a rate between them.

    python -m cli.bench.pipeline.namespaces [--stages 4 --delay-ms 3 --mbit 100] [--json FILE]

Runs the equality cases, with rows, with trees of the core and with trees of the devices, and compares every token with
the reference. Counts what goes over the links per token, beside FlowSpec's own traffic. Needs root, iproute2 and the
model smollm2; and the kernel's netem, or else TUN devices.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import typer
from rich.console import Console

from cli.bench.pipeline.memory import even_split
from cli.bench.pipeline.namespaces.group import options_of, stack_in
from cli.bench.pipeline.namespaces.link_check import hop_ms, mbit
from cli.bench.pipeline.namespaces.network import KINDS, Kind, Network, Shape
from cli.bench.pipeline.namespaces.runs import VARIANTS, Outcome, Variant, run_cases
from cli.bench.pipeline.namespaces.traffic import per_token
from cli.bench.pipeline.options import names, whole_numbers
from cli.command.bench_main import bench_main
from cli.command.errors import CommandError
from cli.command.options import STATE
from cli.models.resolve import resolve
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from loadgen.measuring.table import table
from simulator.pipeline.acceptance import LOWEST

MODEL: Final = "smollm2"  # of the cases
CASES: Final = Path("tests/exactness/cases.json")
FLOAT32: Final = 4
KINDS_OF_CASE: Final = 3  # greedy, and two temperatures
ALONE: Final = 24
RUNS: Final = ",".join(variant.name for variant in VARIANTS)
READY_S: Final = 300.0
P1: Final = 0.75  # where no rows were measured
T = TypeVar("T")

ABOUT: Final = {"netem": "tc netem", "userspace": "a process: this kernel has no tc netem"}

COLUMNS: Final = {
    "run": "{about}",
    "users": "{users}",
    "exact": "{exact}",
    "tok/s": "{tokens_per_s:.1f}",
    "messages": "{messages:.1f}",
    "rows": "{rows:.1f}",
    "kB": "{kb:.1f}",
    "kB with headers": "{wire_kb:.1f}",
}


class Planned(NamedTuple):
    """A run to be made."""

    variant: Variant
    users: int
    cases: Sequence[Mapping[str, Any]]


def read_cases(path: Path) -> list[dict[str, Any]]:
    """The equality cases. Raises CommandError."""
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"--cases {path}: {error}; run this in a checkout of the repository") from None
    return found


def spread(cases: Sequence[T], limit: int) -> list[T]:
    """So many of the cases, spread over prompts and kinds of sampling, which follow each other. limit: 0 = all."""
    if not 0 < limit < len(cases):
        return list(cases)
    places = (number * len(cases) // limit // KINDS_OF_CASE * KINDS_OF_CASE for number in range(limit))
    return [cases[min(place + number % KINDS_OF_CASE, len(cases) - 1)] for number, place in enumerate(places)]


async def run_all(
    network: Network,
    layers: Sequence[int],
    runs: Sequence[Planned],
    state_dir: Path,
) -> list[Outcome]:
    """Every run on one stack. To be called inside rank 0's namespace. Raises CommandError, ProcessFailed."""
    found = []
    stack = stack_in(network, options_of(MODEL, network, layers, state_dir))
    try:
        await stack.start()
        await stack.wait_ready(READY_S)
        async with Steps(Console()) as steps:
            step = steps.step("runs", len(runs))
            for variant, users, cases in runs:
                found.append(await run_cases(stack, network, variant, users, cases))
                step.advance(f"{variant.about}: {found[-1].tokens_per_s:.1f} tokens/s")
    finally:
        await stack.stop()
    return found


def as_row(outcome: Outcome, stages: int, row_bytes: int) -> dict[str, Any]:
    """For the table and the result file."""
    traffic = per_token(outcome.counts, outcome.prompts, stages, row_bytes)
    same = outcome.cases - len(outcome.different)
    return {
        "variant": outcome.variant.name,
        "about": outcome.variant.about,
        "users": outcome.users,
        "exact": f"{same} of {outcome.cases}",
        "different": list(outcome.different),
        "tokens_per_s": outcome.tokens_per_s,
        "seconds": outcome.seconds,
        "prompt_tokens": outcome.prompts,
        **traffic,
        "kb": traffic["bytes"] / 1e3,
        "wire_kb": traffic["wire_bytes"] / 1e3,
        "counts": asdict(outcome.counts),
    }


def acceptance(outcomes: Sequence[Outcome]) -> float:
    """Share of the drafted tokens of rows that the target agreed with; P1 where none were drafted."""
    accepted = sum(one.counts.accepted for one in outcomes if one.variant.name == "rows")
    rejected = sum(one.counts.rejected for one in outcomes if one.variant.name == "rows")
    share = accepted / (accepted + rejected) if accepted + rejected else P1
    return round(min(max(share, LOWEST + 0.01), 0.99), 2)


def measure(
    stages: Annotated[int, typer.Option(min=2, max=30, help="Stages beside rank 0.")] = 4,
    delay_ms: Annotated[float, typer.Option(min=0, max=1000, help="Of a message between two ranks.")] = 3.0,
    mbit: Annotated[
        float, typer.Option(min=0.1, max=10_000, help="Rate of a rank's link, a second.")
    ] = 100.0,
    users: Annotated[str, typer.Option(help="Users at the same time.")] = "1,8",
    runs: Annotated[str, typer.Option(help="What is measured.")] = RUNS,
    by: Annotated[str, typer.Option(help="netem or userspace; netem where the kernel has it.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Cases of a run; 0 = all.")] = 0,
    alone: Annotated[int, typer.Option(min=0, help="Cases of a run with one user, likewise.")] = ALONE,
    cases: Annotated[Path, typer.Option(dir_okay=False, help="The equality cases.")] = CASES,
    json_: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="Result file.")] = None,
) -> None:
    """A pipeline with a network namespace for each rank, and slow links between them. Needs root."""
    chosen = names("runs", runs, [variant.name for variant in VARIANTS])
    found = read_cases(cases)
    planned = [
        Planned(variant, count, spread(found, limit if count > 1 else alone))
        for count in whole_numbers("users", users, 1, 64)
        for variant in VARIANTS
        if variant.name in chosen
    ]
    kind: Kind | None = None
    if by:
        kind = next((known for known in KINDS if known == by), None)
        if kind is None:
            raise CommandError(f"--by {by!r} is none of {', '.join(KINDS)}")
    body = run(stages, Shape(delay_ms, mbit), planned, STATE / "namespaces", kind)
    show(body)
    if json_ is not None:
        config = {"model": MODEL, "stages": stages, "delay_ms": delay_ms, "mbit": mbit}
        write_measurement(json_, "pipeline-namespaces", config, body)
    if wrong := [row["about"] for row in body["runs"] if row["different"]]:
        raise CommandError(f"tokens differ from the reference: {', '.join(wrong)}")


def run(
    stages: int,
    shape: Shape,
    planned: Sequence[Planned],
    state_dir: Path,
    kind: Kind | None = None,
) -> dict[str, Any]:
    """All of it. Raises CommandError, ModelError, ProcessFailed, TimeoutError."""
    from cli.bench.pipeline.namespaces.flowspec import LAW, modelled_traffic

    target, _, _ = resolve(MODEL)
    config = json.loads((target / "config.json").read_text())
    row_bytes = config["hidden_size"] * FLOAT32
    with Network(stages + 1, shape, kind) as network:
        links = {
            "by": network.kind,
            "measured_delay_ms": hop_ms(network, 1, 2),
            "measured_mbit": mbit(network, 1, 2),
        }
        with network.inside(0):
            layers = even_split(config["num_hidden_layers"], stages)
            outcomes = asyncio.run(run_all(network, layers, planned, state_dir))
    p1 = acceptance(outcomes)
    return {
        "links": links,
        "row_bytes": row_bytes,
        "runs": [as_row(outcome, stages, row_bytes) for outcome in outcomes],
        "modelled": {
            "law": LAW,
            "p1": p1,
            "methods": modelled_traffic(p1, stages, shape.delay_ms, shape.mbit, row_bytes),
        },
    }


def show(body: Mapping[str, Any]) -> None:
    """Print the tables."""
    links, modelled = body["links"], body["modelled"]
    console = Console()
    title = (
        f"Per token. Links by {ABOUT[links['by']]}; measured {links['measured_delay_ms']:.2f} ms "
        f"and {links['measured_mbit']:.0f} Mbit/s"
    )
    methods = [
        {"about": f"{one['method']}: {one['about']}", "users": 1, **one, "kb": one["bytes"] / 1e3}
        for one in modelled["methods"]
    ]
    console.print(table(body["runs"], COLUMNS, title))
    shown = {name: COLUMNS[name] for name in ("run", "messages", "rows", "kB")}
    console.print(table(methods, shown, f"Simulated, law {modelled['law']}, p1 = {modelled['p1']}"))


if __name__ == "__main__":
    bench_main(measure)
