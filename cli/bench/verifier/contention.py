"""A verifier pass beside busy processes, with threads fixed and with threads governed.

    python -m cli.bench.verifier.contention [--passes 60] [--out FILE]

SmolLM2, 8 rows × 4 tokens, context 256, both dtypes: quiet, then beside one and two processes that compute without
end, at nice 0 and 10. In every condition the two ways take turns. "fixed" computes on all threads whatever happens;
"governed" is what is served, and settles for 20 passes before passes count.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import torch

from loadgen.results.result_file import write_result
from services.verifier.loading import load_target
from services.verifier.thread_governor import ThreadGovernor
from services.verifier.torch_target import TorchTarget
from shared.compute.target import TargetRow
from shared.speculative.params import SamplingParams

ROWS: Final = 8
TOKENS: Final = 4
CONTEXT: Final = 256
SETTLE: Final = 20  # passes
BLOCK: Final = 20  # counted passes of one way before the other's turn
CONDITIONS: Final = ((0, 0), (1, 0), (1, 10), (2, 0), (2, 10))  # busy processes, their niceness
WAYS: Final = ("fixed", "governed")


class Pass:
    """The same pass again and again."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self.target: TorchTarget = load_target(str(folder), dtype=dtype, kv_tokens=4096, prefix_sharing=False)
        self._sessions = [f"s{row}" for row in range(ROWS)]
        sampling = SamplingParams(seed=1, vocab=self.target.vocab, temperature=1.0)
        ids = tuple(range(1000, 1000 + CONTEXT + TOKENS))
        for session in self._sessions:
            self._admit(session)
            prompt = TargetRow(session, 0, ids[:CONTEXT], CONTEXT, choose=False, sampling=sampling)
            self.target.forward([prompt])
        self._rows = [
            TargetRow(session, CONTEXT, ids[CONTEXT:], 1, choose=True, sampling=sampling)
            for session in self._sessions
        ]

    def _admit(self, session: str) -> None:
        if not self.target.admit(session, (), self._sessions, CONTEXT + TOKENS):
            raise RuntimeError(f"{session}: no pages for {CONTEXT + TOKENS} tokens")

    def run_ms(self) -> float:
        """One pass; its milliseconds."""
        begun = time.perf_counter()
        self.target.forward(self._rows)
        ended = time.perf_counter()
        for session in self._sessions:
            self.target.keep(session, CONTEXT)
            self._admit(session)
        return 1e3 * (ended - begun)


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


def measure(one: Pass, governor: ThreadGovernor, passes: int) -> dict[str, dict[str, Any]]:
    """Figures of both ways under every condition, by "busy@nice"."""
    figures: dict[str, dict[str, Any]] = {}
    for busy, niceness in CONDITIONS:
        ms: dict[str, list[float]] = {way: [] for way in WAYS}
        with busy_processes(busy, niceness):
            while len(ms[WAYS[-1]]) < passes:
                for way in WAYS:
                    one.target.governor = governor if way == "governed" else None
                    one.target.set_threads(governor.limit)
                    for _ in range(SETTLE if way == "governed" else 1):
                        one.run_ms()
                    ms[way] += [one.run_ms() for _ in range(BLOCK)]
        name = f"{busy}@{niceness}"
        figures[name] = {way: summarised(ms[way]) for way in WAYS}
        print(f"  {name:<6}" + "   ".join(f"{way} {_words(figures[name][way])}" for way in WAYS), flush=True)
    return figures


def summarised(ms: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, milliseconds."""
    return {"p50_ms": median(ms), "p95_ms": quantiles(ms, n=20)[-1], "passes": len(ms)}


def _words(figures: dict[str, float]) -> str:
    return f"p50 {figures['p50_ms']:6.1f} p95 {figures['p95_ms']:6.1f} ms"


def main(argv: list[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m cli.bench.verifier.contention", description=__doc__)
    parser.add_argument("--passes", type=int, default=60, help="counted passes of each way and condition")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="which, with commas")
    parser.add_argument("--out", type=Path, default=Path(".outrider/contention.json"), help="JSON file")
    args = parser.parse_args(argv)
    cache = Path(os.environ.get("OUTRIDER_CACHE", "~/.cache/outrider")).expanduser()
    folder = cache / "models" / "smollm2" / "target"
    if not (folder / "config.json").is_file():
        sys.exit(f"{folder} is not there: make models")
    results: dict[str, Any] = {}
    for dtype in args.dtypes.split(","):
        print(f"smollm2 {dtype}, {torch.get_num_threads()} threads", flush=True)
        one = Pass(folder, dtype)
        if one.target.governor is None:
            sys.exit("this system does not say who computes (Linux with scheduling statistics does)")
        results[dtype] = measure(one, one.target.governor, args.passes)
    config = {"rows": ROWS, "tokens": TOKENS, "context": CONTEXT, "threads": torch.get_num_threads()}
    write_result(args.out, "contention", config, {"dtypes": results})
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
