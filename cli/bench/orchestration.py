"""Orchestration overhead: the time of a round that is neither drafting nor verification.

    python -m cli.bench.orchestration [--out FILE]
    python -m cli.bench.orchestration --real smollm2

For the last-arriving member of each batch: the time from one verdict to the next, minus its draft and its verification,
read from the trace of a real stack (processes, broker, sockets). Compute is modelled, so that only the orchestration
varies. --real uses the demo's models and requests, all on one machine, where orchestration also waits for processors.
Broker commands and scripts per round are counted as well.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from redis.asyncio import Redis
from rich.console import Console

from cli.admin import Admin
from cli.command.bench_main import bench_main
from cli.command.options import STATE
from cli.models.resolve import resolve
from cli.stack.requests import answers
from cli.stack.stack import LocalStack, Ports, StackOptions
from loadgen.client.streaming import Client
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from loadgen.measuring.table import table
from loadgen.prompts import demo_cases
from loadgen.request import ChatRequest
from shared.protocol.keys import Keys
from shared.protocol.messages import Span
from shared.protocol.wire import decode_as

POLICIES: Final = (("fixed-k", 4, 2), ("cyclic-k", 4, 1))  # k, the verifier's threads
USERS: Final = 8
TOKENS: Final = 256
WARM_UP: Final = 0.1  # share of the rounds that is cut at the start

COLUMNS: Final = {
    "policy": "{policy}",
    "batches": "{batches}",
    "p50 ms": "{gap_ms_p50:.2f}",
    "p99 ms": "{gap_ms_p99:.2f}",
    "max ms": "{gap_ms_max:.2f}",
    "scripts/round": "{commands_per_round[evalsha]:.2f}",
    "reads/round": "{reads:.2f}",
}


@dataclass(frozen=True, slots=True)
class Gap:
    """One batch's orchestration time, by its last-arriving member. Microseconds."""

    batch: int
    session: str
    gap_us: int


def gaps(spans: Iterable[Span]) -> list[Gap]:
    """Verdict to verdict, minus draft, minus verification, for each batch whose last member drafted."""
    verified: dict[str, dict[int, Span]] = defaultdict(dict)  # by session, by batch
    drafted: dict[tuple[str, int], Span] = {}  # by session, round
    for span in spans:
        if span.role == "verifier" and span.kind == "verify":
            verified[span.session][span.step] = span
        elif span.kind == "draft":
            drafted[span.session, span.round] = span
    members: dict[int, list[tuple[int, Gap]]] = defaultdict(list)  # by batch: (draft's end, gap)
    for session, by_batch in verified.items():
        steps = sorted(by_batch.values(), key=lambda span: span.end_us)
        for before, now in pairwise(steps):
            draft = drafted.get((session, now.round))
            if draft is None or draft.end_us > now.start_us or draft.start_us < before.end_us:
                continue
            computing = draft.end_us - draft.start_us + now.end_us - now.start_us
            gap = Gap(now.step, session, now.end_us - before.end_us - computing)
            members[now.step].append((draft.end_us, gap))
    return [max(batch, key=lambda member: member[0])[1] for _, batch in sorted(members.items())]


async def read_spans(redis: Redis) -> list[Span]:
    """Every span in the trace stream."""
    entries: Any = await redis.xrange(Keys().trace)
    return [decode_as(Span, fields[b"d"]) for _, fields in entries]


async def command_counts(redis: Redis) -> dict[str, int]:
    """Calls of each broker command so far."""
    stats: Any = await redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}


def setting(real: str, state_dir: Path) -> tuple[StackOptions, list[ChatRequest]]:
    """The stack's options and the requests. real: name of a model, "" = modelled compute."""
    env = {"OUTRIDER_TRACE": "1"}
    if real:
        target, draft, name = resolve(real)
        env |= {"OUTRIDER_DTYPE": "float32"}
        requests = [ChatRequest(model=name, max_tokens=64, **case) for case in demo_cases(USERS)]
        return StackOptions(target, draft, name, ports=Ports.free(), state_dir=state_dir, env=env), requests
    env |= {"OUTRIDER_MODEL_DRAFT_MS": "5", "OUTRIDER_MODEL_BETA_MS": "30"}
    requests = [ChatRequest(f"u{i}", "modelled", f"prompt {i}", TOKENS, seed=i + 1) for i in range(USERS)]
    options = StackOptions(
        modelled=True, served_name="modelled", ports=Ports.free(), state_dir=state_dir, env=env
    )
    return options, requests


async def measure(policy: str, k: int, threads: int, real: str, state_dir: Path) -> dict[str, Any]:
    """Measure one policy on a fresh stack. threads: of the verifier."""
    options, requests = setting(real, state_dir)
    async with LocalStack(options) as stack, Client(stack.url) as client, Admin(stack.url) as admin:
        await admin.set_policy(policy, k, threads)
        async with Redis.from_url(stack.broker_url) as redis:
            before = await command_counts(redis)
            records = await answers(client, requests)
            after = await command_counts(redis)
            gap_list = gaps(await read_spans(redis))
    steady = np.array([gap.gap_us for gap in gap_list[int(len(gap_list) * WARM_UP) :]]) / 1e3
    calls = {
        name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)
    }
    rounds = max(sum(record.rounds for record in records), 1)
    return {
        "batches": len(steady),
        "gap_ms_p50": float(np.percentile(steady, 50)),
        "gap_ms_p99": float(np.percentile(steady, 99)),
        "gap_ms_max": float(steady.max()),
        "rounds": rounds,
        "commands_per_round": {name: round(count / rounds, 3) for name, count in sorted(calls.items())},
    }


async def measure_all(real: str, state_dir: Path, console: Console) -> dict[str, dict[str, Any]]:
    """Results of every policy."""
    results = {}
    async with Steps(console) as steps:
        step = steps.step(f"{USERS} users, {real or 'modelled compute'}", len(POLICIES))
        for policy, k, threads in POLICIES:
            results[policy] = await measure(policy, k, threads, real, state_dir)
            step.advance(f"{policy} k={k}")
    return results


def reads_per_round(commands: Mapping[str, float]) -> float:
    """Stream reads, of both commands."""
    return commands.get("xreadgroup", 0.0) + commands.get("xread", 0.0)


def main(
    real: str = "", out: Path = STATE / "orchestration.json", state: Path = STATE / "orchestration"
) -> None:
    """Measure orchestration overhead. real: measure a real stack with this model, for example smollm2."""
    console = Console()
    results = asyncio.run(measure_all(real, state, console))
    write_measurement(
        out, "orchestration", {"users": USERS, "model": real or "modelled"}, {"policies": results}
    )
    rows = (
        {**row, "policy": policy, "reads": reads_per_round(row["commands_per_round"])}
        for policy, row in results.items()
    )
    console.print(
        table(rows, COLUMNS, "verdict to verdict, minus draft, minus verification (last-arriving member)")
    )
    console.print(f"written to {out}")


if __name__ == "__main__":
    bench_main(main)
