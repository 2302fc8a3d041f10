"""Compares our load generator with guidellm, on the same endpoint under the same closed loop.

    python -m venv /tmp/guidellm && /tmp/guidellm/bin/pip install guidellm
    .venv/bin/python scripts/beside_guidellm.py --guidellm /tmp/guidellm/bin/guidellm --url http://127.0.0.1:8000

Both send the same bundled prompts, greedy, with answers of one length, in alternation. The script compares medians over
requests, measured from the time of sending: TTFT, and TPOT as (last - first token) / (tokens - 1), which guidellm calls
the inter-token latency (its `TPOT` includes the first token). guidellm needs a folder with the model's tokenizer.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
PROMPTS: Final = ROOT / "loadgen/prompts/bundled.jsonl"
TOLERANCE: Final = 0.05

Medians = dict[str, float]


def main() -> int:
    """Command line; see the module's docstring. Returns 1 when a ratio differs from 1 by more than TOLERANCE."""
    parser = argparse.ArgumentParser(description="Compare loadgen with guidellm.")
    parser.add_argument("--guidellm", required=True, help="path of guidellm, in a separate environment")
    parser.add_argument("--url", required=True)
    parser.add_argument(
        "--tokenizer", type=Path, help="tokenizer's folder; default: that of the fetched smollm2"
    )
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--requests", type=int, default=80)
    parser.add_argument("--answer-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(".outrider/beside-guidellm.json"))
    args = parser.parse_args()
    runs: dict[str, list[Medians]] = {"loadgen": [], "guidellm": []}
    with TemporaryDirectory() as name:
        folder = Path(name)
        choose(args.requests, folder / "prompts.jsonl")
        for number in range(args.repeats):
            runs["loadgen"].append(ours(args, folder, number))
            runs["guidellm"].append(theirs(args, folder))
            for tool, results in runs.items():
                print(f"{number + 1}: {tool:9}", as_text(results[-1]), flush=True)
    pooled = {
        tool: {key: statistics.median(result[key] for result in results) for key in results[0]}
        for tool, results in runs.items()
    }
    ratios = {key: pooled["loadgen"][key] / pooled["guidellm"][key] for key in pooled["loadgen"]}
    print("ours over theirs:", ", ".join(f"{key} {value:.3f}" for key, value in ratios.items()))
    settings = {
        key: getattr(args, key) for key in ("concurrency", "requests", "answer_tokens", "repeats", "url")
    }
    result = {"settings": settings, "runs": runs, "medians": pooled, "ratios": ratios}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(any(abs(value - 1) > TOLERANCE for value in ratios.values()))


def choose(count: int, path: Path) -> None:
    """Write `count` bundled prompts, of all kinds, to a file that both tools read. Raises SystemExit."""
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()
    if not 0 < count <= len(lines):
        raise SystemExit(f"--requests is {count}; there are {len(lines)} prompts")
    chosen = [lines[number * len(lines) // count] for number in range(count)]
    path.write_text("\n".join(chosen) + "\n", encoding="utf-8")


def ours(args: argparse.Namespace, folder: Path, seed: int) -> Medians:
    """Medians of one run of loadgen, in ms. Raises SystemExit."""
    out = folder / "ours.json"
    run(
        [
            str(Path(sys.executable).with_name("loadgen")),
            "run",
            "--plain",
            "--quiet",
            f"--url={args.url}",
            f"--concurrency={args.concurrency}",
            f"--requests={args.requests}",
            f"--answer-tokens={args.answer_tokens}",
            "--ignore-eos",
            f"--prompts={folder / 'prompts.jsonl'}",
            f"--seed={seed + 1}",
            f"--out={out}",
        ]
    )
    summary = json.loads(out.read_text(encoding="utf-8"))["figures"]
    return {"ttft_ms": summary["median_ttft_ms"], "tpot_ms": summary["median_tpot_ms"]}


def theirs(args: argparse.Namespace, folder: Path) -> Medians:
    """Medians of one run of guidellm, in ms. Raises SystemExit.

    They are computed from its requests, because its own summary weights requests by tokens.
    """
    out = folder / "theirs.json"
    cache = Path(os.environ.get("OUTRIDER_CACHE", Path.home() / ".cache/outrider"))
    tokenizer = args.tokenizer or cache / "models/smollm2/target"
    backend = {
        "kind": "openai_http",
        "target": args.url,
        "max_tokens": args.answer_tokens,
        "extras": {"body": {"temperature": 0, "ignore_eos": True}},
    }
    run(
        [
            args.guidellm,
            "run",
            f"--backend={json.dumps(backend)}",
            f"--profile=kind=concurrent,streams={args.concurrency}",
            f"--constraint=kind=max_requests,count={args.requests}",
            f"--tokenizer=kind=hf_auto,model={tokenizer}",
            f"--data=kind=json_file,path={folder / 'prompts.jsonl'}",
            f"--output=kind=json,path={out}",
            "--disable-console",
        ]
    )
    (benchmark,) = json.loads(out.read_text(encoding="utf-8"))["benchmarks"]
    done: list[dict[str, Any]] = benchmark["requests"]["successful"]
    if len(done) < args.requests:
        raise SystemExit(f"guidellm finished {len(done)} of {args.requests} requests")
    return {
        "ttft_ms": statistics.median(one["time_to_first_token_ms"] for one in done),
        "tpot_ms": statistics.median(one["inter_token_latency_ms"] for one in done),
    }


def run(command: list[str]) -> None:
    """Run a command. Raises SystemExit with the end of its output when it fails."""
    done = subprocess.run(
        command,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} exited with {done.returncode}: {done.stdout[-2000:]}")


def as_text(medians: Medians) -> str:
    """The medians as one line."""
    return ", ".join(f"{key} {value:.2f}" for key, value in medians.items())


if __name__ == "__main__":
    sys.exit(main())
