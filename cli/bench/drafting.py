"""What drafting costs here: `python -m cli.bench.drafting --model FILE [--threads N]`.

Milliseconds of a decode by width (sessions drafting at once), and what 8 sessions that ask together for a draft
of 4 then wait, on average and at most, if no more than that many draft at once. 100 tokens of context each.
"""

import argparse
import statistics

import numpy as np

from services.draft_worker.llama_drafter import Limits, LlamaDrafter
from shared.compute.drafter import DraftRequest
from shared.speculative.params import SamplingParams

SESSIONS, CONTEXT, K = 8, 100, 4
WIDTHS = (1, 2, 4, 8)


class Bench:
    """A drafter with 8 sessions that have caught up."""

    def __init__(self, model: str, threads: int) -> None:
        self.drafter = LlamaDrafter(model, Limits(SESSIONS, 4096), threads)
        self._random = np.random.default_rng(1)
        self._ids = [self._tokens(CONTEXT) for _ in range(SESSIONS)]

    def prefill_ms(self) -> float:
        """Milliseconds per prompt token, one session at a time."""
        spent_us = [self._draft([session], k=0) for session in range(SESSIONS)]
        return statistics.median(spent_us) / CONTEXT / 1e3

    def decode_ms(self, width: int, repeats: int) -> float:
        """Milliseconds of one decode in which `width` sessions draft: median of drafts of 4."""
        spent_us = []
        for _ in range(repeats):
            for session in range(width):
                self._ids[session] += self._tokens(1)
            spent_us.append(self._draft(list(range(width)), K))
        return statistics.median(spent_us) / K / 1e3

    def _draft(self, sessions: list[int], k: int) -> int:
        sampling = SamplingParams(seed=1, vocab=self.drafter.vocab, temperature=0.7)
        for session in sessions:
            self.drafter.start(DraftRequest(str(session), tuple(self._ids[session]), k, sampling))
        results = []
        while self.drafter.busy():
            results += self.drafter.step()
        return max(result.draft_us for result in results)

    def _tokens(self, n: int) -> list[int]:
        return [int(token) for token in self._random.integers(self.drafter.vocab, size=n)]


def waits_ms(decode_ms: float, width: int) -> tuple[float, float]:
    """(mean, longest) wait of 8 sessions for a draft of 4, `width` at a time, first come first served."""
    turns = [(session // width + 1) * K * decode_ms for session in range(SESSIONS)]
    return statistics.mean(turns), max(turns)


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m cli.bench.drafting", description=__doc__)
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    bench = Bench(args.model, args.threads)
    print(f"prefill {bench.prefill_ms():.2f} ms per token, {args.threads} threads")
    print("width  decode ms  ms per token  mean wait ms  longest wait ms")
    for width in WIDTHS:
        decode_ms = bench.decode_ms(width, args.repeats)
        mean, longest = waits_ms(decode_ms, width)
        print(f"{width:5}  {decode_ms:9.1f}  {decode_ms / width:12.1f}  {mean:12.0f}  {longest:15.0f}")
    bench.drafter.close()


if __name__ == "__main__":
    main()
