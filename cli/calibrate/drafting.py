"""What a decode of the draft model takes, by sessions in it."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

from shared.compute.drafter import Drafter, DraftRequest
from shared.speculative.params import SamplingParams

CONTEXT: Final = 128  # tokens that each session holds
SESSIONS: Final = (1, 2, 4)  # in one decode
TOKENS: Final = 12  # of a draft
REPEATS: Final = 5


def measure_decodes(
    drafter: Drafter, tick: Callable[[str], None], clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Median milliseconds of one decode, by sessions in it; repeats go round."""
    sampling = SamplingParams(seed=1, vocab=drafter.vocab)
    prompts = {
        f"s{n}": [(n * 31 + at) % drafter.vocab for at in range(CONTEXT)] for n in range(max(SESSIONS))
    }
    draft_all(drafter, [DraftRequest(name, ids, 1, sampling) for name, ids in prompts.items()])
    took: dict[int, list[float]] = {count: [] for count in SESSIONS}
    for _ in range(REPEATS):
        for count in SESSIONS:
            requests = [DraftRequest(n, ids, TOKENS, sampling) for n, ids in list(prompts.items())[:count]]
            begun = clock()
            draft_all(drafter, requests)
            took[count].append(1e3 * (clock() - begun) / TOKENS)
            tick(f"drafting, {count} at once")
    for name in prompts:
        drafter.forget(name)
    return {count: statistics.median(ms) for count, ms in took.items()}


def draft_all(drafter: Drafter, requests: Sequence[DraftRequest]) -> dict[str, tuple[int, ...]]:
    """Run requests to their end; drafted tokens by session."""
    drafts = {}
    for request in requests:
        drafter.start(request)
    while drafter.busy():
        for result in drafter.step():
            drafts[result.session] = result.tokens
    return drafts
