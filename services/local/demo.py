"""`outrider demo`: eight users under the four policies, checked against the target alone.

For every policy the thread split that is best for it on two cores (docs/benchmarks.md): with the target alone, and
under fixed-k, where drafting and verifying alternate, the verifier takes both; under cyclic-k they overlap and it
takes one.
"""

import asyncio
import hashlib
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadgen.client import Client
from loadgen.metrics import Summary, summarise
from loadgen.prompts import demo_cases
from loadgen.request import ChatRequest, Record
from loadgen.result import write_result
from services.local.admin import Admin
from services.local.errors import CommandError
from services.local.stack import LocalStack, Options

# What the reference is told of a request.
ASKED: Final = ("id", "prompt", "max_tokens", "temperature", "top_p", "seed")


@dataclass(frozen=True, slots=True)
class Entrant:
    """A policy as it enters: its draft length and its thread split (0 = all cores)."""

    policy: str
    k: int
    verifier_threads: int
    draft_threads: int


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat of one entrant."""

    summary: Summary
    alpha: float
    records: list[Record]


async def run_demo(
    target_dir: Path,
    draft_model: Path,
    name: str,
    *,
    users: int,
    tokens: int,
    repeats: int,
    out: Path,
    state_dir: Path,
) -> None:
    """Run it all, print text and table, write `out`. Raises CommandError if a text is not the reference's."""
    console = Console()
    requests = [ChatRequest(model=name, max_tokens=tokens, **case) for case in demo_cases(users)]
    columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        expected = await reference_texts(target_dir, requests, state_dir, progress)
        options = Options(
            target_dir, draft_model, name, state_dir=state_dir / "demo", env={"OUTRIDER_DTYPE": "float32"}
        )
        async with LocalStack(options) as stack:
            runs = await race(stack, requests, repeats, progress)
    report = {entrant.policy: figures(entrant, runs, expected) for entrant in ENTRANTS}
    config = {"users": users, "tokens": tokens, "repeats": repeats, "entrants": [asdict(e) for e in ENTRANTS]}
    write_result(out, "demo", config, {"policies": report})
    show(console, runs[ENTRANTS[-1].policy][0].records, report)
    console.print(f"written to {out}")
    wrong = [policy for policy, row in report.items() if not row["identical_to_reference"]]
    if wrong:
        raise CommandError(f"text differs from the target alone under {', '.join(wrong)}")


ENTRANTS: Final = (
    Entrant("autoregressive", 0, 2, 1),
    Entrant("greedy-batch", 0, 2, 1),
    Entrant("fixed-k", 2, 2, 1),
    Entrant("cyclic-k", 3, 1, 1),
)


async def race(
    stack: LocalStack, requests: list[ChatRequest], repeats: int, progress: Progress
) -> dict[str, list[Run]]:
    """Every entrant once a repeat, in an order that rotates; one unmeasured warm-up first."""
    runs: dict[str, list[Run]] = {entrant.policy: [] for entrant in ENTRANTS}
    async with Client(stack.url) as client, Admin(stack.url) as admin:
        bars = {e.policy: progress.add_task(f"{e.policy}", total=repeats * len(requests)) for e in ENTRANTS}
        await admin.set_policy("fixed-k", 4)
        await client.chat_all([replace(request, max_tokens=8) for request in requests])
        for repeat in range(repeats):
            for entrant in ENTRANTS[repeat % len(ENTRANTS) :] + ENTRANTS[: repeat % len(ENTRANTS)]:
                await admin.set_policy(
                    entrant.policy, entrant.k, entrant.verifier_threads, entrant.draft_threads
                )
                run = await one_run(client, admin, requests)
                runs[entrant.policy].append(run)
                progress.advance(bars[entrant.policy], len(requests))
                stack.raise_if_failed()
    return runs


async def one_run(client: Client, admin: Admin, requests: list[ChatRequest]) -> Run:
    """All users at once, to the last token."""
    before = (await admin.status())["totals"]
    records = await client.chat_all(requests)
    after = (await admin.status())["totals"]
    failed = [record.error for record in records if record.error]
    if failed:
        raise CommandError(f"{len(failed)} of {len(records)} requests failed: {failed[0]}")
    accepted = after["accepted"] - before["accepted"]
    ended = accepted + after["rejections"] - before["rejections"]
    return Run(summarise(records), accepted / ended if ended else math.nan, records)


async def reference_texts(
    target_dir: Path, requests: Sequence[ChatRequest], state_dir: Path, progress: Progress
) -> dict[str, list[int]]:
    """The target alone on every request, in a process of its own; kept by the hash of what was asked."""
    cases = [{name: getattr(request, name) for name in ASKED} for request in requests]
    asked = json.dumps([str(target_dir.resolve()), cases], sort_keys=True)
    folder = state_dir / "reference" / hashlib.sha256(asked.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.json").write_text(json.dumps(cases))
    bar = progress.add_task("reference (plain transformers)", total=len(requests))
    command = ("-m", "services.verifier.reference", "--model", str(target_dir))
    files = ("--cases", str(folder / "cases.json"), "--out", str(folder / "answers.json"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        *files,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101  # PIPE was asked for
    async for _ in process.stdout:
        progress.advance(bar)
    _, errors = await process.communicate()
    if process.returncode != 0:
        raise CommandError(f"the reference failed: {errors.decode(errors='replace').strip()[-500:]}")
    progress.update(bar, completed=len(requests))
    answers = json.loads((folder / "answers.json").read_text())
    return {case: answer["tokens"] for case, answer in answers.items()}


def figures(entrant: Entrant, runs: dict[str, list[Run]], expected: dict[str, list[int]]) -> dict[str, Any]:
    """One policy's row of the result: medians over the repeats; the speed-up is a ratio within each repeat."""
    mine, alone = runs[entrant.policy], runs["autoregressive"]
    speedups = [
        run.summary.tokens_per_s / base.summary.tokens_per_s for run, base in zip(mine, alone, strict=True)
    ]
    same = all(record.tokens == expected[record.request.id] for run in mine for record in run.records)
    return {
        "tokens_per_s": _median(run.summary.tokens_per_s for run in mine),
        "speedup_vs_autoregressive": _median(speedups),
        "speedup_range": [min(speedups), max(speedups)],
        "alpha": _median(run.alpha for run in mine),
        "tau": _median(run.summary.tau for run in mine),
        "ttft_ms_p50": _median(run.summary.ttft.median for run in mine),
        "tpot_ms_p50": _median(run.summary.tpot.median for run in mine),
        "identical_to_reference": same,
        "threads": {"verifier": entrant.verifier_threads, "draft_worker": entrant.draft_threads},
        "k": entrant.k,
    }


def show(console: Console, records: list[Record], report: dict[str, dict[str, Any]]) -> None:
    """Some of the text, then the table."""
    for record in records[:3]:
        console.print(f"[bold]{record.request.prompt}[/]")
        console.print(record.text.strip(), markup=False)
        console.print()
    table = Table(
        title="8 users, one machine; the same text under every policy",
        caption="×: times autoregressive. TTFT, TPOT: ms. v+d: threads, verifier + draft worker.",
    )
    for heading in ("policy", "tok/s", "×", "α", "τ", "TTFT", "TPOT", "v+d", "same"):
        left = heading == "policy"
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for policy, row in report.items():
        table.add_row(
            f"{policy} k={row['k']}" if row["k"] else policy,
            f"{row['tokens_per_s']:.1f}",
            f"{row['speedup_vs_autoregressive']:.2f}",
            _figure(row["alpha"]),
            _figure(row["tau"]),
            f"{row['ttft_ms_p50']:.0f}",
            f"{row['tpot_ms_p50']:.1f}",
            f"{row['threads']['verifier']}+{row['threads']['draft_worker']}",
            "yes" if row["identical_to_reference"] else "NO",
        )
    console.print(table)


def _median(values: Any) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else None


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
