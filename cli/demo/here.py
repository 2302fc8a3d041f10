"""The first half: drafts are made on this machine, by the demo's own draft model.

Every policy has the split of two cores that is best for it (docs/benchmarks.md): where drafting and verifying take
turns, or nobody drafts, the verifier takes both; under cyclic-k they overlap and it takes one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cli.admin import Admin
from cli.command.errors import CommandError
from cli.demo.entrants import DemoPolicy, DemoRun, serve
from cli.demo.reference import Text
from cli.stack.requests import answers
from cli.stack.stack import LocalStack
from loadgen.client.streaming import Client
from loadgen.measuring.arms import measure_arms_async
from loadgen.measuring.progress import Step
from loadgen.request import ChatRequest, Record

ENTRANTS: Final = (
    DemoPolicy("autoregressive"),
    DemoPolicy("greedy-batch"),
    DemoPolicy("fixed-k", 2),
    DemoPolicy("cyclic-k", 3, verifier_threads=1),
    DemoPolicy("outrider"),
)
PROOF_TOKENS: Final = 8


async def prove(stack: LocalStack, requests: Sequence[ChatRequest]) -> None:
    """Raise CommandError unless the stack serves, and its devices draft what the target accepts."""
    async with Client(stack.url) as client, Admin(stack.url) as admin:
        await admin.set_policy("fixed-k", 4)
        records = await answers(client, [replace(request, max_tokens=PROOF_TOKENS) for request in requests])
    stack.raise_if_failed()
    require_drafts(records, stack.options.state_dir / "logs")


def require_drafts(records: Sequence[Record], logs: Path) -> None:
    """Raise CommandError unless devices drafted, and the target accepted some of it. logs: the processes' folder."""
    drafted = sum(record.drafted_tokens for record in records)
    if not drafted:
        raise CommandError(f"no device drafted a token, see {logs}/draft-worker-*.log")
    if not any(record.accepted_tokens for record in records):
        raise CommandError(
            f"the target accepted none of {drafted} drafted tokens: llama.cpp computes wrong values on this "
            f"machine, or the draft model does not belong to the target; see {logs}/draft-worker-*.log"
        )


async def race(
    stack: LocalStack,
    requests: Sequence[ChatRequest],
    expected: Mapping[str, Text],
    repeats: int,
    step: Step,
) -> dict[str, list[DemoRun]]:
    """Every entrant once a repeat, by its name. Raises CommandError."""
    async with Client(stack.url) as client, Admin(stack.url) as admin:

        async def turn(entrant: DemoPolicy) -> DemoRun:
            run = await serve(client, admin, entrant, requests, expected)
            step.advance(f"{entrant} {run.tokens_per_s:.1f} tok/s")
            stack.raise_if_failed()
            return run

        runs = await measure_arms_async(ENTRANTS, repeats, turn)
    return {str(entrant): mine for entrant, mine in runs.items()}
