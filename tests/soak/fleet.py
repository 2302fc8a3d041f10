"""`make fleet`: a thousand emulated devices in one process against real services and a modelled verifier.

    python -m tests.soak.fleet [--minutes 6] [--users 200] [--scenario scenarios/thousand.yaml]

Users send one request after another and hold every token against the chain of hashes that stands for the target. What
the broker spent, messages and memory are told; exits 1 when a text differs, a process was started again, or one grew by
more than a mebibyte a minute after the first two. Writes samples as JSON and a picture.
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

from cli.stack.stack import LocalStack, Options, Ports
from loadgen.client.streaming import Client
from loadgen.fleet import commands_time
from loadgen.metrics.stack_metrics import Delta, Scrape, scrape
from loadgen.request import ChatRequest
from services.gateway.tokenizer import MODELLED_VOCAB
from shared.compute.modelled import expected_text
from shared.scenario.scenario import read_scenario
from shared.speculative.params import SamplingParams
from tests.soak.samples import Sample, draw, look

LOOK_S: Final = 5.0
WARM_MIN: Final = 2.0  # until logs and inboxes, kept for a minute, go as fast as they come
MOST_A_MINUTE_MIB: Final = 1.0
PROMPT, ANSWER = 64, 48  # tokens


@dataclass(slots=True)
class Run:
    """What there was."""

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
    parser = argparse.ArgumentParser(description="Many emulated devices: nothing is lost, nothing grows.")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--scenario", type=Path, default=Path("scenarios/thousand.yaml"))
    parser.add_argument("--out", type=Path, default=Path(".outrider/fleet-soak.json"))
    args = parser.parse_args()
    found = Run(len(read_scenario(args.scenario).fleet(40.0)), args.users, args.minutes)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(run(found, args.scenario, args.out.parent / "fleet"))
    finally:
        args.out.write_text(json.dumps(asdict(found)) + "\n")
    title = f"{found.devices} devices, {found.users} users, {found.requests} requests"
    draw(found.samples, title, args.out.with_suffix(".png"))
    wrong = report(found)
    print(*wrong, sep="\n", file=sys.stderr)
    sys.exit(1 if wrong else 0)


async def run(found: Run, scenario: Path, state_dir: Path) -> None:
    """The stack with its users, until the time is over. Raises ProcessFailed when a process died by itself."""
    devices = ("--scenario", str(scenario.resolve()), "--verify-ms", "40")
    ports = Ports.free()
    env = {  # a large target on a large machine, for which drafting pays
        "OUTRIDER_POLICY": "outrider",
        "OUTRIDER_LOG_LEVEL": "warning",
        "OUTRIDER_MODEL_BETA_MS": "200",
        "OUTRIDER_MODEL_PER_TOKEN_MS": "0.05",
    }
    options = Options(
        modelled=True, draft_workers=0, ports=ports, state_dir=state_dir, devices=devices, env=env
    )
    async with LocalStack(options) as stack:
        until = time.monotonic() + 60 * found.minutes
        async with asyncio.TaskGroup() as group:
            for number in range(found.users):
                group.create_task(user(found, stack.url, number, until))
            group.create_task(watch(found, stack, until))


async def user(found: Run, url: str, number: int, until: float) -> None:
    """One request after another, each with ids of its own."""
    rng = random.Random(number)
    async with Client(url) as client:
        while time.monotonic() < until:
            seed = rng.getrandbits(63)
            ids = tuple(rng.randrange(1, MODELLED_VOCAB) for _ in range(PROMPT))
            request = ChatRequest(f"{number}-{seed}", "modelled", ids, ANSWER, seed=seed, raw=True)
            record = await client.chat(request)
            found.requests += 1
            found.tokens += len(record.tokens)
            expected = expected_text(ids, SamplingParams(seed, MODELLED_VOCAB), ANSWER)
            if record.error or tuple(record.tokens) != expected:
                found.different.append(f"user {number}: {record.error or 'another text'}")


async def watch(found: Run, stack: LocalStack, until: float) -> None:
    """A look every few seconds; figures of what is between the first minute and the end."""
    console, began = Console(stderr=True), time.monotonic()
    pages = [
        p.spec.ready_url.replace("/readyz", "/metrics") for p in stack.processes.values() if p.spec.ready_url
    ]
    first: tuple[float, Scrape, int, int] | None = None
    async with Redis.from_url(stack.broker_url, decode_responses=True) as redis:
        while time.monotonic() < until:
            found.samples.append(await look(stack, redis, time.monotonic() - began))
            sample = found.samples[-1]
            if first is None and sample.at_s > 60 * min(WARM_MIN, found.minutes / 2):
                first = (time.monotonic(), await scrape(pages), *await broker_time(redis))
            if len(found.samples) % round(60 / LOOK_S) == 1:
                memory = ", ".join(f"{name} {mib:.0f}" for name, mib in sample.memory_mib.items())
                told = f"{found.requests} requests, {len(found.different)} differ; MiB: {memory}"
                told += f"; {sample.connections} connections"
                console.print(f"{sample.at_s / 60:3.1f} min: {told}")
            await asyncio.sleep(LOOK_S)
        if first is not None:
            since, before, us, calls = first
            delta, seconds = Delta(before, await scrape(pages)), time.monotonic() - since
            now_us, now_calls = await broker_time(redis)
            rounds = sum(
                delta.total("outrider_scheduler_rounds_total", drafted=kind) for kind in ("yes", "no")
            )
            found.figures = {
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


def report(found: Run) -> list[str]:
    """What is wrong; figures are printed."""
    wrong = [f"text differs: {one}" for one in found.different[:10]]
    if not found.requests:
        wrong.append("no request was answered")
    warm = [sample for sample in found.samples if sample.at_s > 60 * min(WARM_MIN, found.minutes / 2)]
    minutes = np.array([sample.at_s / 60 for sample in warm])
    for name in warm[0].memory_mib if len(warm) > 2 else ():
        slope = float(np.polyfit(minutes, [sample.memory_mib.get(name, 0.0) for sample in warm], 1)[0])
        print(f"{name}: {warm[-1].memory_mib.get(name, 0.0):.1f} MiB at the end, {slope:+.2f} a minute")
        if slope > MOST_A_MINUTE_MIB:
            wrong.append(f"{name} grows by {slope:.2f} MiB a minute")
    print(", ".join(f"{name} {value:.4g}" for name, value in found.figures.items()))
    print(
        f"{found.devices} devices, {found.requests} requests, {found.tokens} tokens, {len(found.different)} differ"
    )
    return wrong


if __name__ == "__main__":
    main()
