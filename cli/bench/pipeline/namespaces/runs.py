"""Runs the equality cases over a group whose ranks are far from one another."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cli.admin import Admin
from cli.bench.pipeline.namespaces.network import Network
from cli.bench.pipeline.namespaces.traffic import Count, count
from cli.command.errors import CommandError
from cli.stack.stack import LocalStack
from loadgen.client.streaming import Client
from loadgen.request import ChatRequest, Record
from shared.planning.windows import NO_WINDOW

BEATS_S: Final = 2.5  # until a beat has brought the stages' last counts
FIELDS: Final = ("id", "prompt", "max_tokens", "temperature", "top_p", "seed")


@dataclass(frozen=True, slots=True)
class Variant:
    """How the group drafts. about: for the table."""

    name: str
    about: str
    policy: str
    k: int
    window: str


VARIANTS: Final = (
    Variant("rows", "rows (cyclic-k)", "cyclic-k", 4, NO_WINDOW),
    Variant("core", "trees of the core", "fixed-k", 4, "flowspec"),
    Variant("devices", "trees of the devices", "flowspec", 4, NO_WINDOW),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a run. different: cases whose tokens are not those of the reference. prompts: tokens of all prompts."""

    variant: Variant
    users: int
    cases: int
    different: Sequence[str]
    seconds: float
    prompts: int
    counts: Count

    @property
    def tokens_per_s(self) -> float:
        """Committed for all users together."""
        return self.counts.committed / self.seconds


async def run_cases(
    stack: LocalStack, network: Network, variant: Variant, users: int, cases: Sequence[Mapping[str, Any]]
) -> Outcome:
    """Run all cases, so many users at a time. Raises CommandError."""
    url = stack.processes["verifier"].spec.ready_url.replace("/readyz", "/metrics")
    async with Client(stack.url) as client, Admin(stack.url) as admin:
        await admin.set_policy(variant.policy, variant.k, window=variant.window)
        await asyncio.sleep(BEATS_S)
        before = await count(url, network)
        places = asyncio.Semaphore(users)

        async def one(case: Mapping[str, Any]) -> Record:
            async with places:
                request = ChatRequest(
                    model=stack.options.served_name, **{name: case[name] for name in FIELDS}
                )
                return await client.chat(request)

        began = time.perf_counter()
        records = await asyncio.gather(*map(one, cases))
        seconds = time.perf_counter() - began
        await asyncio.sleep(BEATS_S)
        counts = (await count(url, network)).since(before)
    if failed := [f"{record.request.id}: {record.error}" for record in records if record.error]:
        raise CommandError("; ".join(failed[:3]))
    if died := [death for process in stack.processes.values() for death in process.deaths]:
        raise CommandError("; ".join(died))
    different = [
        case["id"] for case, record in zip(cases, records, strict=True) if record.tokens != case["tokens"]
    ]
    prompts = sum(record.prompt_tokens for record in records)
    return Outcome(variant, users, len(cases), different, seconds, prompts, counts)
