"""`make soak`: users on a local stack for an hour. Memory and the broker's keys must not grow, no text may differ.

    python -m tests.soak [--minutes 60] [--users 8]

Every user sends one request after another from the exactness suite's cases, and every token is compared with the
reference. Meanwhile the memory of all processes and all keys of the broker are sampled. Growth is measured from the
time when the first logs have expired. Writes samples as JSON and a plot; exits with 1 when something grew, a process
was restarted or a text differed.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from rich.console import Console

from cli.stack.stack import LocalStack
from loadgen.client.streaming import Client
from tests.exactness.runner import CASES, options, request
from tests.soak.samples import Sample, median, plot, take_sample

SAMPLE_S: Final = 5.0
WARM_UP_MIN: Final = 12.0  # caches fill, estimates converge, and the first logs of ended sessions expire
MAX_GROWTH: Final = 0.02  # of a process's memory after the warm-up, relative,
MAX_GROWTH_MIB: Final = 8.0  # or absolute, whichever is more


@dataclass(slots=True)
class Soak:
    """Results of a run. different: a line for each text that is not the reference's."""

    users: int
    minutes: float
    requests: int = 0
    tokens: int = 0
    restarts: int = 0
    different: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def main() -> None:
    """Command line; see the module's docstring."""
    cache = Path(os.environ.get("OUTRIDER_CACHE", "~/.cache/outrider")).expanduser()
    parser = argparse.ArgumentParser(description="Soak test: users for a long time, while nothing may grow.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument(
        "--models", type=Path, default=cache / "models" / "smollm2", help="folder of the demo model"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(".outrider/soak.json"),
        help="samples; the plot is written beside them",
    )
    args = parser.parse_args()
    soak = Soak(args.users, args.minutes)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(run(soak, args.models, args.out.parent / "soak"))
    finally:
        args.out.write_text(json.dumps(asdict(soak)) + "\n")
    plot(soak.samples, f"{soak.users} users, {soak.requests} requests", args.out.with_suffix(".png"))
    wrong = report(soak)
    print(*wrong, sep="\n", file=sys.stderr)
    sys.exit(1 if wrong else 0)


async def run(soak: Soak, models: Path, state_dir: Path) -> None:
    """Run a stack with its users until the time is over. Raises ProcessFailed when a process died."""
    stack_options = options(models, True, state_dir, OUTRIDER_POLICY="outrider")
    async with LocalStack(stack_options) as stack, asyncio.TaskGroup() as group:
        until = time.monotonic() + 60 * soak.minutes
        for number in range(soak.users):
            group.create_task(user(soak, stack.url, number, until))
        group.create_task(watch(soak, stack, until))
    soak.restarts = sum(process.restarts for process in stack.processes.values())


async def user(soak: Soak, url: str, number: int, until: float) -> None:
    """Send one request after another, and compare the texts."""
    rng = random.Random(number)
    cases = itertools.cycle(rng.sample(CASES, len(CASES)))
    async with Client(url) as client:
        while time.monotonic() < until:
            case = next(cases)
            record = await client.chat(request(case))
            soak.requests += 1
            soak.tokens += len(record.tokens)
            if record.error or record.tokens != case["tokens"]:
                soak.different.append(f"{case['id']}: {record.error or 'another text'}")


async def watch(soak: Soak, stack: LocalStack, until: float) -> None:
    """Take a sample every SAMPLE_S, and print a line every minute."""
    console, began = Console(stderr=True), time.monotonic()
    async with Redis.from_url(stack.broker_url, decode_responses=True) as redis:
        while time.monotonic() < until:
            sample = await take_sample(stack, redis, time.monotonic() - began)
            soak.samples.append(sample)
            if len(soak.samples) % round(60 / SAMPLE_S) == 1:
                memory = ", ".join(f"{name} {mib:.0f}" for name, mib in sample.memory_mib.items())
                console.print(
                    f"{sample.at_s / 60:3.0f} min: {soak.requests} requests, {soak.tokens} tokens, "
                    f"{len(soak.different)} differ; MiB: {memory}; {sample.keys} keys, {sample.broker_mib:.1f} MiB"
                )
            await asyncio.sleep(SAMPLE_S)


def report(soak: Soak) -> list[str]:
    """Print a summary; returns a line for each failure."""
    wrong = [f"text differs: {one}" for one in soak.different[:10]]
    if soak.restarts:
        wrong.append(f"{soak.restarts} processes were restarted")
    warm_s = 60 * min(WARM_UP_MIN, soak.minutes / 2)
    warm = [sample for sample in soak.samples if sample.at_s > warm_s]
    third = max(1, len(warm) // 3)
    first, last = warm[:third], warm[-third:]
    for name in first[0].memory_mib if first else ():
        before, after = (median([s.memory_mib.get(name, 0.0) for s in part]) for part in (first, last))
        print(f"{name}: {before:.1f} MiB, then {after:.1f}")
        if after - before > max(MAX_GROWTH_MIB, MAX_GROWTH * before):
            wrong.append(f"{name} grew from {before:.1f} to {after:.1f} MiB")
    for what, of in {"keys": lambda s: s.keys, "broker MiB": lambda s: s.broker_mib}.items():
        before, after = (max(of(sample) for sample in part) for part in (first, last))
        print(f"maximum of {what}: {before:.1f}, then {after:.1f}")
        if after > 1.1 * before:
            wrong.append(f"{what} grew from {before:.1f} to {after:.1f}")
    for kind in sorted({kind for sample in warm for kind in sample.longest}):
        before, after = (max(sample.longest.get(kind, 0) for sample in part) for part in (first, last))
        print(f"longest {kind}: {before}, then {after}")
        if after > 2 * before + 64:
            wrong.append(f"{kind} grew from {before} to {after} entries")
    print(
        f"{soak.requests} requests, {soak.tokens} tokens, {len(soak.different)} texts differ, {soak.restarts} restarts"
    )
    return wrong


if __name__ == "__main__":
    main()
