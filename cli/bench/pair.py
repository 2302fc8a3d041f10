"""Outrider against transformers' `generate` and assisted generation, on a real pair of models, in one run.

    python -m cli.bench.pair [--model qwen2.5-coder] [--tokens 64] [--repeats 2] [--out FILE]

Greedy, the target's own dtype, chat prompts about code. Both systems stay loaded, one works at a time, and repeats are
interleaved. transformers' assistant is our draft model, dequantised to the target's dtype.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console

from cli.admin import Admin
from cli.baseline import Baseline
from cli.command.bench_main import bench_main
from cli.command.options import STATE
from cli.models.convert import dequantize
from cli.models.resolve import resolve
from cli.stack.requests import answers
from cli.stack.stack import LocalStack, Ports, StackOptions
from loadgen.client.streaming import Client
from loadgen.measuring.arms import measure_arms_async
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import write_measurement
from loadgen.measuring.table import table
from loadgen.metrics.summary import summarise
from loadgen.request import ChatRequest

PROMPTS: Final = (
    "Write a Python function that merges two sorted lists into one sorted list, with a docstring.",
    "Write a Python class for a bank account with deposit, withdraw and a transaction history.",
    "Write a SQL query that finds the three best-paid employees of each department, and explain it.",
    "Write a Python function that parses a CSV file and returns the rows as dictionaries, without the csv module.",
)


COLUMNS: Final = {
    "": "{name}",
    "users": "{users}",
    "tok/s": "{tokens_per_s:.1f}",
    "range": "{low:.1f} to {high:.1f}",
    "τ": "{tau:.2f}",
    "policy": "{policy}",
}


@dataclass(frozen=True, slots=True)
class PairArm:
    """A system and a number of users. policy: Outrider's, "" = transformers."""

    name: str
    users: int
    policy: str = ""
    k: int = 0
    verifier_threads: int = 0
    draft_threads: int = 0
    assisted: bool = False


ARMS: Final = (
    PairArm("transformers generate", 1),
    PairArm("transformers assisted", 1, assisted=True),
    PairArm("Outrider", 1, "fixed-k", 4, 2, 2),
    PairArm("transformers generate", 4),
    PairArm("transformers assisted", 4, assisted=True),
    PairArm("Outrider", 4, "fixed-k", 4, 2, 1),
)


@dataclass(frozen=True, slots=True)
class PairRun:
    """One repeat of one arm. texts: token ids, one list per user. tau: NaN for transformers."""

    tokens: int
    seconds: float
    texts: list[list[int]]
    tau: float = float("nan")


async def measure(model: str, tokens: int, repeats: int, state_dir: Path) -> dict[PairArm, list[PairRun]]:
    """Run every arm once per repeat, after a warm-up of both systems. Raises CommandError."""
    target, draft, name = resolve(model)
    assistant = state_dir / "assistant"
    if not (assistant / "config.json").is_file():
        dequantize(draft, assistant, "bfloat16")
    options = StackOptions(target, draft, name, ports=Ports.free(), state_dir=state_dir)
    async with (
        Steps(Console()) as steps,
        Baseline(target, assistant=assistant) as baseline,
        LocalStack(options) as stack,
        Client(stack.url) as client,
        Admin(stack.url) as admin,
    ):
        step = steps.step("warm-up", 2)
        await run_transformers(baseline, PROMPTS[:1], 8, assisted=True)
        step.advance()
        await answers(client, requests(name, 8, PROMPTS))
        step.advance()
        step = steps.step("runs", repeats * len(ARMS))

        async def run(arm: PairArm) -> PairRun:
            prompts = PROMPTS[: arm.users]
            if arm.policy:
                result = await run_outrider(client, admin, arm, requests(name, tokens, prompts))
            else:
                result = await run_transformers(baseline, prompts, tokens, arm.assisted)
            step.advance(f"{arm.name}, users: {arm.users}")
            stack.raise_if_failed()
            return result

        return await measure_arms_async(ARMS, repeats, run)


def requests(model: str, tokens: int, prompts: Sequence[str]) -> list[ChatRequest]:
    """A request for every prompt."""
    return [ChatRequest(f"u{i}", model, text, tokens) for i, text in enumerate(prompts)]


async def run_transformers(
    baseline: Baseline, prompts: Sequence[str], tokens: int, assisted: bool
) -> PairRun:
    """All prompts with transformers."""
    done = await baseline.ask({"prompts": prompts, "tokens": tokens, "assisted": assisted})
    return PairRun(sum(len(text) for text in done.texts), done.seconds, done.texts)


async def run_outrider(client: Client, admin: Admin, arm: PairArm, sent: Sequence[ChatRequest]) -> PairRun:
    """All requests at once, to the last token."""
    await admin.set_policy(arm.policy, arm.k, arm.verifier_threads, arm.draft_threads)
    records = await answers(client, sent)
    summary = summarise(records)
    return PairRun(summary.tokens, summary.duration_s, [record.tokens for record in records], summary.tau)


def rows(runs: Mapping[PairArm, Sequence[PairRun]]) -> list[dict[str, Any]]:
    """One row per arm: medians over the repeats.

    range: tokens/s of every repeat, ascending. texts_as_generate: share of tokens that equal plain generation's.
    """
    plain = {arm.users: runs[arm] for arm in ARMS if not (arm.policy or arm.assisted)}
    results = []
    for arm, repeats in runs.items():
        same = [
            a == b
            for run, base in zip(repeats, plain[arm.users], strict=True)
            for text, base_text in zip(run.texts, base.texts, strict=True)
            for a, b in zip(text, base_text, strict=False)
        ]
        rates = sorted(run.tokens / run.seconds for run in repeats)
        results.append(
            {
                "name": arm.name,
                "users": arm.users,
                "tokens_per_s": median(rates),
                "range": rates,
                "tau": median(run.tau for run in repeats) if arm.policy else None,
                "texts_as_generate": sum(same) / len(same),
                "policy": f"{arm.policy} k={arm.k}" if arm.policy else "",
                "threads": [arm.verifier_threads, arm.draft_threads],
            }
        )
    return results


def main(
    model: str = "qwen2.5-coder",
    tokens: int = 64,
    repeats: int = 2,
    out: Path = STATE / "pair.json",
    state: Path = STATE / "pair",
) -> None:
    """Outrider against transformers' own generation."""
    results = rows(asyncio.run(measure(model, tokens, repeats, state)))
    config = {"model": model, "tokens": tokens, "repeats": repeats}
    write_measurement(out, "pair", config, {"entrants": results})
    ranges = ({**row, "low": row["range"][0], "high": row["range"][-1]} for row in results)
    Console().print(table(ranges, COLUMNS, "one machine, greedy"))


if __name__ == "__main__":
    bench_main(main)
