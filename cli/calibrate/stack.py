"""Measures a traced stack for a few seconds, with processes, broker and sockets as in `outrider up`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from cli.calibrate.agreement import chat_prompts
from cli.calibrate.live import at_users, broker_of, cycles
from cli.calibrate.pair import CalibratedModel
from cli.command.errors import CommandError
from cli.stack.requests import answers
from cli.stack.stack import LocalStack, Ports, StackOptions
from loadgen.client.streaming import Client
from loadgen.prompts import demo_cases
from loadgen.request import ChatRequest
from shared.broker.trace_reader import TraceReader
from shared.planning.cost import Packed
from shared.planning.profile import AtUsers, BrokerCosts

USERS: Final = (4, 8, 16)  # at least 4: the laws hold from 4 tokens per pass
QUICK_USERS: Final = (4, 8)
TOKENS: Final = 64  # of each user
QUICK_TOKENS: Final = 32
WARM_UP_TOKENS: Final = 4


async def measure_broker(
    model: CalibratedModel, law: Packed, state_dir: Path, tick: Callable[[str], None], *, quick: bool
) -> BrokerCosts:
    """Measure the broker's share at several user counts. law: of the pass. Raises one of cli_errors.expected()."""
    users, tokens = (QUICK_USERS, QUICK_TOKENS) if quick else (USERS, TOKENS)
    measured: list[AtUsers] = []
    async with (
        LocalStack(options(model, state_dir)) as stack,
        Client(stack.url) as client,
        TraceReader(stack.broker_url) as trace,
    ):
        await answers(client, _requests(demo_cases(max(users)), model.name, WARM_UP_TOKENS))
        for count in users:
            tick(f"a running stack, {count} users")
            cases = demo_cases(count)
            begun_us = await trace.now_us()
            await answers(client, _requests(cases, model.name, tokens))
            stack.raise_if_failed()
            prompts = chat_prompts(model.folder, [case["prompt"] for case in cases])
            steady = cycles(await trace.since(begun_us), count, sum(map(len, prompts)))
            one = at_users(steady, law)
            if one:
                measured.append(one)
    if not measured:
        raise CommandError("the running stack: answers ended before there was a steady batch")
    return broker_of(measured)


def options(model: CalibratedModel, state_dir: Path) -> StackOptions:
    """The stack: the target as it was measured, all users in one batch, no draft worker."""
    env = {
        "OUTRIDER_DEVICE": model.device,
        "OUTRIDER_DTYPE": model.dtype,
        "OUTRIDER_VERIFIER_THREADS": str(model.threads),
        "OUTRIDER_KV_TOKENS": str(model.pool_tokens),
        "OUTRIDER_POLICY": "greedy-batch",
        "OUTRIDER_TRACE": "1",
    }
    return StackOptions(
        model.folder,
        model.draft,
        model.name,
        draft_workers=0,
        ports=Ports.free(),
        state_dir=state_dir,
        env=env,
    )


def _requests(cases: Sequence[dict[str, Any]], model: str, tokens: int) -> list[ChatRequest]:
    return [ChatRequest(model=model, max_tokens=tokens, **case) for case in cases]
