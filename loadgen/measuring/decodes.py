"""Durations of a draft model's decodes, by the number of sessions that draft at once."""

import time
from collections.abc import Callable, Sequence
from statistics import median

from loadgen.measuring.arms import measure_arms
from loadgen.measuring.timing import Clock, time_s
from shared.compute.drafter import Drafter, DraftRequest
from shared.speculative.params import SamplingParams


def draft_all(drafter: Drafter, requests: Sequence[DraftRequest]) -> dict[str, tuple[int, ...]]:
    """Run requests to their end; drafted tokens by session."""
    drafts = {}
    for request in requests:
        drafter.start(request)
    while drafter.busy():
        for result in drafter.step():
            drafts[result.session] = result.tokens
    return drafts


class DecodeTimer:
    """Sessions with a context each, prefilled one by one. prefill_ms: median milliseconds per prompt token."""

    def __init__(
        self,
        drafter: Drafter,
        sessions: int,
        context: int,
        temperature: float = 0.0,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._drafter, self._clock = drafter, clock
        self._sampling = SamplingParams(seed=1, vocab=drafter.vocab, temperature=temperature)
        self._prompts = {
            f"s{n}": [(n * 31 + at) % drafter.vocab for at in range(context)] for n in range(sessions)
        }
        seconds = [self._draft_s([name], 1) for name in self._prompts]
        self.prefill_ms = 1e3 * median(seconds) / context

    def decode_ms(
        self, widths: Sequence[int], tokens: int, repeats: int, tick: Callable[[str], None]
    ) -> dict[int, float]:
        """Median milliseconds of one decode, by sessions in it. tokens: length of each draft. tick: after each."""

        def draft_ms(width: int) -> float:
            seconds = self._draft_s(list(self._prompts)[:width], tokens)
            tick(f"drafting, {width} at once")
            return 1e3 * seconds / tokens

        return {width: median(ms) for width, ms in measure_arms(widths, repeats, draft_ms).items()}

    def forget(self) -> None:
        """Free the sessions."""
        for name in self._prompts:
            self._drafter.forget(name)

    def _draft_s(self, names: Sequence[str], tokens: int) -> float:
        requests = [DraftRequest(name, self._prompts[name], tokens, self._sampling) for name in names]
        return time_s(lambda: draft_all(self._drafter, requests), self._clock)
