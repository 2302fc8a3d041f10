"""`make fleet`: a thousand emulated devices in one process, with real services and a modelled target.

    python -m tests.soak.fleet [--minutes 6] [--users 200] [--scenario scenarios/thousand.yaml]

Users send one request after another and compare every token with the modelled target's chain of hashes. Reports
messages, memory and the broker's time. Exits with 1 when a text differs, a process was restarted, or one grew by more
than a mebibyte per minute after the warm-up. Writes samples as JSON and a plot.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from redis.asyncio import Redis
from rich.console import Console

from cli.stack.stack import LocalStack, Ports, StackOptions
from loadgen.client.streaming import Client
from loadgen.fleet import commands_time
from loadgen.metrics.stack_metrics import Delta, Scrape, scrape
from loadgen.request import ChatRequest
from services.gateway.tokenizer import MODELLED_VOCAB
from shared.compute.modelled import expected_text
from shared.scenario.scenario import read_scenario
from shared.speculative.params import SamplingParams
from tests.soak.samples import Sample, plot, take_sample

SAMPLE_S: Final = 5.0
WARM_UP_MIN: Final = (
    2.0  # until logs and inboxes, which live for a minute, expire as fast as new ones are written
)
MAX_GROWTH_MIB_MIN: Final = 1.0  # MiB per minute
PROMPT, ANSWER = 64, 48  # tokens


@dataclass(slots=True)
class Run:
    """Results of a run. figures: rates and times by name, measured after the warm-up."""

    devices: int
    users: int
    minutes: float
    requests: int = 0
    tokens: int = 0
    different: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Soak test with many emulated devices.")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--scenario", type=Path, default=Path("scenarios/thousand.yaml"))
    parser.add_argument("--out", type=Path, default=Path(".outrider/fleet-soak.json"))
    args = parser.parse_args()
    result = Run(len(read_scenario(args.scenario).fleet(40.0)), args.users, args.minutes)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(run(result, args.scenario, args.out.parent / "fleet"))
    finally:
        args.out.write_text(json.dumps(asdict(result)) + "\n")
    title = f"{result.devices} devices, {result.users} users, {result.requests} requests"
    plot(result.samples, title, args.out.with_suffix(".png"))
    wrong = report(result)
    print(*wrong, sep="\n", file=sys.stderr)
    sys.exit(1 if wrong else 0)


async def run(result: Run, scenario: Path, state_dir: Path) -> None:
    """Run a stack with its users until the time is over. Raises ProcessFailed when a process died."""
    devices = ("--scenario", str(scenario.resolve()), "--verify-ms", "40")
    ports = Ports.free()
    env = {  # costs of a large target on a large machine, where drafting pays
        "OUTRIDER_POLICY": "outrider",
        "OUTRIDER_LOG_LEVEL": "warning",
        "OUTRIDER_MODEL_BETA_MS": "200",
        "OUTRIDER_MODEL_PER_TOKEN_MS": "0.05",
    }
    options = StackOptions(
        modelled=True, draft_workers=0, ports=ports, state_dir=state_dir, devices=devices, env=env
    )
    async with LocalStack(options) as stack:
        until = time.monotonic() + 60 * result.minutes
        async with asyncio.TaskGroup() as group:
            for number in range(result.users):
                group.create_task(user(result, stack.url, number, until))
            group.create_task(watch(result, stack, until))


async def user(result: Run, url: str, number: int, until: float) -> None:
    """Send one request after another with random prompts, and compare the texts."""
    rng = random.Random(number)
    async with Client(url) as client:
        while time.monotonic() < until:
            seed = rng.getrandbits(63)
            ids = tuple(rng.randrange(1, MODELLED_VOCAB) for _ in range(PROMPT))
            request = ChatRequest(f"{number}-{seed}", "modelled", ids, ANSWER, seed=seed, raw=True)
            record = await client.chat(request)
            result.requests += 1
            result.tokens += len(record.tokens)
            expected = expected_text(ids, SamplingParams(seed, MODELLED_VOCAB), ANSWER)
            if record.error or tuple(record.tokens) != expected:
                result.different.append(f"user {number}: {record.error or 'another text'}")


async def watch(result: Run, stack: LocalStack, until: float) -> None:
    """Take a sample every SAMPLE_S; compute the figures from the warm-up to the end."""
    console, began = Console(stderr=True), time.monotonic()
    pages = [
        p.spec.ready_url.replace("/readyz", "/metrics") for p in stack.processes.values() if p.spec.ready_url
    ]
    first: tuple[float, Scrape, int, int] | None = None
    async with Redis.from_url(stack.broker_url, decode_responses=True) as redis:
        while time.monotonic() < until:
            result.samples.append(await take_sample(stack, redis, time.monotonic() - began))
            sample = result.samples[-1]
            if first is None and sample.at_s > 60 * min(WARM_UP_MIN, result.minutes / 2):
                first = (time.monotonic(), await scrape(pages), *await broker_time(redis))
            if len(result.samples) % round(60 / SAMPLE_S) == 1:
                memory = ", ".join(f"{name} {mib:.0f}" for name, mib in sample.memory_mib.items())
                line = f"{result.requests} requests, {len(result.different)} differ; MiB: {memory}"
                line += f"; {sample.connections} connections"
                console.print(f"{sample.at_s / 60:3.1f} min: {line}")
            await asyncio.sleep(SAMPLE_S)
        if first is not None:
            since, before, us, calls = first
            delta, seconds = Delta(before, await scrape(pages)), time.monotonic() - since
            now_us, now_calls = await broker_time(redis)
            rounds = sum(
                delta.total("outrider_scheduler_rounds_total", drafted=kind) for kind in ("yes", "no")
            )
            result.figures = {
                "rounds_per_s": rounds / seconds,
                "tokens_per_s": delta.total("outrider_verifier_emitted_tokens_total") / seconds,
                "device_messages_per_s": delta.total("outrider_device_messages_total") / seconds,
                "broker_calls_per_s": (now_calls - calls) / seconds,
                "broker_us_per_round": (now_us - us) / max(1.0, rounds),
                "broker_share": (now_us - us) / 1e6 / seconds,
                "moves": delta.total("outrider_scheduler_moves_total"),
                "late_drafts": delta.total("outrider_scheduler_timers_fired_total", kind="drafting"),
            }


async def broker_time(redis: Redis) -> tuple[int, int]:
    """Microseconds spent in commands and their number, since the broker's start."""
    stats = await redis.execute_command("INFO", "commandstats")
    text = (
        stats
        if isinstance(stats, str)
        else "\n".join(
            f"{name}:" + ",".join(f"{key}={value}" for key, value in fields.items())
            for name, fields in stats.items()
        )
    )
    return commands_time(text)


def report(result: Run) -> list[str]:
    """Print a summary; returns a line for each failure."""
    wrong = [f"text differs: {one}" for one in result.different[:10]]
    if not result.requests:
        wrong.append("no request was answered")
    warm = [sample for sample in result.samples if sample.at_s > 60 * min(WARM_UP_MIN, result.minutes / 2)]
    minutes = np.array([sample.at_s / 60 for sample in warm])
    for name in warm[0].memory_mib if len(warm) > 2 else ():
        slope = float(np.polyfit(minutes, [sample.memory_mib.get(name, 0.0) for sample in warm], 1)[0])
        print(f"{name}: {warm[-1].memory_mib.get(name, 0.0):.1f} MiB at the end, {slope:+.2f} MiB/min")
        if slope > MAX_GROWTH_MIB_MIN:
            wrong.append(f"{name} grows by {slope:.2f} MiB/min")
    print(", ".join(f"{name} {value:.4g}" for name, value in result.figures.items()))
    print(
        f"{result.devices} devices, {result.requests} requests, {result.tokens} tokens, "
        f"{len(result.different)} differ"
    )
    return wrong


if __name__ == "__main__":
    main()
