"""A real pair on this machine: Outrider beside transformers' `generate` and assisted generation, in one run.

    python -m cli.bench.pair [--model qwen2.5-coder] [--tokens 64] [--repeats 2] [--out FILE]

Greedy, the target's own dtype, chat prompts about code. Both sides stay loaded, one works at a time, and the order
turns with each repeat. transformers' assistant is our draft model, widened to the target's dtype.
"""

import argparse
import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cli.admin import Admin
from cli.baseline import Baseline
from cli.command.errors import CommandError, ModelError
from cli.models.convert import dequantize
from cli.models.resolve import resolve
from cli.stack.stack import LocalStack, Options, Ports
from loadgen.client.streaming import Client
from loadgen.metrics.summary import summarise
from loadgen.request import ChatRequest
from loadgen.results.result_file import write_result

PROMPTS: Final = (
    "Write a Python function that merges two sorted lists into one sorted list, with a docstring.",
    "Write a Python class for a bank account with deposit, withdraw and a transaction history.",
    "Write a SQL query that finds the three best-paid employees of each department, and explain it.",
    "Write a Python function that parses a CSV file and returns the rows as dictionaries, without the csv module.",
)


@dataclass(frozen=True, slots=True)
class PairEntry:
    """Who generates for how many users. policy: Outrider's, "" = transformers."""

    name: str
    users: int
    policy: str = ""
    k: int = 0
    verifier_threads: int = 0
    draft_threads: int = 0
    assisted: bool = False


ENTRANTS: Final = (
    PairEntry("transformers generate", 1),
    PairEntry("transformers assisted", 1, assisted=True),
    PairEntry("Outrider", 1, "fixed-k", 4, 2, 2),
    PairEntry("transformers generate", 4),
    PairEntry("transformers assisted", 4, assisted=True),
    PairEntry("Outrider", 4, "fixed-k", 4, 2, 1),
)


@dataclass(frozen=True, slots=True)
class PairRun:
    """One repeat of one entrant."""

    tokens: int
    seconds: float
    texts: list[list[int]]
    tau: float = float("nan")


async def measure(model: str, tokens: int, repeats: int, state_dir: Path) -> dict[PairEntry, list[PairRun]]:
    """Every entrant once a repeat, after a warm-up of each side. Raises CommandError."""
    target, draft, name = resolve(model)
    assistant = state_dir / "assistant"
    if not (assistant / "config.json").is_file():
        dequantize(draft, assistant, "bfloat16")
    options = Options(target, draft, name, ports=Ports.free(), state_dir=state_dir)
    runs: dict[PairEntry, list[PairRun]] = {entrant: [] for entrant in ENTRANTS}
    with Progress() as progress:
        bar = progress.add_task("warm-up", total=repeats * len(ENTRANTS))
        async with (
            Baseline(target, assistant=assistant) as rival,
            LocalStack(options) as stack,
            Client(stack.url) as client,
            Admin(stack.url) as admin,
        ):
            await rivals(rival, PROMPTS[:1], 8, assisted=True)
            await client.chat_all([ChatRequest(f"w{i}", name, text, 8) for i, text in enumerate(PROMPTS)])
            for repeat in range(repeats):
                turn = repeat % len(ENTRANTS)
                for entrant in ENTRANTS[turn:] + ENTRANTS[:turn]:
                    progress.update(bar, description=f"{entrant.name}, users: {entrant.users}")
                    prompts = PROMPTS[: entrant.users]
                    if entrant.policy:
                        runs[entrant].append(await outrider(client, admin, entrant, name, tokens, prompts))
                    else:
                        runs[entrant].append(await rivals(rival, prompts, tokens, entrant.assisted))
                    progress.advance(bar)
                    stack.raise_if_failed()
    return runs


async def rivals(rival: Baseline, prompts: Sequence[str], tokens: int, assisted: bool) -> PairRun:
    """All prompts with transformers."""
    done = await rival.ask({"prompts": prompts, "tokens": tokens, "assisted": assisted})
    return PairRun(sum(len(text) for text in done.texts), done.seconds, done.texts)


async def outrider(
    client: Client, admin: Admin, entrant: PairEntry, model: str, tokens: int, prompts: Sequence[str]
) -> PairRun:
    """All prompts at once, to the last token."""
    await admin.set_policy(entrant.policy, entrant.k, entrant.verifier_threads, entrant.draft_threads)
    records = await client.chat_all(
        [ChatRequest(f"u{i}", model, text, tokens) for i, text in enumerate(prompts)]
    )
    failed = [record.error for record in records if record.error]
    if failed:
        raise CommandError(f"{len(failed)} of {len(records)} requests failed: {failed[0]}")
    seen = summarise(records)
    return PairRun(seen.tokens, seen.duration_s, [record.tokens for record in records], seen.tau)


def figures(runs: dict[PairEntry, list[PairRun]]) -> list[dict[str, Any]]:
    """One row an entrant: medians over the repeats."""
    plain = {entrant.users: runs[entrant] for entrant in ENTRANTS if not (entrant.policy or entrant.assisted)}
    rows = []
    for entrant, mine in runs.items():
        same = [
            a == b
            for run, base in zip(mine, plain[entrant.users], strict=True)
            for mine_text, base_text in zip(run.texts, base.texts, strict=True)
            for a, b in zip(mine_text, base_text, strict=False)
        ]
        rows.append(
            {
                "name": entrant.name,
                "users": entrant.users,
                "tokens_per_s": statistics.median(run.tokens / run.seconds for run in mine),
                "range": sorted(run.tokens / run.seconds for run in mine),
                "tau": statistics.median(run.tau for run in mine) if entrant.policy else None,
                "texts_as_generate": sum(same) / len(same),
                "policy": f"{entrant.policy} k={entrant.k}" if entrant.policy else "",
                "threads": [entrant.verifier_threads, entrant.draft_threads],
            }
        )
    return rows


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """The table for people."""
    table = Table(title="one machine, greedy")
    for heading in ("", "users", "tok/s", "range", "τ", "policy"):
        table.add_column(heading)
    for row in rows:
        low, high = row["range"][0], row["range"][-1]
        tau = f"{row['tau']:.2f}" if row["policy"] else ""
        table.add_row(
            row["name"],
            str(row["users"]),
            f"{row['tokens_per_s']:.1f}",
            f"{low:.1f} to {high:.1f}",
            tau,
            row["policy"],
        )
    console.print(table)


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Outrider beside transformers' own generation.")
    parser.add_argument("--model", default="qwen2.5-coder")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(".outrider/pair.json"))
    parser.add_argument("--state", type=Path, default=Path(".outrider/pair"))
    args = parser.parse_args()
    try:
        runs = asyncio.run(measure(args.model, args.tokens, args.repeats, args.state))
    except (CommandError, ModelError) as error:
        sys.exit(str(error))
    rows = figures(runs)
    config = {"model": args.model, "tokens": args.tokens, "repeats": args.repeats}
    write_result(args.out, "pair", config, {"entrants": rows})
    show(rows, Console())


if __name__ == "__main__":
    main()
