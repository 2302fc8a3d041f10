"""`make exactness`: the whole equality suite with the demo model. Resumable.

    python -m tests.exactness [--models FOLDER] [--out FILE] [--fresh]

Every cell is one line of the result file. A cell is run if its line is missing or was written by other code. Exits with
1 if any text differs.
"""

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.stack.stack import LocalStack
from tests.exactness.cells import all_cells
from tests.exactness.runner import CASES, options_of, run_cell

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Command line; see the module's docstring."""
    cache = Path(os.environ.get("OUTRIDER_CACHE", "~/.cache/outrider")).expanduser()
    parser = argparse.ArgumentParser(
        description="Text under every policy, load and crash, against the target alone."
    )
    parser.add_argument(
        "--models", type=Path, default=cache / "models" / "smollm2", help="folder of the demo model"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(".outrider/exactness.jsonl"),
        help="result file; resumed if it exists",
    )
    parser.add_argument("--fresh", action="store_true", help="delete earlier results")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        args.out.unlink(missing_ok=True)
    check_reference(args.models / "target", args.out.parent)
    different = asyncio.run(run(args.models, args.out))
    sys.exit(1 if different else 0)


def check_reference(target: Path, state_dir: Path) -> None:
    """Check that the reference on this machine gives the committed texts. Resumable. Exits when texts differ."""
    cases_file = state_dir / "exactness-cases.json"
    answers_file = state_dir / f"exactness-reference-{code_hash()}.json"
    names = ("id", "prompt", "max_tokens", "temperature", "top_p", "top_k", "seed")
    cases_file.write_text(json.dumps([{name: case[name] for name in names} for case in CASES]))
    command = [sys.executable, "-m", "cli.reference", "--model", str(target)]
    subprocess.run([*command, "--cases", str(cases_file), "--out", str(answers_file)], check=True)
    answers = json.loads(answers_file.read_text())
    wrong = [case["id"] for case in CASES if answers[case["id"]]["tokens"] != case["tokens"]]
    if wrong:
        sys.exit(f"the reference on this machine differs from the committed texts: {', '.join(wrong)}")


async def run(models: Path, out: Path) -> int:
    """Run the missing cells. Returns the number of differing texts over all cells."""
    code = code_hash()
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
    done = {json.dumps(line["cell"]): line for line in lines if line["code"] == code}
    cells = list(all_cells())
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("cells", total=len(cells))
        for stack_of, group in groupby(cells, key=lambda cell: cell.stack):
            missing = [cell for cell in group if json.dumps(cell.key()) not in done]
            progress.advance(bar, sum(cell.stack == stack_of for cell in cells) - len(missing))
            if not missing:
                continue
            async with LocalStack(options_of(missing[0], models, out.parent / "exactness")) as stack:
                for cell in missing:
                    progress.update(bar, description=" ".join(f"{value}" for value in cell.key().values()))
                    outcome = await run_cell(stack, cell, CASES)
                    line = {"code": code, "cell": cell.key(), **asdict(outcome)}
                    done[json.dumps(cell.key())] = line
                    with out.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                    progress.advance(bar)
    return report([done[json.dumps(cell.key())] for cell in cells])


def report(lines: list[dict[str, object]]) -> int:
    """Print one line per cell. Returns the number of differing texts."""
    different = 0
    for line in lines:
        wrong: list[dict[str, object]] = line["different"]  # type: ignore[assignment]  # see Outcome
        different += len(wrong)
        verdict = (
            "identical" if not wrong else f"{len(wrong)} DIFFER: " + ", ".join(str(w["case"]) for w in wrong)
        )
        print(json.dumps(line["cell"]), f"{line['tokens']} tokens, {line['seconds']:.0f} s, {verdict}")
    total = sum(int(str(line["tokens"])) for line in lines)
    print(f"{len(lines)} cells, {total} tokens, {different} differing texts")
    return different


def code_hash() -> str:
    """Hash of all code that could change a text; cells of another hash are run again."""
    digest = hashlib.sha256()
    for folder in ("services", "shared", "loadgen", "tests/exactness"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".lua", ".json", ".jsonl"):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    main()
