"""A verifier pass beside busy processes, with threads fixed and with threads governed.

    python -m cli.bench.verifier.contention [--passes 60] [--out FILE]

SmolLM2, 8 rows × 4 tokens, context 256, both dtypes: idle, then beside one and two processes that compute without end,
at nice 0 and 10. In every condition the two modes alternate. "fixed" computes on all threads whatever happens;
"governed" is what is served: 20 uncounted passes let the governor adapt.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from cli.command.bench_main import bench_main
from cli.command.errors import CommandError
from loadgen.measuring.arms import measure_arms
from loadgen.measuring.fixed_pass import FixedPass, cache_context
from loadgen.measuring.result import write_measurement
from loadgen.measuring.timing import times_s
from services.verifier.loading import load_target
from services.verifier.thread_governor import ThreadGovernor
from services.verifier.torch_target import TorchTarget
from shared.speculative.params import SamplingParams

ROWS: Final = 8
TOKENS: Final = 4
CONTEXT: Final = 256
ADAPT: Final = 20  # passes
BLOCK: Final = 20  # counted passes of one mode before the other's
CONDITIONS: Final = ((0, 0), (1, 0), (1, 10), (2, 0), (2, 10))  # busy processes, their niceness
MODES: Final = ("fixed", "governed")
COLUMNS: Final = {
    "dtype": "{dtype}",
    "busy@nice": "{condition}",
    **{f"{mode}, p50 / p95 ms": f"{{{mode}[p50_ms]:.1f}} / {{{mode}[p95_ms]:.1f}}" for mode in MODES},
}


def fixed_pass(target: TorchTarget) -> FixedPass:
    """The measured pass, its sessions' contexts cached."""
    sessions = [f"s{row}" for row in range(ROWS)]
    sampling = SamplingParams(seed=1, vocab=target.vocab, temperature=1.0)
    ids = range(1000, 1000 + CONTEXT + TOKENS)
    for session in sessions:
        cache_context(target, session, ids[:CONTEXT], sampling, room=TOKENS)
    return FixedPass(target, sessions, [ids[CONTEXT:]] * ROWS, CONTEXT, lambda _: sampling)


@contextmanager
def busy_processes(count: int, niceness: int) -> Iterator[None]:
    """Processes that compute while the block runs."""
    code = f"import os\nos.nice({niceness})\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]  # noqa: S603
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(
    target: TorchTarget, governor: ThreadGovernor, passes: int, tick: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Summaries of both modes under every condition, by "busy@nice"."""
    one = fixed_pass(target)

    def block(mode: str) -> list[float]:
        target.governor = governor if mode == "governed" else None
        target.set_threads(governor.limit)
        return times_s(one.run, BLOCK, warm_ups=ADAPT if mode == "governed" else 1, reset=one.reset)

    summaries = {}
    for busy, niceness in CONDITIONS:
        with busy_processes(busy, niceness):
            blocks = measure_arms(MODES, -(-passes // BLOCK), block)
        summary = {mode: summarised([1e3 * s for some in blocks[mode] for s in some]) for mode in MODES}
        summaries[f"{busy}@{niceness}"] = summary
        tick(
            f"{busy}@{niceness} p50 "
            + ", ".join(f"{mode} {summary[mode]['p50_ms']:.0f} ms" for mode in MODES)
        )
    return summaries


def summarised(ms: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, milliseconds."""
    p50, p95 = (float(at) for at in np.percentile(ms, [50, 95]))
    return {"p50_ms": p50, "p95_ms": p95, "passes": len(ms)}


def main(
    passes: int = 60, dtypes: str = "float32,bfloat16", out: Path = Path(".outrider/contention.json")
) -> None:
    """A verifier pass beside busy processes. passes: counted, of each mode and condition. dtypes: comma-separated."""
    from rich.console import Console

    from cli.models.resolve import resolve
    from loadgen.measuring.progress import Steps
    from loadgen.measuring.table import table

    folder, *_ = resolve("smollm2")
    results = {}
    console = Console()
    with Steps(console) as steps:
        for dtype in dtypes.split(","):
            step = steps.step(f"smollm2 {dtype}, {torch.get_num_threads()} threads", len(CONDITIONS))
            target = load_target(str(folder), dtype=dtype, kv_tokens=4096, prefix_sharing=False)
            if target.governor is None:
                raise CommandError("no scheduling statistics (Linux has them), so nothing is governed")
            results[dtype] = measure(target, target.governor, passes, step.advance)
    config = {"rows": ROWS, "tokens": TOKENS, "context": CONTEXT, "threads": torch.get_num_threads()}
    write_measurement(out, "contention", config, {"dtypes": results})
    rows = (
        {"dtype": dtype, "condition": condition, **summary}
        for dtype, summaries in results.items()
        for condition, summary in summaries.items()
    )
    console.print(table(rows, COLUMNS))
    print(f"written to {out}")


if __name__ == "__main__":
    bench_main(main)
