"""Runs the demo. Steps that can fail come before those that take minutes."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console

from cli.command.errors import CommandError
from cli.demo import emulated_devices, local_drafts
from cli.demo.demo_run import DemoRun
from cli.demo.reference import reference
from cli.demo.statistics import rows
from cli.demo.table import show
from cli.stack.stack import LocalStack, Ports, StackOptions
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from loadgen.prompts import demo_cases
from loadgen.request import ChatRequest

DTYPE: Final = "float32"
CHECK_S: Final = 1.0  # between checks whether the stack has failed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Demo:
    """What to run. tokens: of each user's answer. state_dir: for the stacks' state and the cached reference."""

    target: Path
    draft_model: Path
    name: str
    users: int
    tokens: int
    repeats: int
    out: Path
    state_dir: Path


async def run_demo(demo: Demo) -> None:
    """Run both halves, print texts and table, write `out`. Raises CommandError if a text is not the target's."""
    console = Console()
    requests = [
        ChatRequest(model=demo.name, max_tokens=demo.tokens, **case) for case in demo_cases(demo.users)
    ]
    scenario = emulated_devices.demo_scenario(demo.users)
    async with Steps(console) as steps:
        local = await _run_local(demo, requests, steps)
        folder = demo.state_dir / "demo-emulated"
        emulated = await emulated_devices.run(
            demo.target, demo.name, DTYPE, scenario, demo.repeats, folder, steps
        )
    halves = {
        "this_machine": rows(local, ("autoregressive", "greedy-batch")),
        "emulated": rows(emulated, (emulated_devices.GENERATE, "greedy-batch")),
    }
    config = {
        "users": demo.users,
        "tokens": demo.tokens,
        "repeats": demo.repeats,
        "entrants": [asdict(policy) for policy in local_drafts.POLICIES],
        "scenario": scenario.model_dump(mode="json"),
    }
    write_measurement(demo.out, "demo", config, halves)
    show(
        console,
        local[str(local_drafts.POLICIES[-1])][0].records,
        halves["this_machine"],
        halves["emulated"],
        scenario,
    )
    console.print(f"written to {demo.out}")
    raise_if_wrong(halves)


async def _run_local(demo: Demo, requests: Sequence[ChatRequest], steps: Steps) -> dict[str, list[DemoRun]]:
    """Run the first half. The reference is computed once the services have been seen to draft."""
    options = StackOptions(
        demo.target,
        demo.draft_model,
        demo.name,
        ports=Ports.free(),
        state_dir=demo.state_dir / "demo",
        env={"OUTRIDER_DTYPE": DTYPE},
    )
    step = steps.step("services start and draft", 1)
    async with LocalStack(options) as stack:
        await local_drafts.check(stack, requests)
        step.advance()
        step = steps.step("the target alone (transformers)", len(requests))
        expected = await beside(stack, reference(demo.target, requests, demo.state_dir, step))
        step = steps.step("drafts made here", demo.repeats * len(local_drafts.POLICIES))
        return await local_drafts.run_policies(stack, requests, expected, demo.repeats, step)


async def beside(stack: LocalStack, work: Coroutine[Any, Any, T]) -> T:
    """Await work, but cancel it as soon as the stack fails. Raises ProcessFailed then."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=CHECK_S)
            stack.raise_if_failed()
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def raise_if_wrong(halves: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Raise CommandError if a text of a half's policy was not the target's own."""
    wrong = [
        f"{policy} ({half.replace('_', ' ')})"
        for half, table in halves.items()
        for policy, row in table.items()
        if row["identical_to_reference"] is False
    ]
    if wrong:
        raise CommandError(f"text differs from the target alone under {', '.join(wrong)}")
