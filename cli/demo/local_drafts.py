"""The demo's first half: the draft model runs on this machine.

Every policy gets the split of two cores that suits it best (docs/benchmarks.md): the verifier gets both where drafting
and verification alternate, or nothing is drafted, and one under cyclic-k, where they overlap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cli.admin import Admin
from cli.command.errors import CommandError
from cli.demo.demo_run import DemoPolicy, DemoRun, serve
from cli.demo.reference import Text
from cli.stack.requests import answers
from cli.stack.stack import LocalStack
from loadgen.client.streaming import Client
from loadgen.measuring.arms import measure_arms_async
from loadgen.measuring.progress import ProgressStep
from loadgen.request import ChatRequest, Record

POLICIES: Final = (
    DemoPolicy("autoregressive"),
    DemoPolicy("greedy-batch"),
    DemoPolicy("fixed-k", 2),
    DemoPolicy("cyclic-k", 3, verifier_threads=1),
    DemoPolicy("outrider"),
)
CHECK_TOKENS: Final = 8


async def check(stack: LocalStack, requests: Sequence[ChatRequest]) -> None:
    """Raise CommandError unless the stack serves, its devices draft, and the target accepts drafts."""
    async with Client(stack.url) as client, Admin(stack.url) as admin:
        await admin.set_policy("fixed-k", 4)
        records = await answers(client, [replace(request, max_tokens=CHECK_TOKENS) for request in requests])
    stack.raise_if_failed()
    require_drafts(records, stack.options.state_dir / "logs")


def require_drafts(records: Sequence[Record], logs: Path) -> None:
    """Raise CommandError unless devices drafted and the target accepted a draft. logs: folder of the log files."""
    drafted = sum(record.drafted_tokens for record in records)
    if not drafted:
        raise CommandError(f"no device drafted a token, see {logs}/draft-worker-*.log")
    if not any(record.accepted_tokens for record in records):
        raise CommandError(
            f"the target accepted none of {drafted} drafted tokens: llama.cpp computes wrong values on this "
            f"machine, or the draft model does not belong to the target; see {logs}/draft-worker-*.log"
        )


async def run_policies(
    stack: LocalStack,
    requests: Sequence[ChatRequest],
    expected: Mapping[str, Text],
    repeats: int,
    step: ProgressStep,
) -> dict[str, list[DemoRun]]:
    """Run every policy once per repeat; runs by the policy's name. Raises CommandError."""
    async with Client(stack.url) as client, Admin(stack.url) as admin:

        async def run(policy: DemoPolicy) -> DemoRun:
            one = await serve(client, admin, policy, requests, expected)
            step.advance(f"{policy} {one.tokens_per_s:.1f} tok/s")
            stack.raise_if_failed()
            return one

        runs = await measure_arms_async(POLICIES, repeats, run)
    return {str(policy): repeats_of for policy, repeats_of in runs.items()}
