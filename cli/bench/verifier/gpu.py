"""The verifier on a GPU: checks its exactness and measures the cost of verification. `make gpu-bench`.

    python3 -m cli.bench.verifier.gpu [--minutes 8] [--out FILE]

Needs torch, transformers and numpy, but no network and no other package of Outrider's. Without a GPU it prints one
line and exits. Writes docs/results/gpu-bench-<gpu>.json and prints a table. It keeps to its time budget: cells for
which time or memory is missing are listed, with the bytes they need. --cpu-smoke runs every step on the CPU in
miniature, to test the program.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loadgen.measuring.result import write_measurement

MARGIN_S = 15.0  # of the budget, left for the table and the file


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure. Exit code 1 when the device's results are not exact."""
    begun = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="python3 -m cli.bench.verifier.gpu", description="Verifier on a GPU."
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="time budget, imports included")
    parser.add_argument("--out", type=Path, help="JSON file (default docs/results/gpu-bench-<gpu>.json)")
    parser.add_argument("--cpu-smoke", action="store_true", help="every step on the CPU, in miniature")
    args = parser.parse_args(argv)
    missing = [package for package in ("numpy", "torch", "transformers") if find_spec(package) is None]
    if missing:
        print(f"gpu-bench: {sys.executable} has no {' and no '.join(missing)}; nothing measured")
        return 0
    import torch  # its import counts towards the budget

    if not args.cpu_smoke and not torch.cuda.is_available():
        print("gpu-bench: no CUDA GPU here; nothing measured")
        return 0
    results = measure(args.cpu_smoke, lambda: 60 * args.minutes - MARGIN_S - (time.monotonic() - begun))
    results["seconds"] = round(time.monotonic() - begun, 1)
    out = args.out or Path("docs/results") / f"gpu-bench-{slug(results['device'])}.json"
    if args.out or not args.cpu_smoke:
        write_measurement(out, "gpu-bench", {"minutes": args.minutes, "cpu_smoke": args.cpu_smoke}, results)
    print(table(results))
    print(f"\n{results['seconds']:.0f} s" + (f", {out}" if out.exists() else ""))
    return 0 if results["exact"] else 1


def measure(smoke: bool, left_s: Callable[[], float]) -> dict[str, Any]:
    """All results, in the order of the table. left_s: seconds that remain of the budget."""
    import torch
    import transformers

    from cli.bench.verifier import (
        checks,
        cost,
    )

    device = "cpu" if smoke else "cuda"
    name = "cpu" if smoke else torch.cuda.get_device_name()
    memory = (8 << 30) if smoke else torch.cuda.mem_get_info()[0]
    say(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}")
    failures = checks.golden_failures(device)
    say(f"golden vectors: {failures or 'as they should be'}")
    differences = {}
    for family, config in checks.families().items():
        differences[family] = checks.worst_difference(config, device)
        say(f"packed against plain, {family}: largest difference of log p {differences[family]:.1e}")
    rates = cost.measure_rates(device, smoke)
    say(
        f"copy {rates.copy_bytes_s / 1e9:.0f} GB/s, matmul {rates.matmul_flop_s / 1e12:.1f} TFLOP/s (bfloat16)"
    )
    results: dict[str, Any] = {
        "device": name,
        "memory_bytes": memory,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "golden_failures": failures,
        "packed_against_plain": differences,
        "exact": not failures and max(differences.values()) < checks.TOLERANCE,
        "copy_bytes_s": rates.copy_bytes_s,
        "matmul_flop_s": rates.matmul_flop_s,
        "sampling": list(cost.measure_sampling(device, smoke)),
        "models": {},
    }
    cells = cost.SMOKE_CELLS if smoke else cost.CELLS
    for model, config in cost.models(smoke).items():
        measured = []
        for result in cost.cost_law(config, device, cells, rates, memory, left_s):
            measured.append(result)
            say(f"{model}: {line(result)}")
        results["models"][model] = {"cells": measured, "law": cost.fitted(measured)}
    return results


def table(results: dict[str, Any]) -> str:
    """The results as text."""
    lines = [
        "",
        f"{results['device']}: copy {results['copy_bytes_s'] / 1e9:.0f} GB/s, "
        f"matmul {results['matmul_flop_s'] / 1e12:.1f} TFLOP/s",
        "exact" if results["exact"] else "NOT EXACT: see golden_failures and packed_against_plain",
        "",
        "sampling, ms a call:",
        *(f"{s['rows']:>5} rows  {s['sampling']:<28}{s['ms']:>9.2f}" for s in results["sampling"]),
    ]
    for model, measured in results["models"].items():
        lines += ["", f"{model}: rows × new tokens @ context, milliseconds, × floor"]
        lines += [line(cell) for cell in measured["cells"]]
        if measured["law"]:
            law = measured["law"]
            lines.append(
                f"law: {law['fixed_ms']:.2f} ms + {law['per_token_ms']:.4f} · new tokens + "
                f"{1e3 * law['per_cached_token_ms']:.4f} · thousands of cached tokens "
                f"(off by {law['worst_relative_error']:.0%} at most)"
            )
    return "\n".join(lines)


def line(cell: dict[str, Any]) -> str:
    """One cell of the cost law."""
    what = f"{cell['rows']:>3} × {cell['tokens']} @ {cell['context']:<5}"
    if "skipped" in cell:
        return f"{what} skipped: {cell['skipped']}"
    bound = "memory" if cell["floor_memory_ms"] >= cell["floor_compute_ms"] else "compute"
    return (
        f"{what}{cell['ms']:>9.2f} ms   floor {cell['floor_ms']:>8.2f} ({bound})   {cell['over_floor']:.2f} ×"
        f"   {cell['repeats']} repeats {cell['ms_min']:.2f} .. {cell['ms_max']:.2f}"
    )


def slug(name: str) -> str:
    """A device's name as part of a file name: "NVIDIA H100 80GB HBM3" -> "nvidia-h100-80gb-hbm3"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def say(text: str) -> None:
    """Progress."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
